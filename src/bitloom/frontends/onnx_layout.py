"""ONNX tensors whose axes stand in another order than the draft's: how TensorFlow's (N, H, W, C) becomes (N, C, H, W).

A Transpose makes no layer. It is remembered as the order of a tensor's axes; nodes behind it are rewritten to what they
mean in (N, C, H, W), and a product with a flattened map gets its columns in the draft's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, helper

from bitloom.graph.ir import Shape

Constants = dict[str, npt.NDArray[Any]]

NHWC = (0, 2, 3, 1)

#: Operators that work on every value alone.
ELEMENTWISE = frozenset(
    ("Relu", "Clip", "Max", "Min", "Add", "Sum", "Sub", "Mul", "Div", "Neg", "Identity", "Dropout", "Cast", "Sigmoid",
     "LeakyRelu", "PRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Swish", "Tanh", "Softplus", "Gelu", "Mish",
     "Quant", "IntQuant", "BipolarQuant", "Trunc", "QuantizeLinear", "DequantizeLinear")
)  # fmt: skip

#: Operators that take a map as (N, C, H, W) and nothing else.
_CHANNELS_FIRST = frozenset(
    ("Conv", "BatchNormalization", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
)


@dataclass(frozen=True)
class Axes:
    """A map: axis i of the ONNX tensor is axis perm[i] of (N, C, H, W)."""

    perm: tuple[int, ...]

    def then(self, perm: Sequence[int]) -> Axes | None:
        """The order behind one more Transpose; None where that is (N, C, H, W) again."""
        both = tuple(self.perm[i] for i in perm)
        return None if both == (0, 1, 2, 3) else Axes(both)

    def outer(self, shape: Shape) -> Shape:
        """Shape of the ONNX tensor, without batch, of a map (C, H, W)."""
        full = (1, *shape)
        return tuple(full[i] for i in self.perm)[1:]

    def inner(self, shape: Shape) -> Shape:
        """(C, H, W) of an ONNX tensor's shape, without batch."""
        full = (1, *shape)
        return tuple(full[self.perm.index(i)] for i in range(4))[1:]

    def flattened(self, shape: Shape) -> Columns | None:
        """The order of the values where a map (C, H, W) is flattened as it stands; None where it is the draft's own."""
        at = np.arange(prod(shape)).reshape(1, *shape).transpose(self.perm).reshape(-1)
        return None if np.array_equal(at, np.arange(at.size)) else Columns(at)


@dataclass(frozen=True, eq=False)
class Columns:
    """A vector: value i of the ONNX tensor is value at[i] of the draft's."""

    at: npt.NDArray[np.int64]

    def inner(self, values: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """Values that stand beside the ONNX tensor's along `axis`, in the draft's order."""
        moved = np.empty_like(values)
        np.moveaxis(moved, axis, 0)[self.at] = np.moveaxis(values, axis, 0)
        return moved


Order = Axes | Columns


def same_order(a: Order | None, b: Order | None) -> bool:
    """Whether the two say the same; None is the draft's own order."""
    if isinstance(a, Columns) and isinstance(b, Columns):
        return np.array_equal(a.at, b.at)
    return a == b


def inner_node(node: NodeProto, order: Order, constants: Constants) -> tuple[NodeProto, Constants] | None:
    """`node`, which reads tensors in `order`, and its constants, as the draft's are; None where that cannot be.

    constants: those that the node reads, by name. Reductions, concatenations, borders and slices of a map name other
    axes then, and constants beside a tensor are turned as it is.
    """
    copy, given = NodeProto(), dict(constants)
    copy.CopyFrom(node)
    if isinstance(order, Columns):
        return _inner_vector(copy, order, given)
    if node.op_type in ELEMENTWISE:
        back = np.argsort(order.perm)
        for x in node.input:
            value = given.get(x)
            if value is not None and 0 < value.ndim <= 4:
                given[x] = value.reshape((1,) * (4 - value.ndim) + value.shape).transpose(back)
        return copy, given
    if node.op_type in ("ReduceMean", "Slice", "Concat") or (node.op_type == "Pad" and len(node.input) > 3):
        _rename_axes(copy, order, given)
        return copy, given
    if node.op_type == "Pad":
        if len(node.input) > 1 and node.input[1] in given:
            given[node.input[1]] = _inner_pads(given[node.input[1]], order)
        for attribute in copy.attribute:
            if attribute.name == "pads":
                attribute.ints[:] = [int(p) for p in _inner_pads(np.asarray(attribute.ints), order)]
        return copy, given
    return None


def _inner_vector(node: NodeProto, order: Columns, given: Constants) -> tuple[NodeProto, Constants] | None:
    size = order.at.size
    if node.op_type in ELEMENTWISE:
        for x in given:
            if given[x].ndim and given[x].shape[-1] == size:
                given[x] = order.inner(given[x], -1)
        return node, given
    weight = given.get(node.input[1]) if node.op_type in ("Gemm", "MatMul") else None
    if weight is None or weight.ndim != 2:
        return None
    axis = 1 if any(a.name == "transB" and a.i for a in node.attribute) else 0
    if weight.shape[axis] == size:
        given[node.input[1]] = order.inner(weight, axis)
    return node, given


def _rename_axes(node: NodeProto, order: Axes, given: Constants) -> None:
    at = {"ReduceMean": 1, "Slice": 3, "Pad": 3}.get(node.op_type)
    if at is not None and len(node.input) > at and node.input[at] in given:
        given[node.input[at]] = np.array([order.perm[int(a) % 4] for a in given[node.input[at]].reshape(-1)], np.int64)
    for attribute in node.attribute:
        if attribute.name == "axes":
            attribute.ints[:] = [order.perm[int(a) % 4] for a in attribute.ints]
        elif attribute.name == "axis":
            attribute.i = order.perm[int(attribute.i) % 4]
    if node.op_type == "Slice" and len(node.input) == 3:  # without axes: the first ones
        count = len(given.get(node.input[1], ()))
        node.input.append("axes of (N, C, H, W)")
        given[node.input[3]] = np.array(order.perm[:count], np.int64)


def _inner_pads(pads: npt.NDArray[Any], order: Axes) -> npt.NDArray[Any]:
    if pads.size != 8:
        return pads
    halves = pads.reshape(2, 4)
    inner = np.zeros_like(halves)
    inner[:, list(order.perm)] = halves
    return inner.reshape(-1)


def image_is_nhwc(graph: GraphProto, image: str) -> bool:
    """Whether the image comes as (N, H, W, C): turned to (N, C, H, W) before anything that expects that reads it."""
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for x in node.input:
            readers.setdefault(x, []).append(node)
    pending, seen, turned = [image], {image}, False
    while pending:
        for node in readers.get(pending.pop(), []):
            if node.op_type in _CHANNELS_FIRST:
                return False
            if node.op_type == "Transpose":
                turned = True
                if _perm(node) != (0, 3, 1, 2):
                    return False
            elif node.op_type in ELEMENTWISE or node.op_type in ("Pad", "Concat", "Slice"):
                new = [x for x in node.output if x not in seen]
                pending += new
                seen.update(new)
    return turned


def _perm(node: NodeProto) -> tuple[int, ...]:
    return next((tuple(helper.get_attribute_value(a)) for a in node.attribute if a.name == "perm"), ())
