"""Which channel sits in which vector and lane: output channels are renumbered so that wide ones share vectors.

A vector with any channel of 6 bits or more takes two passes, and every lane has its own weight ring. So channels of
6 to 8 bits are gathered into the first vectors of a layer, and inside a vector the wide channels go to the lanes that
have held the fewest words so far. The renumbering is exact: a permutation of a tensor's channels is followed by the
rows of the layers that write it and the columns of those that read it; integer sums do not depend on their order.
Tensors that an addition, a pool or a depthwise convolution ties together share one order; image, result and
concatenated tensors keep theirs, and so do those at other grouped convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bitloom.graph.qgraph import Int8Array, QConcat, QConv, QNode, QuantGraph
from bitloom.graph.ties import Ties
from bitloom.numerics.packing import TWO_PASS_BITS
from bitloom.program.regions import IntArray
from bitloom.target.arch import ArchConfig


def tied_tensors(qgraph: QuantGraph) -> dict[str, str | None]:
    """Tensor -> name of its class of equal channel order; None: the order must stay."""
    ties = Ties(qgraph.tensors)
    ties.fix(qgraph.input, qgraph.output)
    for node in qgraph.nodes:
        if isinstance(node, QConcat):
            ties.fix(*node.inputs, node.output)
            continue
        if not isinstance(node, QConv) or _depthwise(node):
            ties.tie(node.input, node.output)
        elif node.groups > 1:
            ties.fix(node.input, node.output)
        if node.residual is not None:
            ties.tie(node.residual, node.output)
    return ties.classes()


def _depthwise(node: QConv) -> bool:
    """Every channel is a group: any order of the inputs is one of the outputs."""
    return node.groups > 1 and node.weight.shape[:2] == (node.groups, 1)


def choose_order(qgraph: QuantGraph, arch: ArchConfig) -> dict[str, IntArray]:
    """Tensor -> (C,) its channels in their new order, for every tensor whose order changes."""
    ties = tied_tensors(qgraph)
    writers: dict[str, list[QConv]] = {}
    for node in qgraph.nodes:
        if isinstance(node, QConv) and (root := ties[node.output]) is not None:
            writers.setdefault(root, []).append(node)
    load = np.zeros(arch.vector, np.float64)
    chosen: dict[str, IntArray] = {}
    for root, nodes in writers.items():
        order = _order(nodes, qgraph, arch, load)
        if not np.array_equal(order, np.arange(order.size)):
            chosen[root] = order
    return {name: chosen[root] for name, root in ties.items() if root in chosen}


def _order(nodes: list[QConv], qgraph: QuantGraph, arch: ArchConfig, load: npt.NDArray[np.float64]) -> IntArray:
    """Channels by the work of their second passes, then by their words; lanes by `load`, which grows."""
    words, second = np.zeros(nodes[0].bits.size), np.zeros(nodes[0].bits.size)
    for node in nodes:
        weights = int(np.prod(node.weight.shape[1:]))
        if _depthwise(node):  # zeros fill the chunks that the vector reads
            weights *= min(arch.vector, -(-node.groups // arch.channels) * arch.channels)
        positions = int(np.prod(qgraph.tensors[node.output].shape[1:]))
        words += node.bits * (weights / arch.channels)
        second += (node.bits >= TWO_PASS_BITS) * float(weights * positions)
    ranked = np.lexsort((-words, -second))
    order = np.empty(ranked.size, np.int64)
    for start in range(0, ranked.size, arch.vector):
        block = ranked[start : start + arch.vector]
        lanes = np.argsort(load[: block.size], kind="stable")
        block = block[np.argsort(-words[block], kind="stable")]
        order[start + lanes] = block
        load[lanes] += words[block]
    return order


def reorder(qgraph: QuantGraph, order: Mapping[str, IntArray]) -> QuantGraph:
    """The same function with the channels of every tensor in `order`; image and result are untouched."""
    return replace(qgraph, nodes=tuple(_node(node, order) for node in qgraph.nodes))


def _node(node: QNode, order: Mapping[str, IntArray]) -> QNode:
    if not isinstance(node, QConv):
        return node
    rows, columns = order.get(node.output), order.get(node.input)
    weight = node.weight
    if rows is not None:
        weight = _take(weight, rows, 0)
    if columns is not None and node.groups == 1:
        weight = _take(weight, columns, 1)
    if rows is None:
        return replace(node, weight=weight)
    requant = node.requant
    requant = replace(requant, mult=requant.mult[rows], s_sel=requant.s_sel[rows], pre=requant.pre[rows])
    return replace(
        node,
        weight=weight,
        bits=node.bits[rows],
        bias=node.bias[rows],
        weight_scale=node.weight_scale[rows],
        requant=requant,
    )


def _take(weight: Int8Array, index: IntArray, axis: int) -> Int8Array:
    """weight.take; a constant array (a skeleton's) is the same in any order."""
    return weight if not any(weight.strides) else np.ascontiguousarray(np.take(weight, index, axis))
