"""Chooses the layout of every tensor, and inserts a copy only where two readers cannot share one.

A tensor read with stride 2 is phase-split, one read by a window of stride 1 is plain. Concatenated tensors and their
result share a layout, and so do input, output and residual of a pixel-wise layer that walks a split tensor in flat
order. A residual may lie otherwise than the output only where it is plain with its rows back to back: consecutive
written positions are then consecutive there, hence in distinct banks. A class of tensors in which somebody needs plain
is plain; its readers of stride 2 get a phase-split copy, made by a 1×1 maximum pool whose requantization is the
identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bitloom.errors import UnsupportedLayerError
from bitloom.graph.qgraph import QConcat, QConv, QNode, QPool, QTensor, QuantGraph
from bitloom.graph.ties import Classes
from bitloom.numerics.requantize import IDENTITY
from bitloom.program.geometry import Reading, Window, window_of
from bitloom.program.regions import canonical_segments

COPY_SUFFIX = ".split"


@dataclass(frozen=True, eq=False)
class LaidOut:
    """A graph with its copies, and per tensor: split or plain, pitch (of the phase image when split), segments.

    windows: by node name.  copies: name of a copy -> tensor that it holds.
    """

    graph: QuantGraph
    split: dict[str, bool]
    pitch: dict[str, int]
    segments: dict[str, tuple[int, ...]]
    windows: dict[str, Window]
    copies: dict[str, str]


def window_of_node(node: QConv | QPool, tensor: QTensor) -> Window:
    """The window of a layer on its input tensor."""
    kernel = node.kernel if isinstance(node, QPool) else (int(node.weight.shape[2]), int(node.weight.shape[3]))
    return window_of(node.name, kernel, node.stride, node.padding, tensor.shape[1:])


@dataclass(frozen=True)
class Reader:
    """A layer as the reader of its input. writes: its output and its residual; columns: of its output's map."""

    input: str
    writes: tuple[str, ...]
    reading: Reading
    columns: int


def reader_of(node: QConv | QPool, window: Window) -> Reader:
    """What `node` demands of its input's layout."""
    writes = (node.output,) if node.residual is None else (node.output, node.residual)
    return Reader(node.input, writes, window.reading, window.out_size[1])


def lay_out(graph: QuantGraph, channels: int, folded: bool, in_place: bool = False, plain: bool = False) -> LaidOut:
    """Layouts of all tensors for chunks of `channels`; folded: the input's only reader takes it through the fold.

    in_place: every residual shares the layout of its output, so that it may be overwritten.
    plain: no tensor is phase-split but copies for readers of stride 2.
    """
    windows = {n.name: window_of_node(n, graph.tensors[n.input]) for n in graph.nodes if not isinstance(n, QConcat)}
    skip = graph.input if folded else None
    added = {(n.output, n.residual) for n in graph.nodes if not isinstance(n, QConcat) and n.residual is not None}
    together = added if in_place else set[tuple[str, str]]()  # residuals that share the layout of their output
    while True:
        split_of = dict.fromkeys(graph.tensors, False)
        if not plain:
            split_of = choose_split(graph.tensors, _readers(graph, windows, skip), layout_classes(graph, together))
        laid_graph, copies = _insert_copies(graph, windows, split_of, skip)
        for node in laid_graph.nodes:
            if node.name not in windows and isinstance(node, QPool):
                windows[node.name] = window_of_node(node, laid_graph.tensors[node.input])
        readers, classes = _readers(laid_graph, windows, skip), layout_classes(laid_graph, together)
        pitch = choose_pitch(map_widths(laid_graph), readers, split_of, classes)
        apart = {p for p in added - together if split_of[p[1]] or pitch[p[1]] != graph.tensors[p[1]].shape[2]}
        if not apart:
            return LaidOut(laid_graph, split_of, pitch, _segments(laid_graph, channels), windows, copies)
        together = together | apart


def layout_classes(graph: QuantGraph, together: Iterable[tuple[str, str]]) -> Classes:
    """Tensors that share a layout: pairs of `together`, and concatenated tensors with their result."""
    classes = Classes()
    for a, b in together:
        classes.join(a, b)
    for node in graph.nodes:
        if isinstance(node, QConcat):
            for name in node.inputs:
                classes.join(node.output, name)
    return classes


