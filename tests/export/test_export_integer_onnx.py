"""The exported network under ONNX Runtime: every tensor equal to the integer reference, code for code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from bitloom.errors import OutputError
from bitloom.export.integer_onnx import integer_onnx, save_onnx
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.reference.fast import quantize_input, run_fast
from bitloom.reference.naive import run_naive
from random_networks import random_codes, random_grouped, random_network


def run(model: onnx.ModelProto, images: np.ndarray, names: list[str] | None = None) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(names, {"image": images})


def values(qgraph: QuantGraph, codes: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) whose codes are `codes`."""
    tensor = qgraph.tensors[qgraph.input]
    return ((codes.astype(np.float64) - tensor.zero_point) * tensor.scale).astype(np.float32)


@pytest.mark.parametrize("seed", range(16))
def test_every_tensor_equals_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    qgraph = random_network(rng, 8) if seed < 12 else random_grouped(rng, 6)
    codes = random_codes(rng, qgraph.tensors[qgraph.input].shape)
    expected = run_naive(qgraph, codes)
    model = integer_onnx(qgraph)
    names = [f"tensor.{name}" for name in expected]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in names)
    for name, got in zip(expected, run(model, values(qgraph, codes[None]), names), strict=True):
        np.testing.assert_array_equal(got[0], expected[name], err_msg=name)


def test_codes_and_logits_of_a_batch_of_images() -> None:
    """Pixels between two levels, on their middle, and outside of all."""
    rng = np.random.default_rng(50)
    qgraph = random_network(rng, 4)
    tensor, out = qgraph.tensors[qgraph.input], qgraph.tensors[qgraph.output]
    images = (rng.integers(-300, 300, (3, *tensor.shape)) * np.float32(tensor.scale / 2)).astype(np.float32)
    expected = run_fast(qgraph, quantize_input(qgraph, torch.from_numpy(images)))[qgraph.output].reshape(3, -1)
    codes, logits = run(integer_onnx(qgraph), images)
    assert codes.dtype == np.int8 and logits.dtype == np.float32
    np.testing.assert_array_equal(codes, expected)
    np.testing.assert_allclose(logits, (expected.astype(np.float64) - out.zero_point) * out.scale, rtol=1e-6)


def test_the_file_says_the_widths_and_what_codes_are_worth(tmp_path: Path) -> None:
    qgraph = random_network(np.random.default_rng(3), 4)
    save_onnx(qgraph, tmp_path / "network.onnx")
    props = {p.key: p.value for p in onnx.load(str(tmp_path / "network.onnx")).metadata_props}
    bits = {node.name: node.bits.tolist() for node in qgraph.nodes if isinstance(node, QConv)}
    assert json.loads(props["bits"]) == bits and bits
    assert float(props["scale"]) == qgraph.tensors[qgraph.output].scale
    assert int(props["zero_point"]) == qgraph.tensors[qgraph.output].zero_point


def test_an_unwritable_file_is_named(tmp_path: Path) -> None:
    qgraph = random_network(np.random.default_rng(3), 2)
    with pytest.raises(OutputError, match=r"none/network.onnx: cannot be written \(No such file"):
        save_onnx(qgraph, tmp_path / "none" / "network.onnx")
