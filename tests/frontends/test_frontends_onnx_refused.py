"""ONNX models that must be refused, by name and with advice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from bitloom.errors import GraphError, UnsupportedLayerError, WeightsError
from bitloom.frontends.onnx_import import from_onnx
from frontends.onnx_models import array, model, node

W, I0 = array(5, 4, 3, 3), np.zeros(1, np.int64)


def test_a_norm_with_further_outputs_trains() -> None:
    names = ["x", "g", "b", "m", "v"]
    norm = helper.make_node("BatchNormalization", names, ["y", "", "", "mean", "var"], name="norm")
    constants = {"g": array(4), "b": array(4), "m": array(4), "v": np.abs(array(4)) + 0.1}
    proto = model([norm], constants)
    proto.opset_import[0].version = 9
    with pytest.raises(UnsupportedLayerError, match=r"'norm' \(BatchNormalization\): normalises with the statistics"):
        from_onnx(proto)


def test_control_flow_is_named() -> None:
    """Also where its condition is a constant: the branches read tensors that no input names."""
    branches = {
        key: helper.make_graph([node(kind, "x", key)], key, [], [helper.make_tensor_value_info(key, 1, None)])
        for key, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    proto = model([helper.make_node("If", ["c"], ["y"], name="choice", **branches)], {"c": np.array(True)})
    with pytest.raises(UnsupportedLayerError, match=r"'choice' \(If\): is control flow; export the branch that"):
        from_onnx(proto)


def test_an_opset_before_7_is_refused() -> None:
    proto = model([node("Relu", "x")])
    proto.opset_import[0].version = 6
    with pytest.raises(GraphError, match=r"is of opset 6, .* the oldest that can be read is 7: convert it"):
        from_onnx(proto)


@pytest.mark.parametrize(
    ("dims", "text"),
    [
        (("n", 3, "height", 8), "input 'x': dimension H is dynamic .'height'.; export with a fixed size"),
        (("n", 3, 8, None), "dimension W is dynamic .'?'"),
        (("n", "c", 8, 8), "dimension C is dynamic .'c'"),
        (("n", 12), "has 2 dimensions, must be an image"),
    ],
)
def test_other_dynamic_dimensions_are_named(dims: tuple, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        from_onnx(model([node("Relu", "x")], {}, dims))


@pytest.mark.parametrize(
    ("nodes", "constants", "text"),
    [
        ([node("ConvTranspose", "x w")], {"w": W}, r"'block.ConvTranspose' \(ConvTranspose\): is a transposed conv"),
        ([node("Conv", "x w", dilations=[2, 2])], {"w": W}, r"dilation = \(2, 2\)"),
        ([node("Conv", "x r")], {}, "r"),
        ([node("Sigmoid", "x")], {}, "other than ReLU"),
        ([node("LeakyRelu", "x")], {}, "other than ReLU"),
        ([node("Mul", "x x")], {}, "multiplies activations"),
        ([node("Mul", "x c")], {"c": array(8)}, r"multiplies by a constant of shape \(8,\); multiply by one value per"),
        ([node("Div", "c x")], {"c": np.ones((), np.float32)}, "multiplies activations"),
        ([node("Div", "x c")], {"c": np.zeros((), np.float32)}, "divides by zero"),
        ([node("Relu", "x", "r"), node("Sub", "x r")], {}, "subtracts; fold the minus sign"),
        ([node("Min", "x c")], {"c": np.ones((), np.float32)}, "takes the smaller of two values"),
        ([node("Clip", "x lo")], {"lo": np.zeros(4, np.float32)}, "has limits of more than one value"),
        ([helper.make_node("Clip", ["x", "", "hi"], ["y"])], {"hi": np.float32(6).reshape(())}, "clamps to -inf..6"),
        ([node("Flatten", "x", "f"), node("ArgMax", "f", axis=1)], {}, "chooses classes; return logits"),
        (
            [node("Flatten", "x", "f"), node("Gemm", "f w c")],
            {"w": array(288, 3), "c": array(2, 3)},
            r"adds a constant of shape \(2, 3\); add one value per output",
        ),
        ([node("Clip", "x lo")], {"lo": np.float32(-1).reshape(())}, "clamps to -1"),
        ([node("Add", "x c")], {"c": array(8)}, r"adds a constant of shape \(8,\)"),
        ([node("GlobalAveragePool", "x", "g"), node("Add", "x g")], {}, r"broadcasts \(4, 9, 8\) and \(4, 1, 1\)"),
        ([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1] * 4)], {}, "count_include_pad = 0 with padding"),
        ([node("AveragePool", "x", kernel_shape=[3, 3, 3])], {}, "is a 3-D pool; only 2-D pools"),
        ([node("MaxPool", "x", kernel_shape=[3])], {}, "is a 1-D pool"),
        ([node("Relu", "x", "r"), node("Max", "x r")], {}, "takes the larger of two values"),
        ([node("Max", "x c")], {"c": np.ones((), np.float32)}, "takes the larger of two values"),
        ([node("Flatten", "x", "f"), node("Slice", "f a b")], {"a": I0, "b": I0 + 1}, r"slices \(288,\); only rows"),
        ([node("ReduceMean", "x a")], {"a": np.array([1], np.int64)}, r"mean over axes \[1\]"),
        ([node("Reshape", "x s")], {"s": np.array([1, 8, 4, 9], np.int64)}, r"to \(8, 4, 9\); only flattening"),
        ([node("Reshape", "x s")], {"s": np.array([-1], np.int64)}, "keep the batch"),
        ([node("Flatten", "x", axis=2)], {}, "flattens from axis 2"),
        ([node("Concat", "x x", axis=2)], {}, "along axis 2"),
        ([node("Pad", "x p", mode="reflect")], {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)}, "mode 'reflect'"),
        ([node("Pad", "x p")], {"p": np.array([1, 0, 0, 0, 0, 0, 0, 0], np.int64)}, "pads the batch"),
        ([node("MatMul", "x w")], {"w": array(8, 3)}, r"reads a tensor of shape \(4, 9, 8\); flatten"),
        ([node("Softmax", "x")], {}, "is a softmax"),
        ([node("Resize", "x  s")], {"s": np.array([1, 1, 2, 2], np.float32)}, "interpolation"),
        ([helper.make_node("Magic", ["x"], ["y"], domain="my.ops")], {}, r"'y' \(Magic\): is of the domain 'my.ops'"),
    ],
)
def test_each_unsupported_node_has_a_reason(nodes: list, constants: dict, text: str) -> None:
    if nodes[0].op_type == "Conv" and nodes[0].input[1] == "r":
        nodes, text = [node("Relu", "x", "r"), *nodes], "its weight is computed from the image"
    with pytest.raises(UnsupportedLayerError, match=text):
        from_onnx(model(nodes, constants))


def test_all_unsupported_nodes_are_listed_but_not_those_behind_them() -> None:
    nodes = [
        node("Sigmoid", "x", "s"),
        node("Flatten", "s", "f"),
        node("Gemm", "f w", "g"),
        node("Add", "g b", "a"),
        node("Tanh", "a"),
    ]
    with pytest.raises(UnsupportedLayerError) as caught:
        from_onnx(model(nodes, {"w": array(288, 3), "b": array(3)}))
    assert [line.split("'")[1] for line in str(caught.value).splitlines()[1:]] == ["block.Sigmoid", "block.Tanh"]


def test_weights_that_are_not_finite_are_named() -> None:
    weight = W.copy()
    weight[0, 0, 1, 1] = np.inf
    with pytest.raises(WeightsError, match=r"'block.Conv': 1 of 180 values of its weight .* index \(0, 0, 1, 1\)"):
        from_onnx(model([node("Conv", "x w")], {"w": weight}))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"ONNX file '.*none.onnx' does not exist"):
        from_onnx(tmp_path / "none.onnx")
    whole = model([node("Conv", "x w")], {"w": W}).SerializeToString()
    path = tmp_path / "cut.onnx"
    for cut in (0, len(whole) // 2, len(whole) - 7):
        path.write_bytes(whole[:cut])
        with pytest.raises(GraphError, match=r"cut.onnx' cannot be read: .*; export it again"):
            from_onnx(path)


def test_several_inputs_or_outputs_are_refused() -> None:
    two = model([node("Relu", "x", "y"), node("Relu", "y", "z")], outputs=("y", "z"))
    with pytest.raises(GraphError, match=r"outputs \(y, z\), must have one image and one tensor"):
        from_onnx(two)
    constant = model([helper.make_node("Identity", ["c"], ["y"])], {"c": array(1, 3)})
    with pytest.raises(GraphError, match="output 'y' does not depend on the image"):
        from_onnx(constant)
