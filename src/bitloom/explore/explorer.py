"""`bitloom explore`: the answer before anything is built. A graph, a device and bits in; bounds and choices out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bitloom.errors import ProgramError, TargetError
from bitloom.explore.energy import ENERGY, Energy, estimate_energy
from bitloom.explore.layers import Network, network
from bitloom.explore.loops import Shape
from bitloom.explore.performance import Performance, performance, shape_of
from bitloom.explore.planned import planned_performance
from bitloom.explore.resources import Margins, Resources, excess, resources
from bitloom.explore.roofline import Roofline, roofline
from bitloom.explore.search import Point, SearchResult, floor_cycles, search
from bitloom.explore.space import Space
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import Int8Array, QuantGraph
from bitloom.program.commands import CAUSES
from bitloom.program.plan import Plan, plan
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device, load_device


@dataclass(frozen=True, eq=False)
class Exploration:
    """A network on one architecture: chosen by the search, or given (then `found` is None)."""

    network: Network
    device: Device
    arch: ArchConfig
    run: Performance
    need: Resources
    over: dict[str, tuple[float, int]]  #: kinds of which it needs more than the margins allow: (needed, allowed)
    roof: Roofline
    energy: Energy
    found: SearchResult | None

    def record(self) -> dict[str, Any]:
        """Everything as plain numbers and strings, for JSON."""
        run = self.run
        layers = [
            {
                "name": x.name,
                "kind": "conv" if x.conv else "pool",
                "cycles": x.cycles,
                "causes": dict(zip(CAUSES, x.causes, strict=True)),
                "bound": x.bound,
                "ideal_cycles": x.ideal,
                "macs": x.macs,
                "utilization": x.utilization(self.arch.array_dsps),
                "tile_groups": x.tile_groups,
                "commands": x.commands,
                "ddr_bytes": x.ddr_bytes,
            }
            for x in run.layers
        ]
        found = self.found
        return {
            "network": self.network.name,
            "device": self.device.name,
            "clock_mhz": run.clock_mhz,
            "arch": asdict(self.arch),
            "architecture_hash": f"0x{self.arch.hash:08X}",
            "array_dsps": self.arch.array_dsps,
            "cycles": run.cycles,
            "milliseconds": run.milliseconds,
            "cycles_by_cause": run.causes,
            "floor_cycles": floor_cycles(self.network, self.device),
            "mac_efficiency": run.mac_efficiency,
            "macs": run.macs,
            "ddr_bytes": run.ddr_bytes,
            "stripes": None if run.stripes is None else asdict(run.stripes),
            "resources": asdict(self.need),
            "resource_shares": {k: v for k, v in self.need.shares(self.device).items() if v != float("inf")},
            "over": {k: list(v) for k, v in self.over.items()},
            "roofline": asdict(self.roof),
            "energy": {
                "estimate": True,
                "millijoules": self.energy.millijoules,
                "watts": self.energy.watts,
                "parts_mj": self.energy.parts_mj,
                "sources": {k: v.source for k, v in ENERGY.items()},
            },
            "search": None if found is None else _search_record(found),
            "layers": layers,
        }


def _search_record(found: SearchResult) -> dict[str, Any]:
    def point(p: Point) -> dict[str, Any]:
        row = {"arch": asdict(p.arch), "cycles": list(p.cycles), "score": p.score}
        return {**row, "resources": asdict(p.resources), "memory_bram36": p.memory}

    return {
        "networks": list(found.networks),
        "best": point(found.best),
        "front": [point(p) for p in found.front],
        "slack": found.slack,
        "unrolls_evaluated": found.evaluated,
        "unrolls_skipped": found.skipped,
        "seconds": found.seconds,
    }


def _plan(qgraph: QuantGraph, arch: ArchConfig) -> Plan | None:
    """The memory plan of a program: the search counts live rows, a plan has to place them. None where none fits."""
    try:
        return plan(qgraph, arch)
    except ProgramError:
        return None


def _performance(net: Network, planned: Plan | None, arch: ArchConfig, device: Device, timing: Timing) -> Performance:
    """Cycles of a network; where its plan keeps tensors in DDR, those of the plan, transfers and stripes included."""
    if planned is not None and planned.scratch_bytes:
        return planned_performance(planned, device, timing)
    return performance(net, arch, device, timing)


def explore_all(
    graphs: Sequence[Graph],
    device: Device | str,
    bits: Sequence[Mapping[str, Int8Array]],
    arch: ArchConfig | None = None,
    space: Space | None = None,
    margins: Margins | None = None,
    timing: Timing = DEFAULT_TIMING,
    front: bool = True,
) -> tuple[Exploration, ...]:
    """Models every graph with its `bits` (layer -> (Cout,) widths) on `device`: on `arch`, or on the one architecture
    of `space` that is best for all of them together and whose memory holds a program of each. A build on which a plan
    keeps tensors in DDR counts with the cycles of that plan.

    Raises TargetError for an unknown device and where nothing fits, BudgetError for bits that do not match the layers,
    UnsupportedLayerError for a layer without a loop nest.
    """
    target = load_device(device) if isinstance(device, str) else device
    limits = margins or Margins()
    integer = [skeleton(graph, widths) for graph, widths in zip(graphs, bits, strict=True)]
    networks = [network(qgraph) for qgraph in integer]
    found = spilled = None  # spilled: the best so far of the builds with tensors in DDR
    refused: frozenset[tuple[Shape, int]] = frozenset()
    while arch is None:
        try:
            found = search(networks, target, space, limits, timing, front=front, refused=refused)
        except TargetError:
            if spilled is None:
                raise
            found, arch = spilled, spilled.best.arch
            break
        best = found.best
        plans = [_plan(qgraph, best.arch) for qgraph in integer]
        if all(p is not None and not p.scratch_bytes for p in plans):
            arch = best.arch
        elif None not in plans:
            pairs = zip(networks, plans, strict=True)
            cycles = tuple(_performance(n, p, best.arch, target, timing).cycles for n, p in pairs)
            score = sum(c / floor_cycles(n, target) for c, n in zip(cycles, networks, strict=True)) / len(cycles)
            if spilled is None or score < spilled.best.score:
                spilled = replace(found, best=replace(best, cycles=cycles, score=score))
        if spilled is not None and spilled.best.score <= best.score:
            found, arch = spilled, spilled.best.arch
        refused |= {(shape_of(best.arch), best.arch.act_rows)}
    need = resources(arch, target)
    over = excess(need, target, limits)
    done = []
    for net, qgraph in zip(networks, integer, strict=True):
        run = _performance(net, _plan(qgraph, arch), arch, target, timing)
        energy = estimate_energy(run, need, target)
        done.append(Exploration(net, target, arch, run, need, over, roofline(run, target, timing), energy, found))
    return tuple(done)


def explore(
    graph: Graph,
    device: Device | str,
    bits: Mapping[str, Int8Array],
    arch: ArchConfig | None = None,
    space: Space | None = None,
    margins: Margins | None = None,
    timing: Timing = DEFAULT_TIMING,
    front: bool = True,
) -> Exploration:
    """`explore_all` for a single graph."""
    return explore_all([graph], device, [bits], arch, space, margins, timing, front)[0]
