"""What a bit more in a layer costs in cycles: the cycle model linearised around an allocation, all layers at once.

Weights that arrive late make some bits dear and the others free: a bit of a layer whose weights ran ahead costs
nothing, a bit of one that the array waits for costs its time on DDR. The fluid model is run for all layers together,
one variant each with a little more weight in that layer, and one each with a second pass in one of its vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from bitloom.allocate.cycle_model import CyclePrices
from bitloom.explore.feed import Feed, ring_feed, stack_after
from bitloom.explore.fluid import run_fluid
from bitloom.explore.layers import IntArray
from bitloom.explore.loops import by_vector
from bitloom.explore.performance import Performance
from bitloom.explore.planned import planned_performance, planned_workload
from bitloom.explore.schedule import Workload
from bitloom.explore.stream import Stream, ddr_limits
from bitloom.explore.tiles import Tiling, tiling
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import Int8Array, QConv, QuantGraph
from bitloom.numerics.packing import LOW_BITS, TWO_PASS_BITS
from bitloom.program.ordering import choose_order, reorder, tied_tensors
from bitloom.program.plan import Plan, plan
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

#: Bits by which every channel of a layer is widened for its price: small, yet far above the rounding to whole cycles.
STEP_BITS = 0.25


@dataclass(frozen=True, eq=False)
class NetworkCycles:
    """The cycle model of a network on a build as a function of its bits; what `allocate.latency` asks."""

    graph: Graph
    arch: ArchConfig
    device: Device
    timing: Timing = DEFAULT_TIMING

    @property
    def vector(self) -> int:
        """Output channels that the array computes together."""
        return self.arch.vector

    def ties(self, bits: Mapping[str, Int8Array]) -> dict[str, str | None]:
        """Layer -> class of layers whose output channels share one order; None: the order of the graph."""
        qgraph = skeleton(self.graph, bits)
        tied = tied_tensors(qgraph)
        return {node.name: tied[node.output] for node in qgraph.nodes if isinstance(node, QConv)}

    def run(self, bits: Mapping[str, Int8Array]) -> Performance:
        """The model's cycles, channels in the order that the program gives them."""
        return planned_performance(self._plan(bits)[1], self.device, self.timing)

    def _plan(self, bits: Mapping[str, Int8Array]) -> tuple[QuantGraph, Plan]:
        qgraph = skeleton(self.graph, bits)
        ordered = reorder(qgraph, choose_order(qgraph, self.arch))
        return ordered, plan(ordered, self.arch)

    def prices(self, bits: Mapping[str, Int8Array]) -> CyclePrices:
        """Cycles, and their change per weight bit and per vector with two passes of every layer."""
        qgraph, planned = self._plan(bits)
        layers, load = planned_workload(planned)
        nodes = {node.name: node for node in qgraph.nodes if isinstance(node, QConv)}
        names = [layer.name for layer in layers if layer.conv]
        command_layer = np.array(load.layer_of)
        owner = [np.flatnonzero(np.isin(load.command_of, np.flatnonzero(command_layer == i)))
                 for i, layer in enumerate(layers) if layer.conv]  # fmt: skip
        total = run_fluid(load, *self._variants(load, owner), self.device, self.timing).total[0]
        if not np.isfinite(total[0]):
            return CyclePrices(self.run(bits).cycles, {}, {}, {})  # raises: the ring is too small
        base, wider, passes = total[0], total[1 : 1 + len(names)], total[1 + len(names) :]
        per_bit, per_pass, wide = {}, {}, {}
        for name, more, second in zip(names, wider, passes, strict=True):
            node = nodes[name]
            weights = int(np.prod(node.weight.shape[1:]))
            added = STEP_BITS * weights * max(1, int((node.bits > 0).sum()))
            per_bit[name] = max(0.0, float(more - base)) / added
            per_pass[name] = abs(float(second - base))
            wide[name] = int((by_vector(node.bits, self.vector) >= TWO_PASS_BITS).any(axis=1).sum())
        return CyclePrices(int(base), per_bit, per_pass, wide)

    def _variants(self, load: Workload, owner: list[IntArray]) -> tuple[Tiling, Feed]:
        """Variant 0: as it is; then every layer with more weight; then every layer with one pass more (or less)."""
        arch, count = self.arch, len(owner)
        ring = (arch.ring_words, arch.weight_ports)
        limits = ddr_limits(self.device, arch.weight_ports, self.timing)
        feed = ring_feed(load, [ring], self.device, self.timing)
        beats = np.repeat(feed.beats, 1 + 2 * count, axis=2)
        room = np.repeat(feed.room, 1 + 2 * count, axis=2)
        after = [feed.after[:, 0, 0]] * (1 + 2 * count)
        for k, vectors in enumerate(owner):
            words = load.stream.lane_words.astype(np.float64)
            steps = np.array([load.nests[c].steps for c in load.command_of[vectors]], np.float64)
            used = words[vectors] > load.shape.header_words
            words[vectors] += np.where(used, STEP_BITS * steps[:, None], 0.0)
            stream = Stream(load.stream.channels, words, load.stream.start_share)
            beats[:, 0, 1 + k] = stream.beat_cycles(arch.weight_ports, *limits)
            found = stream.room(arch.ring_words, arch.weight_ports)
            if found is not None:
                room[:, 0, 1 + k], after[1 + k] = found.position, found.after
        table = tiling(load, np.array([arch.acc_groups]), np.array([arch.drain_channels]), self.timing)
        table = table.rows(np.zeros(1 + 2 * count, np.int64))
        for k, vectors in enumerate(owner):
            changed = self._second_pass(load, vectors)
            for f in fields(Tiling):
                getattr(table, f.name)[1 + count + k, vectors] = getattr(changed, f.name)[0, vectors]
        return table, replace(feed, beats=beats, room=room, after=stack_after(after)[:, None])

    def _second_pass(self, load: Workload, vectors: IntArray) -> Tiling:
        """Tiles with a second pass in the first vector of a layer that has one (or without it, where all have two)."""
        nests = list(load.nests)
        commands = sorted({int(c) for c in load.command_of[vectors]})
        passes = {nests[c].first_vector + v: hi for c in commands for v, hi in enumerate(nests[c].hi)}
        chosen = min((v for v, hi in passes.items() if hi == 0), default=max(passes))
        for c in commands:  # stripes repeat the vector
            nest, at = nests[c], chosen - nests[c].first_vector
            if 0 <= at < nest.vectors:
                lo, hi = nest.lo.copy(), nest.hi.copy()
                lo[at], hi[at] = LOW_BITS, 0 if passes[chosen] else TWO_PASS_BITS - LOW_BITS
                nests[c] = replace(nest, lo=lo, hi=hi)
        changed = replace(load, nests=tuple(nests))
        return tiling(changed, np.array([self.arch.acc_groups]), np.array([self.arch.drain_channels]), self.timing)
