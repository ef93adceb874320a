"""The rules of a Graph, checked: names, order, shapes, attributes and finite weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bitloom.errors import GraphError, WeightsError
from bitloom.graph.ir import AvgPool, Conv, Graph, Input, Linear, MaxPool, Node, Relu
from bitloom.graph.shapes import shapes


def verify(graph: Graph) -> None:
    """Raises GraphError or WeightsError at the first broken rule; returns when the graph is sound.

    Rules: the first node is the only Input; names are unique and not empty; inputs are earlier nodes; `output` exists;
    strides, kernels and limits are positive, paddings not negative; shapes agree; weights are float32 and finite.
    """
    if not graph.nodes or not isinstance(graph.nodes[0].op, Input):
        raise GraphError(f"graph '{graph.name}': the first node must be an Input")
    seen: set[str] = set()
    for index, node in enumerate(graph.nodes):
        if not node.name:
            raise GraphError(f"graph '{graph.name}': node {index} has no name; give each node a name of its own")
        if node.name in seen:
            raise GraphError(f"graph '{graph.name}': two nodes are called '{node.name}'; names must be unique")
        if index and isinstance(node.op, Input):
            raise GraphError(f"'{node.name}': a second Input; a graph has exactly one, its first node")
        seen.add(node.name)
        _attributes(node)
    if graph.output not in seen:
        raise GraphError(f"graph '{graph.name}': output '{graph.output}' is not a node; the last is '{node.name}'")
    shapes(graph)


def check_finite(layer: str, what: str, values: npt.NDArray[Any]) -> None:
    """WeightsError naming the layer, how many values are NaN or infinite and the first index, if any is."""
    bad = ~np.isfinite(values)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise WeightsError(
            f"'{layer}': {int(bad.sum())} of {values.size} values of its {what} are NaN or infinite, first at index "
            f"{first} ({values[first]}); train or export the model again"
        )


def _attributes(node: Node) -> None:
    op, name = node.op, node.name
    match op:
        case Input():
            if len(op.shape) != 3 or min(op.shape) < 1:
                raise GraphError(f"'{name}': input shape {op.shape}, must be (C, H, W) of positive numbers")
        case Conv() | Linear():
            _weights(name, op)
            if isinstance(op, Conv) and (op.groups < 1 or len(op.weight) % op.groups):
                raise GraphError(f"'{name}': {op.groups} groups, must divide the {len(op.weight)} output channels")
        case Relu():
            if op.limit is not None and not 0 < op.limit < float("inf"):
                raise GraphError(f"'{name}': Relu limit {op.limit}, must be positive and finite, or None")
        case MaxPool() | AvgPool():
            if min(op.kernel) < 1:
                raise GraphError(f"'{name}': kernel {op.kernel}, must be positive")
            (top, bottom, left, right), (kh, kw) = op.padding, op.kernel
            if max(top, bottom) >= kh or max(left, right) >= kw:
                raise GraphError(f"'{name}': padding {op.padding} of kernel {op.kernel}; a window would see no pixel")
        case _:
            pass
    if isinstance(op, Conv | MaxPool | AvgPool):
        if min(op.stride) < 1:
            raise GraphError(f"'{name}': stride {op.stride}, must be positive")
        if min(op.padding) < 0:
            raise GraphError(f"'{name}': padding {op.padding}, must not be negative")


def _weights(name: str, op: Conv | Linear) -> None:
    rank = 4 if isinstance(op, Conv) else 2
    if op.weight.ndim != rank or 0 in op.weight.shape or op.bias.shape != (op.weight.shape[0],):
        raise GraphError(
            f"'{name}': weight {op.weight.shape} and bias {op.bias.shape}; the weight must have {rank} dimensions and "
            "the bias one value per output channel"
        )
    for what, values in (("weight", op.weight), ("bias", op.bias)):
        if values.dtype != np.float32:
            raise GraphError(f"'{name}': {what} is {values.dtype}, must be float32")
        check_finite(name, what, values)
