"""Which layers may have binary channels on a build: a weight of 1 bit is never 0, so no slot of a lane is unused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitloom.graph.allocation import uniform
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QConv
from bitloom.program.plan import plan
from bitloom.program.steps import EngineStep
from bitloom.program.weights import step_weights
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import ArchConfig


def binary_layers(graph: Graph, arch: ArchConfig) -> frozenset[str]:
    """Names of the layers whose input channels fill the array's channel slots, group by group.

    A folded first layer and one with, say, 48 inputs on a build of 32 channels do not. Raises what `plan` raises.
    """
    planned = plan(skeleton(graph, uniform(graph, 2).bits), arch)
    full: dict[str, bool] = {}
    for step in planned.steps:
        if isinstance(step, EngineStep) and isinstance(step.node, QConv):
            ones = np.broadcast_to(np.ones(1, np.int8), step.node.weight.shape)
            seen = step_weights(replace(step, node=replace(step.node, weight=ones)), 0, 1, arch.channels)
            full[step.node.name] = full.get(step.node.name, True) and bool(seen.all())
    return frozenset(name for name, whole in full.items() if whole)
