"""Networks trained with fake quantization: Quant nodes against the qonnx package, QDQ pairs, what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.intquant import int_quant

from bitloom.errors import GraphError, UnsupportedLayerError
from bitloom.frontends.check import check
from bitloom.frontends.findings import Severity
from bitloom.frontends.onnx_import import from_onnx
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv, Graph, Linear, Relu
from frontends import onnx_models

DOMAIN = "qonnx.custom_op.general"
RANDOM = np.random.default_rng(11)
W = RANDOM.standard_normal((5, 4, 3, 3)).astype(np.float32)


def scalar(value: float) -> np.ndarray:
    return np.float32(value).reshape(())


def quant(inputs: str, output: str, kind: str = "Quant", domain: str = DOMAIN, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], name=output, domain=domain, **attributes)


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    return onnx_models.model(nodes, constants, (1, 4, 9, 8), domains=(DOMAIN, "onnx.brevitas"))


def weight_of(graph: Graph) -> np.ndarray:
    return next(node.op.weight for node in graph.nodes if isinstance(node.op, Conv | Linear))


SCALES = {
    "tensor": scalar(0.3),
    "one": np.full(1, 0.3, np.float32),
    "channel": np.linspace(0.1, 0.5, 5, dtype=np.float32).reshape(5, 1, 1, 1),
}
MODES = ("ROUND", "CEIL", "FLOOR", "UP", "DOWN", "HALF_UP", "HALF_DOWN")


@pytest.mark.parametrize(
    ("scale", "mode", "signed", "narrow"), list(itertools.product(SCALES, MODES, (0, 1), (0, 1))), ids=str
)
def test_weights_are_those_of_the_qonnx_package(scale: str, mode: str, signed: int, narrow: int) -> None:
    given = W.copy()
    given[0, 0, 0] = 0.15, 0.45, -0.75  # halves of the scale 0.3
    zero, bits = scalar(0.0 if signed else 3.0), scalar(3)
    node = quant("w s z b", "q", signed=signed, narrow=narrow, rounding_mode=mode)
    constants = {"w": given, "s": SCALES[scale], "z": zero, "b": bits}
    graph = from_onnx(model([node, helper.make_node("Conv", ["x", "q"], ["y"])], constants))
    args = (given.astype(np.float64), SCALES[scale].astype(np.float64), zero.astype(np.float64), np.float64(3))
    expected = int_quant(*args, bool(signed), bool(narrow), mode)
    assert np.allclose(weight_of(graph), expected, atol=1e-6)
    codes = np.unique(np.round(weight_of(graph) / SCALES[scale]))
    assert len(codes) == 8 - narrow - (mode == "UP" and bool(signed))  # away from zero: no signed code is 0


def test_binary_weights_of_both_kinds_are_signs() -> None:
    constants = {"w": W, "s": SCALES["channel"], "z": scalar(0), "b": scalar(1)}
    for node in (quant("w s", "q", "BipolarQuant"), quant("w s z b", "q", domain="onnx.brevitas")):
        graph = from_onnx(model([node, helper.make_node("Conv", ["x", "q"], ["y"])], constants))
        assert np.array_equal(weight_of(graph), binary_quant(W, SCALES["channel"]))


def test_every_channel_may_have_its_own_width() -> None:
    bits = np.array([1, 2, 3, 4, 8], np.float32).reshape(5, 1, 1, 1)
    constants = {"w": W, "s": scalar(0.5), "z": scalar(0), "b": bits}
    node = quant("w s z b", "q", "IntQuant", signed=1, narrow=1)
    got = weight_of(from_onnx(model([node, helper.make_node("Conv", ["x", "q"], ["y"])], constants)))
    assert [len(np.unique(channel)) for channel in got][:3] == [2, 3, 7]


ACTIVATION = {"w": W, "z": scalar(0), "s": scalar(0.1), "b4": scalar(4), "b8": scalar(8)}


def test_an_unsigned_quantizer_of_activations_is_a_relu_with_its_limit() -> None:
    """As Brevitas exports QuantReLU: after a Relu, or alone."""
    conv = helper.make_node("Conv", ["x", "w"], ["c"])
    relu = helper.make_node("Relu", ["c"], ["r"])
    for nodes in ([conv, relu, quant("r s z b4", "y", signed=0, narrow=0)], [conv, quant("c s z b4", "y", signed=0)]):
        graph = from_onnx(model(nodes, ACTIVATION))
        assert [type(n.op) for n in graph.nodes[1:]] == [Conv, Relu]
        assert graph.nodes[-1].op.limit == pytest.approx(1.5)
        images = torch.randn(2, 4, 9, 8) * 0.3
        alone = from_onnx(model([helper.make_node("Conv", ["x", "w"], ["y"])], ACTIVATION))
        plain = execute(alone, images)[alone.output].numpy()
        rounded = int_quant(plain.astype(np.float64), 0.1, 0.0, np.float64(4), False, False, "ROUND")
        got = execute(graph, images)[graph.output].numpy()
        assert np.abs(got - rounded).max() <= 0.05 + 1e-6
        assert got.max() == pytest.approx(1.5)


def test_limits_of_channels_of_their_own_are_dropped() -> None:
    constants = {**ACTIVATION, "s": np.linspace(0.1, 0.5, 5, dtype=np.float32).reshape(1, 5, 1, 1)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), quant("c s z b8", "y", signed=0)]
    assert from_onnx(model(nodes, constants)).nodes[-1].op == Relu(None)


def test_signed_quantizers_leave_nothing_and_one_remark_names_the_narrowest() -> None:
    nodes = [
        quant("x s z b8", "image", signed=1),
        quant("w s z b4", "q"),
        helper.make_node("Conv", ["image", "q"], ["c"]),
        quant("c s z b4", "act", signed=1),
        helper.make_node("GlobalAveragePool", ["act"], ["g"]),
        quant("g s z b8 b4", "t", "Trunc", rounding_mode="FLOOR"),
        helper.make_node("Flatten", ["t"], ["y"]),
    ]
    proto = model(nodes, ACTIVATION)
    assert [n.name for n in from_onnx(proto).nodes] == ["input", "c", "g", "y"]
    found = [f for f in check(proto) if f.severity is Severity.WARNING]
    assert len(found) == 1
    assert str(found[0]).startswith(
        "warning: 'act' (quantizer): 3 quantizers of activations, this one the narrowest with 4 bits: "
    )


def test_quantize_and_dequantize_pairs() -> None:
    """As ONNX Runtime's static quantization and Brevitas' QCDQ export write them."""
    weight = np.clip(np.round(W / 0.02), -127, 127).astype(np.int8)
    constants = {
        "w8": weight, "ws": np.full(5, 0.02, np.float32), "wz": np.zeros(5, np.int8),
        "s": scalar(0.05), "u": np.array(0, np.uint8), "i": np.array(3, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "i"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "s", "i"], ["b"]),
        helper.make_node("DequantizeLinear", ["w8", "ws", "wz"], ["w"], axis=0),
        helper.make_node("Conv", ["b", "w"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s", "u"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "s", "u"], ["y"]),
    ]
    proto = model(nodes, constants)
    graph = from_onnx(proto)
    assert [type(n.op) for n in graph.nodes[1:]] == [Conv, Relu]
    assert graph.nodes[-1].op.limit == pytest.approx(255 * 0.05)
    images = RANDOM.standard_normal((1, 4, 9, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": images})
    got = execute(graph, torch.from_numpy(images))[graph.output].numpy()
    assert np.abs(got - expected).max() < 0.25
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    ("node", "changed", "text"),
    [
        (quant("w s z b", "q", rounding_mode="NEAREST"), {}, r"'q' \(Quant\): rounding_mode 'NEAREST'; legal: ROUND,"),
        (quant("w s z b", "q", signed=2), {}, r"'q' \(Quant\): signed = 2; must be 0 or 1"),
        (quant("w s z b", "q"), {"s": scalar(0)}, r"'q' has the scale 0, must be positive"),
        (quant("w s z b", "q"), {"b": scalar(2.5)}, r"'q' quantizes to 2.5 bits, must be a whole number"),
        (quant("w s z b", "q"), {"s": np.ones(7, np.float32)}, r"'q' \(Quant\) cannot be computed: .*; export"),
        (quant("w s z b", "q"), {"s": np.ones((2, 1, 1, 1, 1), np.float32)}, "scale, zero point or bits make"),
        (quant("w s z", "q"), {}, r"'q' \(Quant with 3 inputs\) quantizes constants; only Quant of value, scale"),
        (quant("w s z b", "q", "FloatQuant"), {}, r"\(FloatQuant with 4 inputs\)"),
    ],
)  # fmt: skip
def test_quantizers_of_weights_that_make_no_sense_are_named(
    node: onnx.NodeProto, changed: dict[str, np.ndarray], text: str
) -> None:
    constants = {"w": W, "s": scalar(0.3), "z": scalar(0), "b": scalar(3), **changed}
    with pytest.raises(GraphError, match=text):
        from_onnx(model([node, helper.make_node("Conv", ["x", "q"], ["y"])], constants))


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (
            quant("c s", "y", "BipolarQuant"),
            r"'y' \(BipolarQuant\): rounds activations to -1 and 1, their sign; quantize",
        ),
        (quant("c s z b1", "y"), "rounds activations to -1 and 1"),
        (quant("c c z b4", "y"), "has scale, zero point or bits that are not constant"),
        (quant("c s", "y", "MultiThreshold"), r"'y' \(MultiThreshold\): is of the domain 'qonnx.custom_op.general'"),
    ],
)
def test_quantizers_of_activations_that_cannot_be_read_are_named(node: onnx.NodeProto, text: str) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), node]
    with pytest.raises(UnsupportedLayerError, match=text):
        from_onnx(model(nodes, {**ACTIVATION, "b1": scalar(1)}))
