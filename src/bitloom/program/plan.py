"""From an integer graph and an architecture to a plan: geometry, layouts, regions and the order of work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitloom.errors import ProgramError, UnsupportedLayerError
from bitloom.program.commands import Base
from bitloom.program.geometry import Grid, Reading, Tap, Window, highest_word, make_grid, window_grid, window_taps
from bitloom.program.inputs import BEAT, FoldSpec, LinearSpec, fold_of, fold_taps
from bitloom.program.layouts import LaidOut, lay_out, window_of_node
from bitloom.program.regions import Layout, Placement, Region, allocate, chunk_count, peak_rows
from bitloom.program.schedule import Buffer, EngineJob, LoadJob, Schedule, make_schedule
from bitloom.program.steps import EngineStep, LoadStep, Plan, Step, StoreStep
from bitloom.quantize.qgraph import QConcat, QConv, QuantGraph
from bitloom.target.arch import ArchConfig

__all__ = ["Plan", "plan"]


def plan(qgraph: QuantGraph, arch: ArchConfig) -> Plan:
    """The plan of `qgraph` on `arch`.

    Raises UnsupportedLayerError for a layer that the accelerator cannot express, ProgramError when the activation
    memory is too small (the text tells where, and how many rows would do).
    """
    fold = _fold(qgraph, arch)
    laid = lay_out(qgraph, arch.channels, fold is not None)
    _check_taps(laid, fold, arch)
    bound = _load_bound(laid, fold, arch)
    schedule = make_schedule(laid, fold, bound[2], arch)
    regions = schedule.regions()
    placed = allocate(regions, arch.act_rows)
    if placed is None:
        rows, step = peak_rows(regions)
        raise ProgramError(
            f"{qgraph.name}: the tensors around layer '{schedule.jobs[step].name}' need {rows} rows of the activation "
            f"memory, but architecture '{arch.name}' has act_rows = {arch.act_rows}; use an architecture with at least "
            f"{rows} rows or a smaller image"
        )
    return _Materializer(laid, fold, schedule, placed, bound, arch).run()


def _fold(qgraph: QuantGraph, arch: ArchConfig) -> FoldSpec | None:
    """The fold of the input, its tail long enough for the progress bounds of the first layer; None if it has none."""
    readers = [n for n in qgraph.nodes if _reads(n, qgraph.input)]
    if len(readers) != 1 or not isinstance(readers[0], QConv) or readers[0].residual == qgraph.input:
        return None
    tensor = qgraph.tensors[qgraph.input]
    window = window_of_node(readers[0], tensor)
    fold = fold_of(tensor.shape, tensor.zero_point, window, arch)
    if fold is None:
        return None
    grid, taps = _fold_geometry(fold, window, arch)
    first, step = _progress(grid, taps, arch)
    per_beat = BEAT // fold.unit_bytes
    units = max(fold.units, first + (grid.n_tiles - 1) * step + fold.window - 1)
    return replace(fold, units=-(-units // per_beat) * per_beat)


def _reads(node: object, tensor: str) -> bool:
    if isinstance(node, QConcat):
        return tensor in node.inputs
    return tensor in (getattr(node, "input", None), getattr(node, "residual", None))


def _fold_geometry(fold: FoldSpec, window: Window, arch: ArchConfig) -> tuple[Grid, tuple[Tap, ...]]:
    grid = make_grid(fold.pitch, window.out_size[1], window.out_size[0], arch)
    return grid, fold_taps(fold, window)


def _progress(grid: Grid, taps: tuple[Tap, ...], arch: ArchConfig) -> tuple[int, int]:
    """(first, step): least first such that first + t*step words suffice for every tile t; step: positions of a tile."""
    need = highest_word(grid, taps, arch.pixels)
    step = grid.tile_groups * arch.pixels
    return max(1, int((need - step * np.arange(grid.n_tiles)).max())), step


def _load_bound(laid: LaidOut, fold: FoldSpec | None, arch: ArchConfig) -> tuple[int, int, int]:
    """(load_first, load_step, words of the input chunk that they need) of the first job; zeros: it waits for all."""
    graph = laid.graph
    node = graph.nodes[0] if graph.nodes else None
    if not isinstance(node, QConv) or node.input != graph.input or node.residual == graph.input:
        return 0, 0, 0
    window = laid.windows[node.name]
    if fold is not None:
        grid, taps = _fold_geometry(fold, window, arch)
    elif any(isinstance(n, QConcat) and graph.input in n.inputs for n in graph.nodes):
        return 0, 0, 0
    else:
        layout = Layout(laid.split[graph.input], laid.pitch[graph.input])
        if layout.split or chunk_count(laid.segments[graph.input], arch.channels) != 1:
            return 0, 0, 0
        grid, taps = window_grid(window, layout, arch), window_taps(window, layout)
    first, step = _progress(grid, taps, arch)
    return first, step, first + (grid.n_tiles - 1) * step


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


class _Materializer:
    """Turns jobs into steps once every region has its base."""

    def __init__(
        self,
        laid: LaidOut,
        fold: FoldSpec | None,
        schedule: Schedule,
        regions: tuple[Region, ...],
        bound: tuple[int, int, int],
        arch: ArchConfig,
    ) -> None:
        self.laid, self.fold, self.schedule, self.regions = laid, fold, schedule, regions
        self.bound, self.arch = bound, arch
        self.base = {r.name: r.base for r in regions}
        self.layers = ["begin"]

    def run(self) -> Plan:
        graph, arch = self.laid.graph, self.arch
        steps: list[Step] = []
        loading: Buffer | None = None
        for job in self.schedule.jobs:
            layer = self._layer(job.name)
            if isinstance(job, LoadJob):
                steps.append(self._load(job, layer))
                loading = job.buffer
            elif isinstance(job, EngineJob):
                early = loading is not None and job.src is loading and len(steps) == 1 and self.bound[0] > 0
                steps.append(self._engine(job, layer, loading is not None, early))
                loading = job.src if early else None
            else:
                place = self._placement(job.buffer)
                chunks = chunk_count(job.buffer.segments, arch.channels)
                steps.append(StoreStep(layer, job.name, place, Base.OUTPUT, 0, job.buffer.words, chunks))
        whole = {name: self._placement(b) for name, b in self.schedule.whole.items() if b.segments}
        out = self.schedule.whole[graph.output]
        c, h, w = graph.tensors[graph.output].shape
        output = LinearSpec((c, h, w), out.segments, out.layout, arch.channels, out.words)
        return Plan(graph.name, arch, tuple(steps), self.regions, whole, self._input_spec(), output, tuple(self.layers))

    def _input_spec(self) -> FoldSpec | LinearSpec:
        if self.fold is not None:
            return self.fold
        buffer = self.schedule.whole[self.laid.graph.input]
        shape = self.laid.graph.tensors[self.laid.graph.input].shape
        return LinearSpec(shape, buffer.segments, buffer.layout, self.arch.channels, buffer.words)

    def _layer(self, name: str) -> int:
        if name not in self.layers:
            self.layers.append(name)
            if len(self.layers) > 4096:
                raise ProgramError(f"{self.laid.graph.name}: more than 4095 layers; split the network")
        return self.layers.index(name)

    def _placement(self, b: Buffer) -> Placement:
        base = self.base[b.region] + b.row_offset
        tensor = self.laid.copies.get(b.tensor, b.tensor)
        return Placement(tensor, b.segments, b.y0, b.rows, b.width, b.layout, base, b.chunk_rows)

    def _load(self, job: LoadJob, layer: int) -> LoadStep:
        b, base = job.buffer, self.base[job.buffer.region] + job.buffer.row_offset
        if self.fold is not None:
            units = b.words + self.fold.window - 1
            per_beat = BEAT // self.fold.unit_bytes
            return LoadStep(
                layer, job.name, None, base, b.chunk_rows, 1, Base.INPUT, b.y0 * self.fold.pitch * self.fold.unit_bytes,
                units // per_beat, b.words, False, per_beat.bit_length() - 1, self.fold.window,
            )  # fmt: skip
        chunks = chunk_count(b.segments, self.arch.channels)
        beats = b.words * self.arch.channels // BEAT
        return LoadStep(
            layer, job.name, self._placement(b), base, b.chunk_rows, chunks, Base.INPUT, 0, beats, b.words, True
        )

    def _engine(self, job: EngineJob, layer: int, loading: bool, early: bool) -> EngineStep:
        node, arch = job.node, self.arch
        fold = self.fold if not job.src.segments else None
        flat = False
        if fold is not None:
            grid, taps = _fold_geometry(fold, job.window, arch)
            chunks = 1
        else:
            chunks = chunk_count(job.src.segments, arch.channels)
            flat = job.window.reading is Reading.FLAT and job.src.layout.split
            if flat:
                pixels = 4 * job.src.layout.phase_pixels
                grid, taps = make_grid(pixels, pixels, 1, arch), (Tap(0, 0, 1, 0, pixels),)
            else:
                grid, taps = window_grid(job.window, job.src.layout, arch), window_taps(job.window, job.src.layout)
        out_chunks = chunk_count(job.dst.segments, arch.channels)
        return EngineStep(
            layer=layer,
            name=job.name,
            node=node,
            window=job.window,
            fold=fold,
            src_segments=job.src.segments,
            in_base=self.base[job.src.region] + job.src.row_offset,
            in_chunk_rows=job.src.chunk_rows,
            in_chunks=chunks,
            pad_code=self.laid.graph.tensors[node.input].zero_point,
            dst=self._placement(job.dst),
            residual=None if job.residual is None else self._placement(job.residual),
            grid=grid,
            taps=taps,
            flat=flat,
            first_row=job.first,
            n_rows=job.end - job.first,
            n_vectors=-(-out_chunks * arch.channels // arch.vector) if isinstance(node, QConv) else 0,
            out_chunks=out_chunks,
            wait_dma=loading and not early,
            load_first=self.bound[0] if early else 0,
            load_step=self.bound[1] if early else 0,
        )
