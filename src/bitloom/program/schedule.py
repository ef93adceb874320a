"""The order of work, and which buffer every job reads and writes.

A chain of layers may be cut into stripes of rows: each stripe of the chain's last output is computed from stripes of
the tensors before it, halo rows again, so that only the chain's end is ever whole. In a batch the nodes before the cut
run image by image, the others on all images at once (batch.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import QConcat, QConv, QPool, node_inputs
from bitloom.program.chains import Chain
from bitloom.program.geometry import Window
from bitloom.program.inputs import FoldSpec, linear_words
from bitloom.program.jobs import Buffer, EngineJob, Job, LoadJob, Schedule, StoreJob
from bitloom.program.layouts import LaidOut
from bitloom.program.regions import Layout, chunk_count, layout_of
from bitloom.target.arch import ArchConfig


@dataclass
class Builder:
    """Makes the jobs of a network of one image; `BatchBuilder` those of a batch."""

    laid: LaidOut
    fold: FoldSpec | None
    load_words: int
    arch: ArchConfig
    in_place: bool
    jobs: list[Job] = field(default_factory=list)
    region_rows: dict[str, int] = field(default_factory=dict)
    whole: dict[str, Buffer] = field(default_factory=dict)
    offsets: dict[str, tuple[str, int]] = field(default_factory=dict)  # tensor -> (owner tensor, chunk)

    def build(self, chains: tuple[Chain, ...]) -> Schedule:
        graph = self.laid.graph
        self._place_concats()
        striped = {c.start: c for c in chains}
        if 0 not in striped or self.fold is None:
            self._load_input()
        index = 0
        while index < len(graph.nodes):
            chain = striped.get(index)
            if chain is not None:
                self._run_chain(chain)
                index = chain.end
                continue
            node = graph.nodes[index]
            if isinstance(node, QConcat):
                self._tensor(node.output)
            else:
                self._run(node, index)
            index += 1
        self.jobs.append(StoreJob(f"store {graph.output}", self._tensor(graph.output)))
        return Schedule(tuple(self.jobs), self.region_rows, self.whole, tuple(range(len(self.jobs))))

    # ---- buffers ----

    def _place_concats(self) -> None:
        graph, channels = self.laid.graph, self.arch.channels
        for node in graph.nodes:
            if isinstance(node, QConcat):
                at = 0
                for name in node.inputs:
                    if name in self.offsets:
                        raise ProgramError(
                            f"{node.name}: tensor '{name}' is concatenated twice, but it can lie in one place only; "
                            "insert a 1x1 maximum pool as a copy"
                        )
                    self.offsets[name] = (node.output, at)
                    at += chunk_count(self.laid.segments[name], channels)

    def _layout(self, tensor: str, rows: int) -> Layout:
        return layout_of(self.laid.split[tensor], rows, self.laid.pitch[tensor], self.arch.pixels)

    def _place(self, name: str) -> tuple[str, int]:
        """The tensor in whose region a tensor lies (itself, or the concatenation it is part of), its chunk there."""
        chunk = 0
        while name in self.offsets:
            name, at = self.offsets[name]
            chunk += at
        return name, chunk

    def _tensor(self, name: str) -> Buffer:
        """The buffer of a whole tensor; a concatenated one lies in the region of its result."""
        if name in self.whole:
            return self.whole[name]
        graph, arch = self.laid.graph, self.arch
        _, _, width = graph.tensors[name].shape
        y0, rows = self._rows(name)
        layout = self._layout(name, rows)
        segments = self.laid.segments[name]
        owner, chunk = self._place(name)
        words = linear_words(layout.positions(rows), arch.channels)
        if name == graph.input and owner == name:
            words = linear_words(max(words, self.load_words), arch.channels)
        if owner != name:
            parent = self._tensor(owner)
            per, at = parent.chunk_rows, chunk * parent.chunk_rows
            buffer = Buffer(name, segments, y0, rows, width, layout, parent.region, at, per, parent.words)
        else:
            chunk_rows = -(-words // arch.pixels)
            region = self._region(name)
            self.region_rows[region] = chunk_rows * chunk_count(segments, arch.channels)
            buffer = Buffer(name, segments, y0, rows, width, layout, region, 0, chunk_rows, words)
        self.whole[name] = buffer
        return buffer

    def _rows(self, name: str) -> tuple[int, int]:
        """First row and rows of a whole tensor."""
        return 0, self.laid.graph.tensors[name].shape[1]

    def _region(self, name: str) -> str:
        return name

    def _stripe(self, tensor: str, first: int, end: int, label: str) -> Buffer:
        layout = self._layout(tensor, end - first)
        words = layout.positions(end - first)
        chunk_rows = -(-words // self.arch.pixels)
        segments = self.laid.segments[tensor]
        self.region_rows[label] = chunk_rows * chunk_count(segments, self.arch.channels)
        width = self.laid.graph.tensors[tensor].shape[2]
        return Buffer(tensor, segments, first, end - first, width, layout, label, 0, chunk_rows, words)

    def _folded(self, fold: FoldSpec, first: int, end: int, label: str) -> Buffer:
        """Unit rows first .. end-1 of the folded image; the last stripe takes the tail along."""
        tail = fold.units - fold.rows * fold.pitch if end == fold.rows else fold.pitch
        units = min(fold.units, end * fold.pitch + tail) - first * fold.pitch
        words = units - fold.window + 1
        rows = -(-words // self.arch.pixels)
        self.region_rows[label] = rows
        layout = Layout(False, fold.pitch)
        return Buffer(self.laid.graph.input, (), first, end - first, fold.pitch, layout, label, 0, rows, words)

    # ---- jobs ----

    def _load_input(self) -> None:
        name = self.laid.graph.input
        if self.fold is None:
            buffer = self._tensor(name)
        else:
            buffer = self.whole[name] = self._folded(self.fold, 0, self.fold.rows, self._region(name))
        self.jobs.append(LoadJob(f"load {name}", buffer))

    def _run(self, node: QConv | QPool, index: int) -> None:
        window = self.laid.windows[node.name]
        src, dst, residual = self._operands(node, index)
        self.jobs.append(EngineJob(node.name, node, src, dst, residual, 0, window.out_size[0], window))

    def _operands(self, node: QConv | QPool, index: int) -> tuple[Buffer, Buffer, Buffer | None]:
        """Source, destination and residual of node number `index`."""
        residual = None if node.residual is None else self._tensor(node.residual)
        if residual is not None and self.in_place and self._may_overwrite(node, residual, index):
            self.whole[node.output] = replace(residual, tensor=node.output)
        return self._tensor(node.input), self._tensor(node.output), residual

    def _may_overwrite(self, node: QConv | QPool, residual: Buffer, index: int) -> bool:
        """The drain reads a residual word just before it writes the result: a last use may be overwritten in place."""
        graph, name = self.laid.graph, residual.tensor
        later = name == graph.output or any(name in node_inputs(n) for n in graph.nodes[index + 1 :])
        joined = residual.region in {n.output for n in graph.nodes if isinstance(n, QConcat)}
        taken = node.output in self.offsets or node.output in self.whole
        shared = self._tensor(node.input).region == residual.region
        laid = self.laid
        moved = laid.split[node.output] != laid.split[name] or laid.pitch[node.output] != laid.pitch[name]
        moved = moved or self._rows(node.output) != (residual.y0, residual.rows)
        return not (later or joined or taken or shared or moved or name == graph.input)

    def _run_chain(self, chain: Chain) -> None:
        nodes = [n for n in self.laid.graph.nodes[chain.start : chain.end] if not isinstance(n, QConcat)]
        last = self._tensor(nodes[-1].output)
        height = self.laid.windows[nodes[-1].name].out_size[0]
        step = -(-height // chain.stripes)
        stripes = [self._spans(nodes, first, min(height, first + step)) for first in range(0, height, step)]
        streamed = chain.start == 0 and self.fold is not None
        sources = [self._image_stripe(nodes[0], s[1]) if streamed else self._tensor(nodes[0].input) for s in stripes]
        load = f"load {self.laid.graph.input}"
        if streamed:
            self.jobs.append(LoadJob(load, sources[0]))
        for index, spans in enumerate(stripes):
            jobs = self._stripe_jobs(nodes, spans, sources[index], last)
            if streamed and index + 1 < len(stripes):  # the next stripe of the image comes while this one is computed
                jobs.insert(1, LoadJob(load, sources[index + 1]))
            self.jobs += jobs

    def _spans(self, nodes: list[QConv | QPool], first: int, end: int) -> list[tuple[int, int]]:
        """Rows of the chain's input and of every node's output behind output rows first .. end-1 of its last node."""
        spans = [(first, end)]
        for node in reversed(nodes):
            spans.append(needed_rows(self.laid.windows[node.name], *spans[-1]))
        return spans[::-1]

    def _image_stripe(self, node: QConv | QPool, rows: tuple[int, int]) -> Buffer:
        assert self.fold is not None
        deep = -(-self.laid.windows[node.name].kernel[0] // self.fold.step)
        return self._folded(self.fold, rows[0], rows[1] + deep - 1, f"{self.laid.graph.input} for rows {rows[0]}")

    def _stripe_jobs(
        self, nodes: list[QConv | QPool], spans: list[tuple[int, int]], src: Buffer, last: Buffer
    ) -> list[Job]:
        jobs: list[Job] = []
        for node, (a, b) in zip(nodes, spans[1:], strict=True):
            label = f"{node.output} rows {a}, stripe {spans[-1][0]}"
            dst = last if node is nodes[-1] else self._stripe(node.output, a, b, label)
            jobs.append(EngineJob(node.name, node, src, dst, None, a, b, self._window(node, a, b, src)))
            src = dst
        return jobs

    def _window(self, node: QConv | QPool, first: int, end: int, src: Buffer) -> Window:
        """The layer's window for rows first .. end-1, on the rows that src holds."""
        full = self.laid.windows[node.name]
        top = full.top - full.stride * first + src.y0
        sizes = (src.rows, full.in_size[1]), (end - first, full.out_size[1])
        return Window(full.kernel, full.stride, top, full.left, *sizes)


def needed_rows(window: Window, first: int, end: int) -> tuple[int, int]:
    """Input rows that output rows first .. end-1 read, at least one."""
    low = max(0, window.stride * first - window.top)
    high = min(window.in_size[0], window.stride * (end - 1) + window.kernel[0] - window.top)
    low = min(low, window.in_size[0] - 1)
    return low, max(high, low + 1)


def make_schedule(
    laid: LaidOut,
    fold: FoldSpec | None,
    load_words: int,
    arch: ArchConfig,
    in_place: bool = False,
    chains: tuple[Chain, ...] = (),
) -> Schedule:
    """The schedule of a laid-out graph.

    load_words: least words per chunk of the input buffer (see `plan`).  in_place: results overwrite a residual input at
    its last use.  chains: what is cut into stripes.
    """
    return Builder(laid, fold, load_words, arch, in_place).build(chains)
