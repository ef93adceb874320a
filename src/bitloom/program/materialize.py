"""Jobs become steps: every buffer gets its address, every window its grid and taps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import QConv
from bitloom.program.commands import BEAT_BYTES, Base
from bitloom.program.geometry import Grid, Reading, Tap, Window, highest_word, make_grid, window_grid, window_taps
from bitloom.program.inputs import FoldSpec, LinearSpec, fold_taps
from bitloom.program.jobs import Buffer, EngineJob, Home, LoadJob, Schedule
from bitloom.program.layouts import LaidOut
from bitloom.program.regions import Placement, Region, chunk_count, half_rows
from bitloom.program.spans import spans
from bitloom.program.steps import EngineStep, LoadStep, Plan, Step, StoreStep
from bitloom.target.arch import ArchConfig

MAX_POSITIONS = 1 << 18  #: flat positions of a chunk that the drain can address


class Materializer:
    """Turns jobs into steps once every region has its base."""

    def __init__(
        self,
        laid: LaidOut,
        fold: FoldSpec | None,
        schedule: Schedule,
        regions: tuple[Region, ...],
        arch: ArchConfig,
        batch: int = 1,
    ) -> None:
        self.batch = batch
        self.laid, self.fold, self.schedule, self.regions = laid, fold, schedule, regions
        self.arch = arch
        self.base = {r.name: r.base for r in regions}
        half = half_rows(arch.act_rows)
        self.halves = {r.name: {r.base >= half, r.base + r.rows > half} for r in regions}
        self.layers = ["begin"]

    def run(self) -> Plan:
        graph, arch = self.laid.graph, self.arch
        steps: list[Step] = []
        loading: Buffer | None = None  # what LOAD may still be writing
        early = False  # its reader has not waited for the end
        for job in self.schedule.jobs:
            layer = self._layer(job.name)
            if isinstance(job, LoadJob):
                steps += self._load(job, layer) if job.home is None else self._fetch(job, job.home, layer)
                loading, early = job.buffer, False
            elif isinstance(job, EngineJob):
                regions = {b.region for b in (job.src, job.residual) if b is not None}
                reads = loading is not None and loading.region in regions
                commands = self._engine(job, layer, reads and len(steps) == 1, reads or early)
                steps += commands
                early = commands[0].load_first > 0
                loading = None if commands[0].wait_dma else loading
            elif job.home is not None:
                steps += self._keep(job.buffer, job.home, job.name, layer)
            else:
                place = self._placement(job.buffer)
                chunks = chunk_count(job.buffer.segments, arch.channels)
                steps.append(StoreStep(layer, job.name, place, Base.OUTPUT, 0, job.buffer.words, chunks))
        whole = {name: self._placement(b) for name, b in self.schedule.whole.items() if b.segments}
        out = self.schedule.whole[graph.output]
        c, h, w = graph.tensors[graph.output].shape
        output = LinearSpec((c, h * self.batch, w), out.segments, out.layout, arch.channels, out.words)
        return Plan(
            graph.name, arch, tuple(steps), self.regions, whole, self._input_spec(), output, tuple(self.layers),
            scratch_bytes=self.schedule.scratch_bytes, batch=self.batch,
        )  # fmt: skip

    def _input_spec(self) -> FoldSpec | LinearSpec:
        if self.fold is not None:
            return self.fold
        name = self.laid.graph.input
        job = next(j for j in self.schedule.jobs if isinstance(j, LoadJob) and j.buffer.tensor == name)
        words = job.buffer.words if job.home is None else job.home.words
        shape = self.laid.graph.tensors[name].shape
        return LinearSpec(shape, job.buffer.segments, job.buffer.layout, self.arch.channels, words)

    def _layer(self, name: str) -> int:
        if name not in self.layers:
            self.layers.append(name)
            if len(self.layers) > 4096:
                raise ProgramError(f"{self.laid.graph.name}: more than 4095 layers; split the network")
        return self.layers.index(name)

    def _placement(self, b: Buffer) -> Placement:
        if b.layout.positions(b.rows) > MAX_POSITIONS:
            raise ProgramError(
                f"tensor '{b.tensor}': a map of {b.rows} x {b.width} takes {b.layout.positions(b.rows)} positions; "
                f"legal: up to {MAX_POSITIONS}; use a smaller image"
            )
        base = self.base[b.region] + b.row_offset
        tensor = self.laid.copies.get(b.tensor, b.tensor)
        return Placement(tensor, b.segments, b.y0, b.rows, b.width, b.layout, base, b.chunk_rows)

    def _load(self, job: LoadJob, layer: int) -> list[LoadStep]:
        b, base = job.buffer, self.base[job.buffer.region] + job.buffer.row_offset
        if self.fold is not None:
            units = b.words + self.fold.window - 1
            per_beat = BEAT_BYTES // self.fold.unit_bytes
            offset = job.image * self.fold.bytes + b.y0 * self.fold.pitch * self.fold.unit_bytes
            return [LoadStep(
                layer, job.name, None, base, b.chunk_rows, 1, Base.INPUT, offset, units // per_beat, b.words, False,
                per_beat.bit_length() - 1, self.fold.window,
            )]  # fmt: skip
        chunks = chunk_count(b.segments, self.arch.channels)
        beats = b.words * self.arch.channels // BEAT_BYTES
        offset = job.image * chunks * beats * BEAT_BYTES
        place = self._placement(b)
        return [LoadStep(layer, job.name, place, base, b.chunk_rows, chunks, Base.INPUT, offset, beats, b.words, True)]

    def _fetch(self, job: LoadJob, home: Home, layer: int) -> list[LoadStep]:
        """Rows of a tensor from its home, a command a chunk."""
        b = job.buffer
        return [
            LoadStep(
                layer, job.name, place, place.base, b.chunk_rows, 1, home.base, offset,
                b.words * self.arch.channels // BEAT_BYTES, b.words, True,
            )
            for place, offset in self._chunks(b, home)
        ]  # fmt: skip

    def _keep(self, b: Buffer, home: Home, name: str, layer: int) -> list[StoreStep]:
        """Rows of a tensor to its home, a command a chunk."""
        return [StoreStep(layer, name, place, home.base, at, b.words, 1) for place, at in self._chunks(b, home)]

    def _chunks(self, b: Buffer, home: Home) -> list[tuple[Placement, int]]:
        """Every chunk of a plain buffer as a placement of its own, and the byte at which its rows lie in DDR."""
        channels, whole, found = self.arch.channels, self._placement(b), []
        for k in range(chunk_count(b.segments, channels)):
            offset = home.offset + (k * home.words + b.y0 * b.layout.pitch) * channels
            found.append((replace(whole, segments=(channels,), base=whole.base + k * b.chunk_rows), offset))
        return found

    def _engine(self, job: EngineJob, layer: int, may_start: bool, must_wait: bool) -> list[EngineStep]:
        """The commands of a job, of which the first waits for all.

        may_start: the job may begin before LOAD ends; must_wait: else it waits for the end.
        """
        node, arch = job.node, self.arch
        fold = self.fold if not job.src.segments else None
        flat = False
        if fold is not None:
            grid, taps = fold_geometry(fold, job.window, arch)
        else:
            flat = job.window.reading is Reading.FLAT and job.src.layout.split
            if flat:
                pixels = 4 * job.src.layout.phase_pixels
                grid, taps = make_grid(pixels, pixels, 1, arch), (Tap(0, 0, 1, 0, pixels),)
            else:
                grid = window_grid(job.window, job.src.layout, arch, job.images)
                taps = window_taps(job.window, job.src.layout, job.src_row)
        chunks = 1 if fold is not None else chunk_count(job.src.segments, arch.channels)
        first = step = 0
        if may_start and chunks == 1 and isinstance(node, QConv) and job.residual is None and not job.src.layout.split:
            first, step = progress(grid, taps, arch)
            if first + (grid.n_tiles - 1) * step > job.src.words:
                first = step = 0
        whole = EngineStep(
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
            res_side=job.residual is not None and not self.halves[job.src.region] & self.halves[job.residual.region],
            grid=grid,
            taps=taps,
            flat=flat,
            first_row=job.first,
            n_rows=job.end - job.first,
            n_vectors=0,
            out_chunks=chunk_count(job.dst.segments, arch.channels),
            wait_dma=must_wait and first == 0,
            load_first=first,
            load_step=step,
            image_rows=job.window.out_size[0] if job.images > 1 and not flat else None,
        )
        return _commands(whole, arch) if isinstance(node, QConv) else [whole]


def _commands(whole: EngineStep, arch: ArchConfig) -> list[EngineStep]:
    """The commands of a convolution, each with the vectors that read the same chunks; whole: with all chunks."""
    node = whole.node
    assert isinstance(node, QConv)
    source = whole.src_segments or (arch.channels,)
    per_vector = arch.vector // arch.channels
    found: list[EngineStep] = []
    for span in spans(node.groups, source, whole.dst.segments, arch.channels, arch.vector):
        left = whole.out_chunks - span.first_vector * per_vector
        out_chunks = min(left, span.vectors * per_vector)
        step = replace(
            whole,
            in_base=whole.in_base + span.first_chunk * whole.in_chunk_rows,
            in_chunks=span.chunks,
            n_vectors=span.vectors,
            out_chunks=out_chunks,
            wait_dma=whole.wait_dma and not found,
            first_vector=span.first_vector,
            first_chunk=span.first_chunk,
            ends=out_chunks == left,
        )
        found.append(step)
    return found


def fold_geometry(fold: FoldSpec, window: Window, arch: ArchConfig) -> tuple[Grid, tuple[Tap, ...]]:
    grid = make_grid(fold.pitch, window.out_size[1], window.out_size[0], arch)
    return grid, fold_taps(fold, window)


def progress(grid: Grid, taps: tuple[Tap, ...], arch: ArchConfig) -> tuple[int, int]:
    """(first, step): least first such that first + t*step words suffice for every tile t; step: positions of a tile."""
    need = highest_word(grid, taps, arch.pixels)
    step = grid.tile_groups * arch.pixels
    return max(1, int((need - step * np.arange(grid.n_tiles)).max())), step
