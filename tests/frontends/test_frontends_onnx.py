"""ONNX models: operators against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bitloom import zoo
from bitloom.frontends.check import check
from bitloom.frontends.findings import Severity
from bitloom.frontends.onnx_import import from_onnx
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv, Graph, Linear, MaxPool, Relu
from frontends.onnx_models import array, model, node


def same(proto: onnx.ModelProto) -> Graph:
    """The imported graph, after asserting that it equals ONNX Runtime."""
    graph = from_onnx(proto)
    images = array(2, *graph.input.op.shape)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": images})
    got = execute(graph, torch.from_numpy(images))[graph.output].numpy()
    assert got.shape == expected.shape
    assert np.allclose(got, expected, rtol=1e-4, atol=1e-5)
    return graph


W, B, I0 = array(5, 4, 3, 3), array(5), np.zeros(1, np.int64)
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "conv_pads": ([node("Conv", "x w b", pads=[0, 1, 2, 0], strides=[2, 1])], {"w": W, "b": B}),
    "conv_same_upper": ([node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])], {"w": array(5, 4, 4, 3)}),
    "conv_same_lower": ([node("Conv", "x w", auto_pad="SAME_LOWER")], {"w": array(5, 4, 2, 4)}),
    "conv_valid": ([node("Conv", "x w", auto_pad="VALID", kernel_shape=[3, 3])], {"w": W}),
    "batch_norm": (
        [node("Conv", "x w", "c"), node("BatchNormalization", "c g b m v", epsilon=1e-3)],
        {"w": W, "g": array(5), "b": array(5), "m": array(5), "v": np.abs(array(5)) + 0.1},
    ),
    "relu": ([node("Relu", "x")], {}),
    "clip": ([node("Clip", "x lo hi")], {"lo": np.float32(0).reshape(()), "hi": np.float32(6).reshape(())}),
    "clip_open": ([helper.make_node("Clip", ["x", "lo"], ["y"])], {"lo": np.zeros((), np.float32)}),
    "max_with_zero": ([node("Max", "zero x")], {"zero": np.zeros((), np.float32)}),  # clamp of the newer exporter
    "clip_after_relu": (
        [node("Relu", "x", "r"), helper.make_node("Clip", ["r", "", "hi"], ["y"])], {"hi": np.array([6], np.float32)}
    ),
    "min_of_relu": ([node("Relu", "x", "r"), node("Min", "six r")], {"six": np.float32(0.6).reshape(())}),
    "clip_of_clip": (
        [node("Clip", "x lo hi", "c"), helper.make_node("Clip", ["c", "lower", "higher"], ["y"])],
        {"lo": np.zeros((), np.float32), "hi": np.ones((), np.float32),
         "lower": np.full((), -2, np.float32), "higher": np.full((), 4, np.float32)},
    ),
    "scale_and_shift": (
        [node("Conv", "x w", "c"), node("Mul", "c s", "m"), node("Sub", "m b", "d"), node("Div", "d t", "e"),
         node("Neg", "e", "f"), helper.make_node("Sub", ["b", "f"], ["y"])],
        {"w": W, "s": array(1, 5, 1, 1), "b": array(5, 1, 1), "t": np.array([[[[3.0]]]], np.float32)},
    ),
    "scaled_image": ([node("Mul", "x s", "m"), node("Conv", "m w")], {"w": W, "s": array(4, 1, 1)}),
    "norm_before_convolution": (
        [node("Relu", "x", "r"), node("BatchNormalization", "r g b m v", "n"), node("Conv", "n w", pads=[1] * 4)],
        {"w": W, "g": array(4), "b": array(4), "m": array(4), "v": np.abs(array(4)) + 0.1},
    ),
    "norm_of_a_vector": (
        [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("Mul", "f s")], {"s": array(4)}
    ),
    "dilation_of_one_tap": ([node("Conv", "x w", dilations=[2, 2])], {"w": array(5, 4, 1, 1)}),
    "global_max_pool": ([node("GlobalMaxPool", "x", "g"), node("Flatten", "g")], {}),
    "part_of_a_shape": (
        [node("Shape", "x", "s", start=0, end=1), node("Concat", "s minus", "t", axis=0), node("Reshape", "x t")],
        {"minus": np.array([-1], np.int64)},
    ),
    "add": ([node("Relu", "x", "r"), node("Add", "x r")], {}),
    "sum": ([node("Relu", "x", "r"), node("Sum", "x r")], {}),
    "add_bias": ([node("Conv", "x w", "c"), node("Add", "c b")], {"w": W, "b": array(5, 1, 1)}),
    "max_pool": ([node("MaxPool", "x", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])], {}),
    "max_pool_ceil": ([node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], {}),
    "max_pool_same": ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")], {}),
    "avg_pool": ([node("AveragePool", "x", kernel_shape=[3, 3], strides=[2, 2])], {}),
    "avg_pool_padded": ([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)], {}),
    "global_pool": ([node("GlobalAveragePool", "x", "g"), node("Flatten", "g")], {}),
    "reduce_mean": ([node("ReduceMean", "x a", keepdims=0)], {"a": np.array([2, 3], np.int64)}),
    "gemm": ([node("Flatten", "x", "f"), node("Gemm", "f w b", transB=1, alpha=0.5, beta=2.0)],
             {"w": array(6, 288), "b": array(6)}),
    "gemm_plain": ([node("Flatten", "x", "f"), node("Gemm", "f w")], {"w": array(288, 6)}),
    "matmul_add": ([node("Flatten", "x", "f"), node("MatMul", "f w", "m"), node("Add", "b m")],
                   {"w": array(288, 6), "b": array(6)}),
    "reshape": ([node("Reshape", "x s")], {"s": np.array([0, -1], np.int64)}),
    "reshape_batch_free": ([node("Reshape", "x s")], {"s": np.array([-1, 288], np.int64)}),
    "squeeze": ([node("GlobalAveragePool", "x", "g"), node("Squeeze", "g a")], {"a": np.array([2, 3], np.int64)}),
    "unsqueeze": (
        [node("GlobalAveragePool", "x", "g"), node("Flatten", "g", "f"), node("Unsqueeze", "f a")],
        {"a": np.array([2, 3], np.int64)},
    ),
    "concat": ([node("Relu", "x", "r"), node("Concat", "x r x", axis=1)], {}),
    "pad_conv": (
        [node("Pad", "x p", "q"), node("Conv", "q w", strides=[2, 2])],
        {"p": np.array([0, 0, 1, 0, 0, 0, 2, 1], np.int64), "w": W},
    ),
    "option_a": (
        [node("Slice", "x s e a t", "q"), node("Pad", "q p")],
        {
            "s": np.array([0, 0], np.int64),
            "e": np.array([2**31, 2**31], np.int64),
            "a": np.array([2, 3], np.int64),
            "t": np.array([2, 2], np.int64),
            "p": np.array([0, 2, 0, 0, 0, 2, 0, 0], np.int64),
        },
    ),
    "shape_arithmetic": (
        [
            node("Shape", "x", "s"),
            node("Gather", "s i", "n"),
            node("Concat", "n minus", "t", axis=0),
            node("Reshape", "x t"),
        ],
        {"i": np.array([0], np.int64), "minus": np.array([-1], np.int64)},
    ),
    "constants_are_computed": (
        [node("Transpose", "w0", "w", perm=[1, 0, 2, 3]), node("Identity", "x", "i"), node("Conv", "i w")],
        {"w0": array(4, 5, 3, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_graph_equals_onnx_runtime(name: str) -> None:
    same(model(*CASES[name]))


def test_a_scaled_output_that_is_read_twice_is_not_scaled_for_the_other_reader() -> None:
    """Also where the scaled one is seen through a reshape that means nothing."""
    nodes = [node("Conv", "x w", "c"), node("Mul", "c s", "m"), node("Add", "c m")]
    same(model(nodes, {"w": W, "s": array(5, 1, 1)}))
    nodes = [node("Conv", "x w", "c"), node("Reshape", "c t", "d"), node("Mul", "d s", "m"), node("Add", "c m")]
    same(model(nodes, {"w": W, "s": array(5, 1, 1), "t": np.array([0, 5, 7, 6], np.int64)}))


@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_a_last_softmax_is_left_out_and_said(kind: str) -> None:
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f w", "g"), node(kind, "g", axis=-1)]
    proto = model(nodes, {"w": array(288, 3)})
    graph = from_onnx(proto)
    images = array(2, 4, 9, 8)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": images})
    function = torch.softmax if kind == "Softmax" else torch.log_softmax
    got = function(execute(graph, torch.from_numpy(images))[graph.output], 1).numpy()
    assert np.allclose(got, expected, atol=1e-5)
    warning = check(proto)[0]
    assert (warning.severity, warning.kind) == (Severity.WARNING, kind)
    assert "the logits before it are the output; the class of an image does not change" in str(warning)


def test_a_scale_without_convolution_is_warned_of() -> None:
    nodes = [node("Sub", "x m", "s"), node("Conv", "s w", "c"), node("Relu", "c", "r"), node("Mul", "r f")]
    found = check(model(nodes, {"w": W, "m": array(4, 1, 1), "f": array(5, 1, 1)}))
    assert [f.severity for f in found] == [Severity.WARNING, Severity.WARNING, Severity.INFO]
    assert "'block.Sub' (scale and shift): follows Input 'input', so that it runs as a layer of 4x4" in str(found[0])
    assert "left out of the model where --mean and --std say how images are normalised" in str(found[0])
    assert "'block.Mul' (scale and shift): follows Relu 'block.Relu', so that it runs as a layer of 5" in str(found[1])


def test_functions_of_the_file_are_read(tmp_path: Path) -> None:
    proto = model([helper.make_node("Block", ["x"], ["y"], domain="own")])
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2])]
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.functions.append(helper.make_function("own", "Block", ["a"], ["c"], body, [helper.make_opsetid("", 18)]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ("n", 4, 8, 7)))
    onnx.save(proto, tmp_path / "functions.onnx")
    for source in (proto, tmp_path / "functions.onnx"):
        assert [type(n.op) for n in from_onnx(source).nodes[1:]] == [Relu, MaxPool]


def test_constant_nodes_dropout_and_cast_leave_no_node() -> None:
    weight = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(W))
    chain = [
        weight,
        node("Conv", "x w", "c"),
        node("Dropout", "c", "d"),
        node("Cast", "d", "e", to=1),
        node("Relu", "e"),
    ]
    assert [type(n.op) for n in same(model(chain)).nodes[1:]] == [Conv, Relu]


def test_names_come_from_weights_or_nodes() -> None:
    nodes = [node("Conv", "x layer1.conv.weight", "c"), node("Relu", "c")]
    graph = same(model(nodes, {"layer1.conv.weight": W}))
    assert [n.name for n in graph.nodes] == ["input", "layer1.conv", "block.Relu"]


@pytest.mark.parametrize("dims", [(1, 4, 9, 8), (8, 4, 9, 8), ("batch", 4, 9, 8), (None, 4, 9, 8)])
def test_any_batch_is_accepted(dims: tuple) -> None:
    graph = from_onnx(model([node("Flatten", "x", "f"), node("Gemm", "f w")], {"w": array(288, 3)}, dims))
    assert graph.input.op.shape == (4, 9, 8)


def test_a_fixed_batch_in_a_reshape_is_understood() -> None:
    graph = from_onnx(model([node("Reshape", "x s")], {"s": np.array([8, 288], np.int64)}, (8, 4, 9, 8)))
    assert execute(graph, torch.zeros(3, 4, 9, 8))[graph.output].shape == (3, 288)


@pytest.mark.parametrize("name", ["digits", "resnet20", "squeezenet1_1", "mobilenet_v2"])
def test_the_onnx_route_equals_the_torch_route(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = zoo.build(name).eval()
    shape = zoo.info(name).image_shape
    path = tmp_path / f"{name}.onnx"
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(module, (torch.zeros(1, *shape),), str(path), dynamo=False, input_names=["x"])
    a, b = from_onnx(path), from_torch(module, shape, name)
    assert [type(n.op) for n in a.nodes] == [type(n.op) for n in b.nodes]
    assert a.name == name
    for left, right in zip(a.nodes, b.nodes, strict=True):
        if isinstance(left.op, Conv | Linear):
            assert left.op.weight.shape == right.op.weight.shape
            assert np.allclose(left.op.weight, right.op.weight, rtol=1e-5, atol=1e-7)
    images = torch.randn(2, *shape)
    assert torch.allclose(execute(a, images)[a.output], execute(b, images)[b.output], rtol=1e-4, atol=1e-4)
