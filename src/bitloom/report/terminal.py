"""Explorations as tables for a terminal: what fits, what it reaches, and what binds each layer."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bitloom.explore.explorer import Exploration
from bitloom.explore.resources import Margins, misfit
from bitloom.explore.search import floor_cycles
from bitloom.program.commands import CAUSES


def print_explorations(found: Sequence[Exploration], console: Console, layers: bool | None = None) -> None:
    """Prints the build, its resources, a row a network and, for a single network or on request, a row a layer."""
    first = found[0]
    arch = first.arch
    console.print(
        f"[bold]{first.device.title}[/]: P={arch.pixels} pixels, C={arch.channels} inputs, M={arch.vector} outputs, "
        f"{arch.array_dsps} array DSPs, drain {arch.drain_channels}, tiles of {arch.acc_groups} groups, ring "
        f"{arch.ring_bytes / 2**20:.2f} MiB, activations {arch.act_bytes / 2**20:.2f} MiB, {arch.weight_ports} ports",
        highlight=False,
    )
    search = first.found
    if search is not None:
        console.print(
            f"the model's optimum of {search.evaluated + search.skipped} unrolls with all their sizes "
            f"({search.skipped} skipped by their bound), {search.seconds:.1f} s, front of {len(search.front)}",
            highlight=False,
        )
    if first.over:
        console.print(f"[red]{misfit(arch, first.device, first.over)}[/]", highlight=False)
    console.print(_resources(first))
    console.print(_networks(found))
    for one in found if layers or (layers is None and len(found) == 1) else ():
        console.print(_layers(one))


def _resources(one: Exploration) -> Table:
    table = Table(title="Resources (model)", title_justify="left", box=None, pad_edge=False)
    for name in ("kind", "needed", "device", "share", "allowed"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    margins, shares = Margins(), one.need.shares(one.device)
    for kind in ("dsp", "lut", "ff", "bram36", "uram"):
        has = getattr(one.device, kind)
        share = f"{100 * shares[kind]:.1f} %" if has else "-"
        table.add_row(
            kind.upper(), f"{getattr(one.need, kind):,}", f"{has:,}", share, f"{100 * getattr(margins, kind):.0f} %"
        )
    return table


def _networks(found: Sequence[Exploration]) -> Table:
    table = Table(title="Cycles of an image (model)", title_justify="left", box=None, pad_edge=False)
    table.add_column("network")
    for name in ("cycles", "ms", "floor", "MAC efficiency", *CAUSES, "DDR MB", "mJ (estimate)"):
        table.add_column(name, justify="right")
    for one in found:
        run = one.run
        table.add_row(
            run.network,
            f"{run.cycles:,}",
            f"{run.milliseconds:.3f}",
            f"{floor_cycles(one.network, one.device):,.0f}",
            f"{100 * run.mac_efficiency:.1f} %",
            *(f"{run.causes[c]:,}" for c in CAUSES),
            f"{run.ddr_bytes / 1e6:.2f}",
            f"{one.energy.millijoules:.3g}",
        )
    return table


def _layers(one: Exploration) -> Table:
    table = Table(title=f"{one.run.network}: what binds each layer", title_justify="left", box=None, pad_edge=False)
    table.add_column("layer")
    for name in ("cycles", "bound by", "its share", "utilization", "MACs per DDR byte", "roof"):
        table.add_column(name, justify="left" if name == "bound by" else "right")
    points = {p.layer: p for p in one.roof.points}
    for layer in one.run.layers:
        at = CAUSES.index(layer.bound)
        point = points.get(layer.name)
        table.add_row(
            layer.name,
            f"{layer.cycles:,}",
            layer.bound,
            f"{100 * layer.causes[at] / layer.cycles:.0f} %",
            f"{100 * layer.utilization(one.arch.array_dsps):.1f} %" if layer.macs else "-",
            "-" if point is None else f"{point.intensity:,.0f}",
            "-" if point is None else ("array" if one.roof.slope * point.intensity >= one.roof.peak else "DDR"),
        )
    return table
