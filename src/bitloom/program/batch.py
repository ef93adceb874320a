"""A batch of images in one program: early layers image by image, the others on all images at once.

Tensors behind the cut are *stacked*: the images lie one below the other, like one tall image, so that a vector's
weights are read once for all of them and groups of pixels run across the images' borders. `image_rows` tells the taps
where each image begins. In front of the cut, where tensors are large and weights few, every image has the memory for
itself, and its weights come again with every image. LOAD fetches the next image as soon as the last one has been read;
where nothing is left to do then but to wait for it, images take turns in two places, and the next one comes while one
is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bitloom.graph.qgraph import QConcat, QConv, QPool, node_inputs
from bitloom.program.geometry import Reading
from bitloom.program.inputs import FoldSpec
from bitloom.program.jobs import Buffer, EngineJob, LoadJob, Schedule, StoreJob
from bitloom.program.layouts import LaidOut
from bitloom.program.schedule import Builder
from bitloom.target.arch import ArchConfig


@dataclass(frozen=True)
class Cut:
    """Nodes before `node` run image by image; `stacked` tensors hold all images."""

    node: int
    stacked: frozenset[str]


def cuts(laid: LaidOut) -> tuple[Cut, ...]:
    """Every legal cut, the earliest first; the last one leaves nothing to run on all images at once."""
    found = (_cut(laid, node) for node in range(1, len(laid.graph.nodes) + 1))
    return tuple(cut for cut in found if cut is not None)


def _cut(laid: LaidOut, node: int) -> Cut | None:
    graph = laid.graph
    stacked = {graph.output}
    for later in graph.nodes[node:]:
        stacked.update((*node_inputs(later), later.output))
    concats = [n for n in graph.nodes if isinstance(n, QConcat)]
    before = 0
    while before != len(stacked):
        before = len(stacked)
        for concat in concats:
            together = {*concat.inputs, concat.output}
            if together & stacked:
                stacked |= together
    legal = graph.input not in stacked
    legal = legal and all(graph.tensors[t].shape[1] % 2 == 0 for t in stacked if laid.split[t])
    legal = legal and all(_reaches(laid, n, stacked) for n in graph.nodes[:node] if not isinstance(n, QConcat))
    return Cut(node, frozenset(stacked)) if legal else None


def _reaches(laid: LaidOut, node: QConv | QPool, stacked: set[str]) -> bool:
    """One image of the node can be computed where its tensors lie.

    A split tensor is walked in flat order, and a residual shares the output's banks, only where both lie alike.
    """
    walks = laid.windows[node.name].reading is Reading.FLAT and laid.split[node.input]
    if walks and stacked & {node.input, node.output, node.residual}:
        return False
    res = node.residual
    if res is None or (res in stacked) == (node.output in stacked):
        return True
    return not laid.split[res] and laid.pitch[res] == laid.graph.tensors[res].shape[2]


def stackable(laid: LaidOut, node: QConv | QPool) -> bool:
    """All images at once: from one image to the next, input and output advance by the same number of grid positions."""
    window = laid.windows[node.name]
    rows, out_rows = window.in_size[0], window.out_size[0]
    match window.reading:
        case Reading.ANY:
            return window.in_size == (1, 1)
        case Reading.SPLIT:
            return rows == 2 * out_rows
        case _:
            return rows == out_rows


def last_reader(laid: LaidOut) -> int:
    """The last node that reads the image, or a concatenation that it lies in."""
    names = {laid.graph.input}
    for node in laid.graph.nodes:
        if isinstance(node, QConcat) and not names.isdisjoint(node.inputs):
            names.add(node.output)
    return max(i for i, n in enumerate(laid.graph.nodes) if not names.isdisjoint(node_inputs(n)))


def takes_turns(laid: LaidOut, cut: Cut) -> bool:
    """Images may take turns, and otherwise nothing would be computed while the next one comes."""
    joined = any(isinstance(n, QConcat) and laid.graph.input in n.inputs for n in laid.graph.nodes)
    return not joined and last_reader(laid) == cut.node - 1


@dataclass
class BatchBuilder(Builder):
    """The jobs of `images` images with a cut. turns: images take turns in two places."""

    images: int = 1
    cut: Cut = field(default_factory=lambda: Cut(0, frozenset()))
    turns: bool = False
    image: int = 0  #: the one that is being computed
    times: list[int] = field(default_factory=list)

    def run(self) -> Schedule:
        """The schedule."""
        graph, cut = self.laid.graph, self.cut
        self._place_concats()
        last = last_reader(self.laid)
        coming: Buffer | None = None  # the image that LOAD has been told to fetch
        for image in range(self.images):
            self.image = image
            self.whole = {name: b for name, b in self.whole.items() if name in cut.stacked}
            here = self._load_image(0) if coming is None else coming
            following = image + 1 < self.images
            if self.turns and following:
                coming = self._load_image(image + 1)
            self._stamp(0)
            self.whole[graph.input] = here
            for index, node in enumerate(graph.nodes[: cut.node]):
                self._compute(node, index, stacked=False)
                if index == last and following and not self.turns:
                    coming = self._load_image(image + 1)
                self._stamp(index + 1)
        for index, node in enumerate(graph.nodes[cut.node :], cut.node):
            self._compute(node, index, stacked=True)
            self._stamp(index + 1)
        self.jobs.append(StoreJob(f"store {graph.output}", self._tensor(graph.output)))
        self._stamp(len(graph.nodes) + 1)
        early = {self.whole[n.output].region for n in graph.nodes[: cut.node] if n.output in cut.stacked}
        images = {job.buffer.region for job in self.jobs if isinstance(job, LoadJob)}
        kept = frozenset(early | images)
        whole = {name: b for name, b in self.whole.items() if name in cut.stacked}
        return Schedule(tuple(self.jobs), self.region_rows, whole, tuple(self.times), kept, cut.node)

    def _stamp(self, time: int) -> None:
        """The jobs that have none yet take place at `time`."""
        self.times += [time] * (len(self.jobs) - len(self.times))

    def _region(self, name: str) -> str:
        odd = self.turns and name == self.laid.graph.input and self.image % 2
        return f"{name}, odd images" if odd else name

    def _rows(self, name: str) -> tuple[int, int]:
        rows = self.laid.graph.tensors[name].shape[1]
        return (0, self.images * rows) if name in self.cut.stacked else (self.image * rows, rows)

    def _load_image(self, image: int) -> Buffer:
        name, current = self.laid.graph.input, self.image
        self.image = image
        self.whole.pop(name, None)
        self._load_input()
        job = self.jobs[-1]
        assert isinstance(job, LoadJob)
        self.jobs[-1] = LoadJob(job.name, job.buffer, image)
        self.image = current
        return job.buffer

    def _compute(self, node: QConv | QPool | QConcat, index: int, stacked: bool) -> None:
        if isinstance(node, QConcat):
            self._tensor(node.output)
            return
        window = self.laid.windows[node.name]
        height = window.out_size[0]
        src, dst, residual = self._operands(node, index)
        if stacked and stackable(self.laid, node):
            self.jobs.append(
                EngineJob(node.name, node, src, dst, residual, 0, self.images * height, window, self.images)
            )
            return
        for image in range(self.images) if stacked else (self.image,):
            row = image * window.in_size[0] - src.y0 if src.segments else 0
            span = (image * height, (image + 1) * height)
            self.jobs.append(EngineJob(node.name, node, src, dst, residual, *span, window, 1, row))


def batch_schedule(
    laid: LaidOut,
    fold: FoldSpec | None,
    load_words: int,
    arch: ArchConfig,
    in_place: bool,
    images: int,
    cut: Cut,
    turns: bool = False,
) -> Schedule:
    """The schedule of a batch; arguments as of `make_schedule` and `BatchBuilder`."""
    return BatchBuilder(laid, fold, load_words, arch, in_place, images=images, cut=cut, turns=turns).run()
