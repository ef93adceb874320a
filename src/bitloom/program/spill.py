"""Networks whose tensors do not fit on chip: some tensors live in DDR, and the layers at them run in stripes of rows.

A tensor that is *away* lies in SCRATCH (the input image in INPUT), chunk after chunk, rows in order. A layer that reads
it loads the rows that a stripe of its output needs; a layer that writes it stores every stripe. All tensors are plain
here; a layer of stride 2 makes the phase-split copy of its rows itself, stripe by stripe. Weights come again with
every stripe.

Which tensors go away is decided where the memory overflows: first the largest that just waits there, then the largest
that is in use, then the layer is cut into more stripes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bitloom.graph.qgraph import QConcat, QConv, QPool
from bitloom.program.commands import BEAT_BYTES, Base
from bitloom.program.inputs import FoldSpec, linear_words
from bitloom.program.jobs import Buffer, EngineJob, Home, LoadJob, Schedule, StoreJob
from bitloom.program.layouts import LaidOut
from bitloom.program.regions import Region, allocate, chunk_count, peak_rows
from bitloom.program.schedule import Builder, needed_rows
from bitloom.target.arch import ArchConfig


@dataclass
class SpillBuilder(Builder):
    """The jobs of a network of which the tensors `away` live in DDR; stripes: by layer, where more than one.

    layer_of: the layer that each job is for.
    """

    away: frozenset[str] = frozenset()
    stripes: Mapping[str, int] = field(default_factory=dict)
    layer_of: list[str] = field(default_factory=list)
    homes: dict[str, Home] = field(default_factory=dict)
    scratch_bytes: int = 0

    def run(self) -> Schedule:
        """The schedule; every tensor of `away` gets a home."""
        graph = self.laid.graph
        self._place_concats()
        if self.fold is None and graph.input not in self.away:
            self._load_input()
            self.layer_of.append(graph.nodes[0].name)
        for node in graph.nodes:
            if isinstance(node, QConcat):
                if not self._is_away(node.output):
                    self._tensor(node.output)
            elif node.output not in self.laid.copies:
                self._layer(node)
                self.layer_of += [node.name] * (len(self.jobs) - len(self.layer_of))
        self.jobs.append(StoreJob(f"store {graph.output}", self._tensor(graph.output)))
        self.layer_of.append(graph.nodes[-1].name)
        return Schedule(
            tuple(self.jobs),
            self.region_rows,
            self.whole,
            tuple(range(len(self.jobs))),
            scratch_bytes=self.scratch_bytes,
        )

    def owner(self, name: str) -> str:
        """The tensor in whose region a tensor lies: itself, or the concatenation that it is part of."""
        return self._place(name)[0]

    def _is_away(self, name: str) -> bool:
        return self.owner(name) in self.away

    def _home(self, name: str) -> Home:
        """Where a tensor that is away lies."""
        owner, chunk = self._place(name)
        if owner not in self.homes:
            channels = self.arch.channels
            words = linear_words(self.laid.graph.tensors[owner].shape[1] * self.laid.pitch[owner], channels)
            size = words * channels * chunk_count(self.laid.segments[owner], channels)
            inside = owner == self.laid.graph.input
            self.homes[owner] = Home(Base.INPUT if inside else Base.SCRATCH, 0 if inside else self.scratch_bytes, words)
            self.scratch_bytes += 0 if inside else size
        home = self.homes[owner]
        return Home(home.base, home.offset + chunk * home.words * self.arch.channels, home.words)

    def _layer(self, node: QConv | QPool) -> None:
        height = self.laid.windows[node.name].out_size[0]
        step = -(-height // self.stripes.get(node.name, 1))
        for first in range(0, height, step):
            self._rows_of(node, first, min(height, first + step))

    def _rows_of(self, node: QConv | QPool, first: int, end: int) -> None:
        """Rows first .. end-1 of a layer's output."""
        label = f"for {node.name} rows {first}"
        original = self.laid.copies.get(node.input)
        low, high = needed_rows(self.laid.windows[node.name], first, end)
        if node.input == self.laid.graph.input and self.fold is not None:
            src = self._image_stripe(node, (first, end))
            self.jobs.append(LoadJob(f"load {node.input}", src))
        elif original is None:
            src = self._source(node.input, low, high, label)
        else:
            low -= low % 2  # a phase-split stripe begins with an even row
            source = self._source(original, low, high, label)
            src = self._stripe(node.input, low, high, f"{node.input} {label}")
            copy = next(n for n in self.laid.graph.nodes if n.output == node.input)
            assert isinstance(copy, QPool)
            self.jobs.append(
                EngineJob(copy.name, copy, source, src, None, low, high, self._window(copy, low, high, source))
            )
        residual = None if node.residual is None else self._source(node.residual, first, end, label)
        away = self._is_away(node.output)
        dst = self._stripe(node.output, first, end, f"{node.output} {label}") if away else self._tensor(node.output)
        window = self._window(node, first, end, src)
        self.jobs.append(EngineJob(node.name, node, src, dst, residual, first, end, window))
        if away:
            self.jobs.append(StoreJob(f"store {node.output}", dst, self._home(node.output)))

    def _source(self, name: str, low: int, high: int, label: str) -> Buffer:
        """The buffer with rows low .. high-1 of a tensor, loaded when it lives in DDR."""
        if not self._is_away(name):
            return self._tensor(name)
        buffer = self._stripe(name, low, high, f"{name} rows {low}..{high} {label}")
        if not any(isinstance(j, LoadJob) and j.buffer.region == buffer.region for j in self.jobs[-2:]):
            self.jobs.append(LoadJob(f"load {name}", buffer, home=self._home(name)))
        return buffer


def spill(
    laid: LaidOut, fold: FoldSpec | None, load_words: int, arch: ArchConfig
) -> tuple[Schedule, tuple[Region, ...]] | None:
    """A schedule with tensors in DDR and its regions; None when even single rows do not fit, and
    where words are smaller than a beat of the DDR (rows would not begin at beats).

    laid: all tensors plain.
    """
    if arch.channels < BEAT_BYTES:
        return None
    away: set[str] = set()
    stripes: dict[str, int] = {}
    while True:
        builder = SpillBuilder(laid, fold, load_words, arch, False, away=frozenset(away), stripes=stripes)
        schedule = builder.run()
        regions = schedule.regions()
        placed = allocate(regions, arch.act_rows)
        if placed is not None:
            return schedule, placed
        _, time = peak_rows(regions)
        layer = builder.layer_of[time]
        victim = _victim(builder, regions, time, layer)
        if victim is not None:
            away.add(victim)
            continue
        count = stripes.get(layer, 1) + 1
        if count > laid.windows[layer].out_size[0]:
            return None
        stripes[layer] = count


def _victim(builder: SpillBuilder, regions: tuple[Region, ...], time: int, layer: str) -> str | None:
    """The largest whole tensor on chip at `time` that may go to DDR; those that `layer` does not touch come first."""
    graph = builder.laid.graph
    node = next(n for n in graph.nodes if n.name == layer)
    assert not isinstance(node, QConcat)
    read = builder.laid.copies.get(node.input, node.input)
    used = {builder.owner(t) for t in (read, node.output, node.residual) if t is not None}
    fixed = {builder.owner(graph.output)} | ({graph.input} if builder.fold is not None else set())
    live = [r for r in regions if r.first <= time <= r.last and r.name in graph.tensors and r.name not in fixed]
    best = max(live, key=lambda r: (r.name not in used, r.rows), default=None)
    return None if best is None else best.name
