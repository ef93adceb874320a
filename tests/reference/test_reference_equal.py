"""The fast interpreter equals the naive one on everything; the naive one equals numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.errors import DataError
from bitloom.graph.qgraph import QConcat, QConv, QPool, QTensor, QuantGraph
from bitloom.numerics.requantize import Requant
from bitloom.reference.fast import exact_convolution, quantize_input, run_fast
from bitloom.reference.naive import run_naive


def _requant(rng: np.random.Generator, channels: int, post: int = 0, res_mult: int = 0) -> Requant:
    mult = rng.integers(1 - (1 << 17), 1 << 17, channels).astype(np.int32)
    s_sel = rng.integers(1, 4, channels).astype(np.int8)
    lo, hi = int(rng.integers(-127, 0)), int(rng.integers(1, 128))
    return Requant(mult, s_sel, rng.integers(0, 2, channels).astype(np.int8), post, lo, hi, res_mult)


def _random_graph(seed: int, kernel: int, stride: int, height: int, width: int, cin: int, cout: int) -> QuantGraph:
    """x -> conv -> (conv + residual) -> pools -> concat, with everything drawn from the seed."""
    rng = np.random.default_rng(seed)
    pads = tuple(int(p) for p in rng.integers(0, kernel, 4))
    oh, ow = (height + pads[0] + pads[1] - kernel) // stride + 1, (width + pads[2] + pads[3] - kernel) // stride + 1
    tensors = {"x": QTensor("x", (cin, height, width), 0.1, int(rng.integers(-127, 128)))}

    def tensor(name: str, shape: tuple[int, int, int]) -> str:
        tensors[name] = QTensor(name, shape, 0.1, int(rng.integers(-127, 128)))
        return name

    def conv(name: str, source: str, out: int, k: int, s: int, padding: tuple[int, ...], res: str | None) -> QConv:
        ins = tensors[source].shape[0]
        groups = int(rng.choice([g for g in range(1, out + 1) if out % g == 0 and ins % g == 0]))
        bits = rng.choice([0, 2, 3, 4, 5, 6, 7, 8], out).astype(np.int8)
        top = np.where(bits == 0, 0, (1 << np.maximum(bits.astype(int) - 1, 0)) - 1)
        weight = rng.integers(-127, 128, (out, ins // groups, k, k))
        weight = np.clip(weight, -top[:, None, None, None], top[:, None, None, None]).astype(np.int8)
        bias = rng.integers(-(1 << 20), 1 << 20, out).astype(np.int32)
        requant = _requant(
            rng, out, int(rng.integers(-(1 << 19), 1 << 19)), int(rng.integers(1, 1 << 16)) if res else 0
        )
        shape = ((s, s), (padding[0], padding[1], padding[2], padding[3]))
        return QConv(name, source, name, weight, bits, bias, np.ones(out), *shape, requant, res, groups)

    first = conv("c1", "x", cout, kernel, stride, pads, None)
    tensor("c1", (cout, oh, ow))
    second = conv("c2", "c1", cout, 1, 1, (0, 0, 0, 0), "c1")
    tensor("c2", (cout, oh, ow))
    pk = int(rng.integers(1, min(oh, ow, 4) + 1))
    over = (int(rng.integers(0, pk)), int(rng.integers(0, pk)))
    ph, pw = (oh + over[0] - pk) // 2 + 1, (ow + over[1] - pk) // 2 + 1
    window = ((pk, pk), (2, 2), (0, over[0], 0, over[1]))
    low = QPool("mx", "c2", "mx", True, *window, int(rng.integers(-99, 99)), _requant(rng, 1))
    add = QPool("ad", "c2", "ad", False, *window, int(rng.integers(-9999, 9999)), _requant(rng, 1, 77, 300), "mx")
    tensor("mx", (cout, ph, pw)), tensor("ad", (cout, ph, pw)), tensor("cat", (2 * cout, ph, pw))
    nodes = (first, second, low, add, QConcat("cat", ("mx", "ad"), "cat"))
    return QuantGraph("random", tensors, nodes, "x", "cat")


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 1 << 30),
    kernel=st.integers(1, 7),
    stride=st.integers(1, 2),
    height=st.integers(7, 15),
    width=st.integers(7, 15),
    cin=st.integers(1, 19),
    cout=st.integers(1, 9),
)
def test_fast_equals_naive(seed: int, kernel: int, stride: int, height: int, width: int, cin: int, cout: int) -> None:
    graph = _random_graph(seed, kernel, stride, height, width, cin, cout)
    codes = np.random.default_rng(seed + 1).integers(-127, 128, (2, cin, height, width)).astype(np.int8)
    fast = run_fast(graph, codes, graph.tensors.keys())
    for i in range(2):
        naive = run_naive(graph, codes[i])
        assert naive.keys() == fast.keys() == graph.tensors.keys()
        for name, expected in naive.items():
            assert expected.shape == graph.tensors[name].shape
            assert np.array_equal(expected, fast[name][i]), name


def test_largest_sums_are_exact() -> None:
    """4608 products of 127·127: sums of 74 million, far beyond one float32 run."""
    weight = np.full((2, 512, 3, 3), 127, np.int8)
    weight[1, ::2] = -127
    weight[1, 0, 0, 0] = -126
    x = np.full((1, 512, 3, 3), 127, np.int8)
    acc = exact_convolution(weight, (1, 1), (0, 0, 0, 0), 0)(x)
    assert acc.flatten().tolist() == [4608 * 127 * 127, 127]


def test_a_kernel_beyond_one_exact_run() -> None:
    weight = np.full((1, 1, 40, 40), 127, np.int8)
    x = np.full((1, 1, 40, 40), -127, np.int8)
    assert exact_convolution(weight, (1, 1), (0, 0, 0, 0), 0)(x).item() == -1600 * 127 * 127


def _tiny() -> QuantGraph:
    requant = Requant(np.array([1 << 16], np.int32), np.zeros(1, np.int8), np.zeros(1, np.int8), 0, -127, 127)
    conv = QConv(
        "c", "x", "y", np.array([[[[1, 2]]]], np.int8), np.array([3], np.int8), np.array([10], np.int32),
        np.ones(1), (1, 1), (0, 0, 1, 0), requant,
    )  # fmt: skip
    tensors = {"x": QTensor("x", (1, 1, 3), 0.5, -4), "y": QTensor("y", (1, 1, 3), 1.0, 0)}
    return QuantGraph("tiny", tensors, (conv,), "x", "y")


def test_by_hand_padding_reads_the_zero_point() -> None:
    """Outputs 10 + a[x-1] + 2·a[x] with a[-1] = -4."""
    y = run_naive(_tiny(), np.array([[[1, 2, 3]]], np.int8))["y"]
    assert y.tolist() == [[[8, 15, 18]]]


def test_input_codes() -> None:
    images = torch.tensor([[[[0.0, 0.25, 1000.0]]]])
    assert quantize_input(_tiny(), images).tolist() == [[[[-4, -3, 127]]]]


def test_bad_codes() -> None:
    wrong = np.zeros((1, 1, 2), np.int8)
    with pytest.raises(DataError, match=r"input codes: int8 \(1, 1, 2\), must be int8 \(1, 1, 3\) in"):
        run_naive(_tiny(), wrong)
    with pytest.raises(DataError, match=r"input codes: int8 \(1, 1, 1, 2\), must be int8"):
        run_fast(_tiny(), wrong[None])
    low = np.full((1, 1, 3), -128, np.int8)
    with pytest.raises(DataError, match=r"in \[-127, 127\]"):
        run_naive(_tiny(), low)
    with pytest.raises(DataError, match=r"in \[-127, 127\]"):
        run_fast(_tiny(), low[None])


def test_bad_images_and_names() -> None:
    with pytest.raises(DataError, match=r"images have shape \(1, 1, 2, 3\), but 'tiny' needs"):
        quantize_input(_tiny(), torch.zeros(1, 1, 2, 3))
    with pytest.raises(DataError, match="NaN or infinite"):
        quantize_input(_tiny(), torch.full((1, 1, 1, 3), float("nan")))
    with pytest.raises(KeyError, match="no tensor 'z'"):
        run_fast(_tiny(), np.zeros((1, 1, 1, 3), np.int8), ["z"])
