"""Chains of layers that can be cut into stripes of rows."""

from __future__ import annotations

from dataclasses import dataclass

from bitloom.graph.qgraph import QConcat, QNode, QPool, QuantGraph, node_inputs
from bitloom.program.geometry import Reading
from bitloom.program.layouts import LaidOut


@dataclass(frozen=True)
class Chain:
    """Nodes start .. end-1 of the graph, cut into `stripes` stripes."""

    start: int
    end: int
    stripes: int


def runs(graph: QuantGraph, laid: LaidOut) -> tuple[tuple[int, int], ...]:
    """Maximal chains (start, end) of nodes that can be cut into stripes: each tensor inside has one reader, nothing is
    added or concatenated, nothing walks a split tensor in flat order; a chain ends with its first pool."""
    found: list[tuple[int, int]] = []
    start = 0
    for index, node in enumerate(graph.nodes):
        readers = [n for n in graph.nodes if node.output in node_inputs(n)]
        follows = index + 1 < len(graph.nodes) and readers == [graph.nodes[index + 1]]
        joins = follows and _stripes(graph.nodes[index + 1], laid) and node.output != graph.output
        if not _stripes(node, laid):
            start = index + 1
        elif isinstance(node, QPool) or not joins:
            found.append((start, index + 1))
            start = index + 1
    return tuple(found)


def _stripes(node: QNode, laid: LaidOut) -> bool:
    if isinstance(node, QConcat) or node.residual is not None:
        return False
    reading = laid.windows[node.name].reading
    return reading is not Reading.ANY and not (reading is Reading.FLAT and laid.split[node.input])
