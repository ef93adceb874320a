"""ONNX models of channels-last frameworks: turns of axes leave nothing behind, and values are ONNX Runtime's."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from onnx import helper, numpy_helper
from torch import nn

from bitloom.errors import GraphError, UnsupportedLayerError
from bitloom.frontends.onnx_import import from_onnx
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv, Flatten, GlobalAvgPool, Graph, Linear, Relu
from frontends import onnx_models
from frontends.test_frontends_property import SHAPE, networks

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
RANDOM = np.random.default_rng(5)


def array(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(" "), [output], name=output, **attributes)


def model(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A model of an image (n, 9, 8, 4), channels last."""
    return onnx_models.model(nodes, constants, ("n", 9, 8, 4))


def same(proto: onnx.ModelProto) -> Graph:
    """The imported graph, after asserting that it equals ONNX Runtime on the same images, channels last there."""
    graph = from_onnx(proto)
    images = array(2, *graph.input.op.shape)
    plain = onnxruntime.SessionOptions()  # its optimizer moves turns itself, and fails on a Pad of named axes
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), plain, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": np.ascontiguousarray(images.transpose(TO_NHWC))})
    got = execute(graph, torch.from_numpy(images))[graph.output].numpy()
    assert np.allclose(got.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4 * max(1.0, np.abs(expected).max()))
    return graph


HEAD = {"w": array(5, 4, 3, 3), "d": array(5, 3), "s": np.array([-1, 5], np.int64), "e": array(210, 3)}
CONV = [node("Transpose", "x", "t", perm=TO_NCHW), node("Conv", "t w", "c"), node("Transpose", "c", "u", perm=TO_NHWC)]
BACK = [node("Transpose", "v", "z", perm=TO_NCHW), node("GlobalAveragePool", "z", "g"), node("Flatten", "g")]
AXES = {"a": np.array([1, 2], np.int64)}

CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "bias_and_relu": ([*CONV, node("Add", "u b", "r"), node("Relu", "r", "v"), *BACK], {"b": array(5)}),
    "norm_as_constants": (
        [*CONV, node("Mul", "u f", "m"), node("Sub", "m b", "n"), node("Clip", "n lo hi", "v"), *BACK],
        {"f": array(1, 1, 1, 5), "b": array(5), "lo": np.zeros(1, np.float32), "hi": np.full(1, 0.8, np.float32)},
    ),
    "residual": ([*CONV, node("Relu", "u", "r"), node("Add", "u r", "v"), *BACK], {}),
    "mean": ([*CONV, node("ReduceMean", "u a", "m", keepdims=0), node("MatMul", "m d")], AXES),
    "mean_kept": (
        [*CONV, node("ReduceMean", "u a", "m"), node("Reshape", "m s", "f"), node("MatMul", "f d")], AXES
    ),
    "mean_squeezed": (
        [*CONV, node("ReduceMean", "u a", "m"), node("Squeeze", "m a", "f"), node("MatMul", "f d")], AXES
    ),
    "flatten": ([*CONV, node("Flatten", "u", "f"), node("MatMul", "f e")], {}),
    "flatten_relu_gemm": (
        [*CONV, node("Reshape", "u s", "f"), node("Add", "f b", "h"), node("Relu", "h", "r"),
         node("Gemm", "r e", transB=1)],
        {"e": array(3, 210), "s": np.array([0, -1], np.int64), "b": np.full(210, 0.3, np.float32)},
    ),
    "concatenated": (
        [*CONV, node("Relu", "u", "r"), node("Concat", "u r", "v", axis=3), *BACK], {}
    ),
    "padded": ([*CONV, node("Pad", "u p", "v"), *BACK], {"p": np.array([0, 1, 0, 0, 0, 2, 1, 0], np.int64)}),
    "padded_axes": (
        [*CONV, node("Pad", "u p  a", "v"), *BACK], {"p": np.array([1, 0, 2, 0], np.int64), "a": np.array([1, -2])}
    ),
    "padded_image": (
        [node("Pad", "x p", "q"), node("Transpose", "q", "t", perm=TO_NCHW), node("Conv", "t w", "g", strides=[2, 2]),
         node("Flatten", "g")],
        {"p": np.array([0, 0, 0, 0, 0, 1, 1, 0], np.int64)},
    ),
    "strided_slice": (
        [*CONV, node("Slice", "u z0 z1 za zs", "v"), *BACK],
        {"z0": np.zeros(2, np.int64), "z1": np.full(2, 99), "za": np.array([1, 2]), "zs": np.array([2, 2])},
    ),
    "turned_twice": ([*CONV, node("Transpose", "u", "v", perm=[0, 1, 2, 3]), *BACK], {}),
    "shape_of_a_turned_map": (
        [*CONV, node("Shape", "u", "h", start=0, end=1), node("Concat", "h m", "k", axis=0),
         node("Reshape", "u k", "f"), node("MatMul", "f e")],
        {"m": np.array([-1], np.int64)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_graph_equals_onnx_runtime(name: str) -> None:
    nodes, constants = CASES[name]
    used = {x for n in nodes for x in n.input}
    same(model(nodes, {key: value for key, value in {**HEAD, **constants}.items() if key in used}))


def test_turns_and_biases_leave_no_node() -> None:
    nodes = [*CONV, node("Add", "u b", "r"), node("Relu", "r", "v"), *BACK]
    graph = same(model(nodes, {"w": HEAD["w"], "b": array(5)}))
    assert [type(n.op) for n in graph.nodes[1:]] == [Conv, Relu, GlobalAvgPool, Flatten]
    nodes = [*CONV, node("Flatten", "u", "f"), node("MatMul", "f e")]
    graph = same(model(nodes, {"w": HEAD["w"], "e": HEAD["e"]}))
    assert [type(n.op) for n in graph.nodes[1:]] == [Conv, Flatten, Linear]


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (
            [*CONV, node("MaxPool", "u", "v", kernel_shape=[2, 2]), *BACK],
            r"'v' \(MaxPool\): reads a map as .N, H, W, C",
        ),
        ([*CONV, node("Add", "u t", "v"), *BACK], r"'v' \(Add\): reads a map as .N, H, W, C"),
        (
            [*CONV, node("Sigmoid", "u", "v"), *BACK],
            r"^[^\n]*1 layer [^\n]*\n  'v' \(Sigmoid\): is an activation other",
        ),
        ([*CONV, node("Transpose", "u", "v", perm=[3, 1, 2, 0]), *BACK], r"'v' \(Transpose\): reorders axes; keep"),
        (
            [*CONV, node("Reshape", "u s", "v"), *BACK],
            r"'v' \(Reshape\): reshapes \(7, 6, 5\) to \(6, 7, 5\); only flat",
        ),
        ([*CONV, node("Flatten", "u", "f"), node("Reshape", "f s", "v"), *BACK], r"reads a map flattened in the order"),
        ([*CONV, node("ReduceMean", "u s", "v", keepdims=0), node("MatMul", "v d")], r"takes the mean over axes"),
    ],
)
def test_what_cannot_be_read_is_named(nodes: list[onnx.NodeProto], text: str) -> None:
    constants = {"w": HEAD["w"], "s": np.array([0, 6, 7, 5], np.int64), "d": array(6, 3)}
    if any(n.op_type == "ReduceMean" for n in nodes):
        constants["s"] = np.array([1, 3], np.int64)
    with pytest.raises(UnsupportedLayerError, match=text):
        from_onnx(model(nodes, constants))


