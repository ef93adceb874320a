"""Which layers may have binary channels on a build: a weight of 1 bit is never 0, so no slot of a lane is unused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitloom.graph.allocation import uniform
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QConv
from bitloom.program.plan import plan
from bitloom.program.steps import EngineStep
from bitloom.program.weights import step_weights, vector_rows
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import ArchConfig


def binary_layers(graph: Graph, arch: ArchConfig) -> frozenset[str]:
    """Names of the layers whose input channels fill the array's channel slots, group by group.

    A folded first layer and one with, say, 48 inputs on a build of 32 channels do not, nor does a depthwise one. Raises
    what `plan` raises.
    """
    planned = plan(skeleton(graph, uniform(graph, 2).bits), arch)
    full: dict[str, bool] = {}
    for step in planned.steps:
        if isinstance(step, EngineStep) and isinstance(step.node, QConv):
            ones = np.broadcast_to(np.ones(1, np.int8), step.node.weight.shape)
            filled = replace(step, node=replace(step.node, weight=ones))
            rows = [(0, 1)] if step.node.groups == 1 else [(a, b) for a, b, _ in vector_rows(step, arch)]
            seen = all(step_weights(filled, *some, arch.channels).all() for some in rows)
            full[step.node.name] = full.get(step.node.name, True) and seen
    return frozenset(name for name, whole in full.items() if whole)
