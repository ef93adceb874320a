"""Cycles of a network on RTL beside the model's, by layer: weights are random, cycles do not depend on their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bitloom.explore.performance import Performance
from bitloom.explore.planned import planned_performance
from bitloom.explore.timing import DEFAULT_TIMING
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.program.lower import input_image, lower
from bitloom.program.ordering import choose_order, reorder
from bitloom.program.plan import plan
from bitloom.quantize.skeleton import skeleton
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.job import DdrTiming, SimOptions
from bitloom.simulate.run import run_workload, workload_of
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device


@dataclass(frozen=True, eq=False)
class Measured:
    """Cycles of a run: in all and by layer name and cause, beside the model of the same plan."""

    cycles: int
    layers: dict[str, dict[str, int]]
    model: Performance

    def worst(self, least: int = 0) -> tuple[str, float]:
        """(layer, model over RTL - 1) of the largest deviation among the layers of at least `least` cycles."""
        found = [("none", 0.0)]
        for layer in self.model.layers:
            if (cycles := sum(self.layers[layer.name].values())) >= least:
                found.append((layer.name, layer.cycles / cycles - 1))
        return max(found, key=lambda pair: abs(pair[1]))


def with_weights(qgraph: QuantGraph, seed: int = 0) -> QuantGraph:
    """A skeleton filled with random codes of each channel's width."""
    rng = np.random.default_rng(seed)
    nodes = []
    for node in qgraph.nodes:
        if isinstance(node, QConv):
            limit = np.where(node.bits > 0, (1 << np.maximum(node.bits.astype(np.int64) - 1, 0)) - 1, 0)
            shape = node.weight.shape
            codes = rng.integers(-127, 128, shape, dtype=np.int64) % (2 * limit + 1)[:, None, None, None]
            node = replace(node, weight=(codes - limit[:, None, None, None]).astype(np.int8))
        nodes.append(node)
    return replace(qgraph, nodes=tuple(nodes))


def measure(
    graph: Graph, bits: Mapping[str, np.ndarray], arch: ArchConfig, device: Device, seed: int = 0, batch: int = 1
) -> Measured:
    """A run on random codes on the behavioural build of `arch`."""
    qgraph = skeleton(graph, bits)
    qgraph = with_weights(reorder(qgraph, choose_order(qgraph, arch)), seed)
    return measure_graph(qgraph, arch, device, seed, batch)


def measure_graph(
    qgraph: QuantGraph, arch: ArchConfig, device: Device, seed: int = 0, batch: int = 1, refresh: bool = True
) -> Measured:
    """`measure` for an integer network as it is, and a batch of images; refresh: whether the DDR pauses for it."""
    planned = plan(qgraph, arch, batch)
    program = lower(qgraph, planned)
    shape = (batch, *qgraph.tensors[qgraph.input].shape)
    codes = np.random.default_rng(seed).integers(-127, 128, shape, dtype=np.int64).astype(np.int8)
    binary = build(arch, BuildOptions(fast=True))
    ddr = DdrTiming() if refresh else DdrTiming(refresh_interval_us=0.0)
    timing = DEFAULT_TIMING if refresh else replace(DEFAULT_TIMING, ddr_refresh=0.0)
    run = run_workload(workload_of(program), [input_image(program, codes)], binary, SimOptions(timing=ddr)).runs[0]
    layers = {program.layers[i]: dict(c) for i, c in run.layer_cycles().items() if i < len(program.layers)}
    return Measured(run.cycles, layers, planned_performance(planned, device, timing))