def test_classes_in_another_order_are_refused() -> None:
    with pytest.raises(
        GraphError, match=r"output 'y' has its axes in another order than .N, C, H, W.; end with one tensor"
    ):
        from_onnx(model([*CONV, node("Relu", "u")], {"w": HEAD["w"]}))


def channels_last(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The network with every map as (N, H, W, C): windows between two turns, everything else on turned maps."""
    made: list[onnx.NodeProto] = []

    def insert(kind: str, inputs: list[str], **attributes: Any) -> str:
        made.append(helper.make_node(kind, inputs, [f"inserted/{len(made)}"], **attributes))
        return str(made[-1].output[0])

    tables = {"pads in another order": [0, 2, 3, 1, 4, 6, 7, 5], "axes in another order": [0, 3, 1, 2]}
    maps = {proto.graph.input[0].name}
    for plain in proto.graph.node:
        one = onnx.NodeProto()
        one.CopyFrom(plain)
        made.append(one)
        if one.op_type in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool"):
            made.pop()
            one.input[0] = insert("Transpose", [one.input[0]], perm=TO_NCHW)
            result, one.output[0] = one.output[0], f"{one.output[0]}/nchw"
            made += [one, helper.make_node("Transpose", [one.output[0]], [result], perm=TO_NHWC)]
            maps.add(result)
        elif one.input and one.input[0] in maps and one.op_type not in ("Flatten", "Reshape"):
            made.pop()
            maps.add(one.output[0])
            if one.op_type == "Concat":
                one.attribute[0].i = 3
            elif one.op_type == "Pad":
                one.input[1] = insert("Gather", [one.input[1], "pads in another order"])
            elif one.op_type == "Slice":
                one.input[3] = insert("Gather", ["axes in another order", one.input[3]])
            made.append(one)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:], copy.graph.value_info[:]
    copy.graph.node.extend(made)
    copy.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in tables.items())
    dims = copy.graph.input[0].type.tensor_type.shape.dim
    sizes = [dims[i].dim_value for i in (2, 3, 1)]
    for dim, size in zip(list(dims)[1:], sizes, strict=True):
        dim.dim_value = size
    return copy


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(networks())
def test_random_networks_channels_last(net: nn.Module) -> None:
    buffer = io.BytesIO()
    torch.onnx.export(
        net, (torch.zeros(1, *SHAPE),), buffer, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )
    proto = channels_last(onnx.load_from_string(buffer.getvalue()))
    assert any(n.op_type == "Transpose" for n in proto.graph.node)
    assert same(proto).input.op.shape == SHAPE
