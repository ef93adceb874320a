"""`bitloom explore`: the answer before anything is built. A graph, a device and bits in; bounds and choices out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bitloom.errors import ProgramError
from bitloom.explore.energy import ENERGY, Energy, estimate_energy
from bitloom.explore.layers import Network, network
from bitloom.explore.loops import Shape
from bitloom.explore.performance import Performance, performance, shape_of
from bitloom.explore.resources import Margins, Resources, excess, resources
from bitloom.explore.roofline import Roofline, roofline
from bitloom.explore.search import Point, SearchResult, floor_cycles, search
from bitloom.explore.space import Space
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import Int8Array, QuantGraph
from bitloom.program.commands import CAUSES
from bitloom.program.plan import plan
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


def _plannable(qgraph: QuantGraph, arch: ArchConfig) -> bool:
    """Whether the memory plan of a program fits: the search counts live rows, a plan has to place them."""
    try:
        plan(qgraph, arch)
    except ProgramError:
        return False
    return True


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
    of `space` that is best for all of them together and whose memory holds a program of each.

    Raises TargetError for an unknown device and where nothing fits, BudgetError for bits that do not match the layers,
    UnsupportedLayerError for a layer without a loop nest.
    """
    target = load_device(device) if isinstance(device, str) else device
    limits = margins or Margins()
    integer = [skeleton(graph, widths) for graph, widths in zip(graphs, bits, strict=True)]
    networks = [network(qgraph) for qgraph in integer]
    found = None
    refused: frozenset[tuple[Shape, int]] = frozenset()
    while arch is None:
        found = search(networks, target, space, limits, timing, front=front, refused=refused)
        best = found.best.arch
        if all(_plannable(qgraph, best) for qgraph in integer):
            arch = best
        refused |= {(shape_of(best), best.act_rows)}
    need = resources(arch, target)
    over = excess(need, target, limits)
    done = []
    for net in networks:
        run = performance(net, arch, target, timing)
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