def choose_split(tensors: Iterable[str], readers: Sequence[Reader], classes: Classes) -> dict[str, bool]:
    """Tensor -> whether it is phase-split. `classes` gains what readers in flat order tie together."""
    plain = {r.input for r in readers if r.reading is Reading.PLAIN}
    split = {r.input for r in readers if r.reading is Reading.SPLIT}
    changed = True
    while changed:
        changed = False
        plain_classes = {classes.find(t) for t in plain}
        split_classes = {classes.find(t) for t in split} - plain_classes
        for reader in readers:
            here = classes.find(reader.input)
            others = {classes.find(t) for t in reader.writes} - {here}
            if reader.reading is not Reading.FLAT or here not in split_classes or not others:
                continue
            if others & plain_classes:
                plain.add(reader.input)
            else:
                for other in others:
                    classes.join(here, other)
            changed = True
            break
    return {t: classes.find(t) in split_classes for t in tensors}


def choose_pitch(
    widths: Mapping[str, int], readers: Sequence[Reader], split: Mapping[str, bool], classes: Classes
) -> dict[str, int]:
    """Tensor -> positions from row to row (of a phase image when split); one for each of `classes`, which gain what
    readers in flat order tie together.

    widths: of the tensors' maps. A reader of stride 2 of a plain tensor counts for the copy that it gets, not here.
    """
    need = {name: -(-width // 2) if split[name] else width for name, width in widths.items()}
    for reader in readers:
        if reader.reading in (Reading.PLAIN, Reading.SPLIT):
            if split[reader.input] == (reader.reading is Reading.SPLIT):
                need[reader.input] = max(need[reader.input], reader.columns)
        elif reader.reading is Reading.FLAT and split[reader.input]:
            for name in reader.writes:
                classes.join(reader.input, name)
    pitch: dict[str, int] = {}
    for name, least in need.items():
        root = classes.find(name)
        pitch[root] = max(pitch.get(root, 0), least)
    return {name: pitch[classes.find(name)] for name in widths}


def map_widths(graph: QuantGraph) -> dict[str, int]:
    """Tensor -> columns of its map."""
    return {name: tensor.shape[2] for name, tensor in graph.tensors.items()}


def _readers(graph: QuantGraph, windows: dict[str, Window], skip: str | None) -> list[Reader]:
    nodes = (n for n in graph.nodes if not isinstance(n, QConcat) and n.input != skip)
    return [reader_of(node, windows[node.name]) for node in nodes]


def _insert_copies(
    graph: QuantGraph, windows: dict[str, Window], split_of: dict[str, bool], skip: str | None
) -> tuple[QuantGraph, dict[str, str]]:
    tensors, nodes, copies = dict(graph.tensors), list[QNode](), dict[str, str]()
    for node in graph.nodes:
        if isinstance(node, QConcat) or node.input == skip or split_of[node.input]:
            nodes.append(node)
            continue
        if windows[node.name].reading is Reading.SPLIT:
            copy = node.input + COPY_SUFFIX
            if copy not in tensors:
                tensors[copy] = replace(tensors[node.input], name=copy)
                split_of[copy] = True
                copies[copy] = node.input
                nodes.append(QPool(copy, node.input, copy, True, (1, 1), (1, 1), (0, 0, 0, 0), 0, IDENTITY))
            node = replace(node, input=copy)
        nodes.append(node)
    return QuantGraph(graph.name, tensors, tuple(nodes), graph.input, graph.output), copies


def _segments(graph: QuantGraph, channels: int) -> dict[str, tuple[int, ...]]:
    """Pools keep channels in place; a concatenation leaves holes after inputs that do not fill their last chunk."""
    classes = Classes()
    for node in graph.nodes:
        if isinstance(node, QPool):
            classes.join(node.input, node.output)
        if not isinstance(node, QConcat) and node.residual is not None:
            classes.join(node.residual, node.output)
        if isinstance(node, QConcat) and len(node.inputs) == 1:
            classes.join(node.inputs[0], node.output)
    known: dict[str, tuple[int, ...]] = {}

    def of(name: str) -> tuple[int, ...]:
        root = classes.find(name)
        if root not in known:
            result: tuple[int, ...] | None = None
            for node in graph.nodes:
                if not isinstance(node, QConcat) or len(node.inputs) == 1 or classes.find(node.output) != root:
                    continue
                joined = canonical_segments(tuple(s for x in node.inputs for s in of(x)), channels)
                if result is not None and result != joined:
                    raise UnsupportedLayerError(
                        f"{node.name}: channel groups {joined} meet {result} in one sum, and they are not multiples of "
                        f"the chunk of {channels} channels; use channel counts that are multiples of {channels}"
                    )
                result = joined
            known[root] = result if result is not None else (graph.tensors[name].shape[0],)
        return known[root]

    return {name: of(name) for name in graph.tensors}
