"""The cycle model: every cycle of a run and its cause, by layer. `fluid.py` runs the clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitloom.errors import TargetError
from bitloom.explore.fluid import begin_cycles, end_cycles, simulate
from bitloom.explore.layers import Layer, Network
from bitloom.explore.loops import Shape
from bitloom.explore.residency import Stripes, plan_stripes
from bitloom.explore.schedule import Workload, workload
from bitloom.explore.tiles import tiling
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.program.commands import BEAT_BYTES, CAUSES, HEADER_BEATS
from bitloom.program.weights import larger_ring, ring_need
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device


@dataclass(frozen=True)
class LayerCycles:
    """One layer over all its commands. cycles: by cause, in CAUSES' order. bound: the cause that costs most."""

    name: str
    conv: bool
    causes: tuple[int, ...]
    ideal: int
    macs: int
    tile_groups: int
    commands: int
    weight_bytes: int
    other_bytes: int

    @property
    def cycles(self) -> int:
        return sum(self.causes)

    @property
    def bound(self) -> str:
        return CAUSES[int(np.argmax(self.causes))]

    @property
    def ddr_bytes(self) -> int:
        return self.weight_bytes + self.other_bytes

    def utilization(self, array_dsps: int) -> float:
        """Useful multiplications per cycle over what the array can do at 5 bits or fewer."""
        return self.macs / (array_dsps * 4 * self.cycles) if self.cycles else 0.0


@dataclass(frozen=True)
class Performance:
    """A network on one architecture and device, batch 1."""

    network: str
    arch: ArchConfig
    device: str
    clock_mhz: float
    layers: tuple[LayerCycles, ...]
    frame: dict[str, int]  #: cycles outside all layers, all of them control: begin, STORE and end, by name
    stripes: Stripes | None  #: None for a program, which has its own

    @property
    def causes(self) -> dict[str, int]:
        """Cycles of the whole run by cause; they add up to `cycles`."""
        sums = np.array([layer.causes for layer in self.layers]).sum(axis=0)
        causes = dict(zip(CAUSES, (int(x) for x in sums), strict=True))
        return causes | {"control": causes["control"] + sum(self.frame.values())}

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers) + sum(self.frame.values())

    @property
    def milliseconds(self) -> float:
        """At the device's stated clock."""
        return self.cycles / self.clock_mhz / 1e3

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def mac_efficiency(self) -> float:
        """Useful multiplications of all layers over array DSPs × 4 × all cycles."""
        return self.macs / (self.arch.array_dsps * 4 * self.cycles)

    @property
    def ddr_bytes(self) -> int:
        return sum(layer.ddr_bytes for layer in self.layers)


def shape_of(arch: ArchConfig) -> Shape:
    """The unroll of an architecture."""
    return Shape(arch.pixels, arch.channels, arch.vector)


def performance(network: Network, arch: ArchConfig, device: Device, timing: Timing = DEFAULT_TIMING) -> Performance:
    """Cycles of every layer and their causes; TargetError where the network does not fit the architecture."""
    stripes = plan_stripes(network, shape_of(arch), arch.act_rows)
    load = workload(network, shape_of(arch), stripes, arch.tap_entries)
    return run_workload(network.name, network.layers, load, arch, device, timing, stripes)


def run_workload(
    name: str,
    layers: Sequence[Layer],
    load: Workload,
    arch: ArchConfig,
    device: Device,
    timing: Timing,
    stripes: Stripes | None,
) -> Performance:
    """Runs the commands of `load` on `arch` and adds them up by layer; TargetError when the ring is too small."""
    tiles = tiling(load, np.array([arch.acc_groups]), np.array([arch.drain_channels]), timing)
    trace = simulate(load, tiles, ((arch.ring_words, arch.weight_ports),), device, timing, trace=True)
    if not np.isfinite(trace.total[0, 0]) or trace.parts is None:
        need = ring_need(int(load.stream.lane_words.max()), arch.channels)
        raise TargetError(
            f"{name} on '{arch.name}': a vector needs {need} words of a weight lane, but ring_words = "
            f"{arch.ring_words}; use {larger_ring(need)}"
        )
    rows = []
    for i, layer in enumerate(layers):
        mine = [c for c, of in enumerate(load.layer_of) if of == i]
        nests = [load.nests[c] for c in mine]
        weight = sum(int(n.lane_words.sum()) for n in nests) * arch.channels // 8 if layer.conv else 0
        other = sum((HEADER_BEATS + n.taps) * BEAT_BYTES + sum(t.bytes for t in n.transfers) for n in nests)
        causes = tuple(int(x) for x in trace.parts[mine].sum(axis=0))
        ideal, tile = sum(n.issue_cycles for n in nests), int(tiles.tile[0, np.searchsorted(load.command_of, mine[0])])
        rows.append(LayerCycles(layer.name, layer.conv, causes, ideal, layer.macs, tile, len(mine), weight, other))
    frame = {"begin": begin_cycles(arch.weight_ports, timing, device), **end_cycles(load, timing, device)}
    return Performance(name, arch, device.name, device.clock_mhz, tuple(rows), frame, stripes)
