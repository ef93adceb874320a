"""From an integer graph and an architecture to a plan: geometry, layouts, regions and the order of work."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from bitloom.errors import ProgramError, UnsupportedLayerError
from bitloom.graph.qgraph import QConcat, QConv, QuantGraph, node_inputs
from bitloom.program.batch import batch_schedule, cuts, takes_turns
from bitloom.program.chains import Chain, runs
from bitloom.program.commands import BEAT_BYTES
from bitloom.program.geometry import window_grid, window_taps
from bitloom.program.inputs import FoldSpec, fold_of
from bitloom.program.jobs import EngineJob, Schedule
from bitloom.program.layouts import LaidOut, lay_out, window_of_node
from bitloom.program.materialize import Materializer, fold_geometry, progress
from bitloom.program.regions import Layout, Region, allocate, peak_rows
from bitloom.program.schedule import make_schedule
from bitloom.program.spill import spill
from bitloom.program.steps import Plan
from bitloom.target.arch import ArchConfig

__all__ = ["Plan", "plan"]

MAX_BATCH = 64


def plan(qgraph: QuantGraph, arch: ArchConfig, batch: int = 1) -> Plan:
    """The plan of `qgraph` on `arch`; batch: images of one run, which share the weights of the later layers (batch.py).

    Where tensors do not fit into the activation memory as they are, residuals first take the layout of their output,
    then results overwrite residual inputs at their last use, then chains of layers are cut into stripes of rows (of a
    single image), and at last tensors go to DDR (spill.py). Raises UnsupportedLayerError for a layer that the
    accelerator cannot express, ProgramError when nothing fits (the text tells where, and how many rows would do).
    """
    fold = _fold(qgraph, arch, striped=False)
    for in_place in (False, True):
        laid = lay_out(qgraph, arch.channels, fold is not None, in_place)
        _check_taps(laid, fold, arch)
        least = _load_words(laid, fold, arch)
        if batch > 1:
            found = _batch(laid, fold, least, arch, batch)
            if found is not None:
                return Materializer(laid, fold, *found, arch, batch).run()
            continue
        dense = make_schedule(laid, fold, least, arch, in_place=True)
        for schedule in (make_schedule(laid, fold, least, arch), dense):
            placed = allocate(schedule.regions(), arch.act_rows, schedule.apart(arch))
            if placed is not None:
                return Materializer(laid, fold, schedule, placed, arch).run()
    if batch > 1:
        raise ProgramError(
            f"{qgraph.name}: {batch} images do not fit the {arch.act_rows} rows of the activation memory of "
            f"architecture '{arch.name}', image by image either; use a smaller batch or run single images"
        )
    fold = _fold(qgraph, arch, striped=True)
    found = _in_stripes(laid, fold, _load_words(laid, fold, arch), arch)
    if found is not None:
        return Materializer(laid, fold, *found, arch).run()
    laid = lay_out(qgraph, arch.channels, fold is not None, plain=True)
    found = spill(laid, fold, _load_words(laid, fold, arch), arch)
    if found is not None:
        return Materializer(laid, fold, *found, arch).run()
    rows, step = peak_rows(dense.regions())
    rest = "neither stripes of rows nor tensors in DDR help"
    if arch.channels < BEAT_BYTES:
        rest = f"stripes of rows do not help, and tensors in DDR need channels >= {BEAT_BYTES}"
    raise ProgramError(
        f"{qgraph.name}: the tensors around layer '{dense.jobs[step].name}' need {rows} rows of the activation memory, "
        f"but architecture '{arch.name}' has act_rows = {arch.act_rows}; {rest}; use an "
        f"architecture with at least {rows} rows or a smaller image"
    )


def _batch(
    laid: LaidOut, fold: FoldSpec | None, least: int, arch: ArchConfig, batch: int
) -> tuple[Schedule, tuple[Region, ...]] | None:
    """The schedule with the earliest cut that fits, first with residuals at full rate, then at any."""
    if not 1 < batch <= MAX_BATCH:
        raise ProgramError(f"batch = {batch}; legal: 1 .. {MAX_BATCH}")
    legal = cuts(laid)
    for strict in (True, False):
        for cut in legal:
            ways = product((True, False) if takes_turns(laid, cut) else (False,), (False, True))
            for turns, in_place in ways:
                schedule = batch_schedule(laid, fold, least, arch, in_place, batch, cut, turns)
                regions = schedule.regions()
                if peak_rows(regions)[0] > arch.act_rows:
                    continue
                placed = allocate(regions, arch.act_rows, schedule.apart(arch), strict)
                if placed is not None:
                    return schedule, placed
    return None


def _in_stripes(
    laid: LaidOut, fold: FoldSpec | None, least: int, arch: ArchConfig
) -> tuple[Schedule, tuple[Region, ...]] | None:
    """A schedule in which the chains around each peak are cut into the fewest stripes that fit, with its regions."""
    graph = laid.graph
    index = {n.name: i for i, n in enumerate(graph.nodes)}
    chains: dict[tuple[int, int], Chain] = {}
    spans = runs(graph, laid)
    while True:
        schedule = make_schedule(laid, fold, least, arch, True, tuple(chains[k] for k in sorted(chains)))
        regions = schedule.regions()
        placed = allocate(regions, arch.act_rows, schedule.apart(arch))
        if placed is not None:
            return schedule, placed
        _, step = peak_rows(regions)
        job = next((j for j in schedule.jobs[step:] if isinstance(j, EngineJob)), None)
        span = next((s for s in spans if job is not None and s[0] <= index[job.node.name] < s[1]), None)
        if span is None:
            return None
        height = laid.windows[graph.nodes[span[1] - 1].name].out_size[0]
        stripes = chains[span].stripes + 1 if span in chains else 2
        if stripes > height:
            return None
        chains[span] = Chain(*span, stripes)


def _fold(qgraph: QuantGraph, arch: ArchConfig, striped: bool) -> FoldSpec | None:
    """The fold of the input, its tail long enough for the progress bounds of the first layer; None if it has none."""
    readers = [n for n in qgraph.nodes if qgraph.input in node_inputs(n)]
    if len(readers) != 1 or not isinstance(readers[0], QConv) or readers[0].residual == qgraph.input:
        return None
    if readers[0].groups > 1:  # a word of several pixels would be read by every group
        return None
    tensor = qgraph.tensors[qgraph.input]
    window = window_of_node(readers[0], tensor)
    fold = fold_of(tensor.shape, tensor.zero_point, window, arch, striped)
    if fold is None:
        return None
    grid, taps = fold_geometry(fold, window, arch)
    first, step = progress(grid, taps, arch)
    per_beat = BEAT_BYTES // fold.unit_bytes
    units = max(fold.units, first + (grid.n_tiles - 1) * step + fold.window - 1)
    return replace(fold, units=-(-units // per_beat) * per_beat)


def _load_words(laid: LaidOut, fold: FoldSpec | None, arch: ArchConfig) -> int:
    """Words of a linear input's only chunk that the progress bounds of the first layer count on; 0: it has none."""
    graph = laid.graph
    node = graph.nodes[0] if graph.nodes else None
    if fold is not None or not isinstance(node, QConv) or laid.split[graph.input]:
        return 0
    layout = Layout(False, laid.pitch[graph.input])
    window = laid.windows[node.name]
    grid = window_grid(window, layout, arch)
    first, step = progress(grid, window_taps(window, layout), arch)
    return first + (grid.n_tiles - 1) * step


def _check_taps(laid: LaidOut, fold: FoldSpec | None, arch: ArchConfig) -> None:
    for node in laid.graph.nodes:
        if isinstance(node, QConcat) or (fold is not None and node.input == laid.graph.input):
            continue
        high, wide = laid.windows[node.name].kernel
        if high * wide > arch.tap_entries:
            raise UnsupportedLayerError(
                f"{node.name}: window {high}x{wide} has {high * wide} taps, but architecture '{arch.name}' has "
                f"tap_entries = {arch.tap_entries}; use a smaller window or pool before it"
            )
