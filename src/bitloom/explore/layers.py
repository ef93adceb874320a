"""Architecture-free view of a network: what every command works on, and how its tensors must lie in memory.

`network(qgraph)` lists the layers in execution order. A tensor whose consumers have stride 2 is stored phase-split
(docs/spec/streams.md); where another consumer needs it plain, a 1×1 maximum pool makes the split copy ('relayout').
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bitloom.errors import UnsupportedLayerError
from bitloom.graph.qgraph import QConcat, QConv, QPool, QuantGraph, node_inputs
from bitloom.program.geometry import Reading
from bitloom.program.layouts import (
    COPY_SUFFIX,
    Reader,
    choose_pitch,
    choose_split,
    layout_classes,
    map_widths,
    reader_of,
    window_of_node,
)
from bitloom.program.regions import Layout, chunk_count, layout_of
from bitloom.program.spans import Span, spans

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tensor:
    """Activation tensor. parts: channels of each piece that starts at a chunk border (several after a
    concat). pitch: positions from row to row, of a phase image when split."""

    name: str
    parts: tuple[int, ...]
    height: int
    width: int
    split: bool
    pitch: int

    def chunks(self, channels: int) -> int:
        """Chunks of `channels` channels."""
        return chunk_count(self.parts, channels)

    def layout(self, rows: int, pixels: int) -> Layout:
        """Of `rows` of its rows in banks for `pixels` pixels."""
        return layout_of(self.split, rows, self.pitch, pixels)


@dataclass(frozen=True, eq=False)
class Layer:
    """One CONV or POOL command (of a grouped convolution several; a stripe repeats them).

    pads: top, bottom, left, right. bits: (Cout,), pools have none.

    walk: 1×1 stride-1 work on a phase-split tensor with an output of the same layout: one long row.
    first: only reader of the image, whose input words may hold several pixels (docs/spec/streams.md, Input image).
    """

    name: str
    conv: bool
    input: Tensor
    output: Tensor
    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    residual: bool
    bits: IntArray | None
    macs: int
    reads: tuple[str, ...]
    first: bool = False
    groups: int = 1

    def spans(self, channels: int, vector: int) -> tuple[Span, ...]:
        """The commands of a convolution: vectors of `vector` outputs, and the chunks of `channels` that they read."""
        return spans(self.groups, self.input.parts, self.output.parts, channels, vector)

    @property
    def walk(self) -> bool:
        same = (self.input.height, self.input.width) == (self.output.height, self.output.width)
        return self.kernel == (1, 1) and same and self.input.split and self.output.split


@dataclass(frozen=True, eq=False)
class Network:
    """Layers in order. alias: tensor -> the concat that holds it. weight_bits: Σ bits of all weights."""

    name: str
    layers: tuple[Layer, ...]
    tensors: dict[str, Tensor]
    input: str
    output: str
    alias: dict[str, str] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Useful multiplications of all convolutions and fully connected layers."""
        return sum(layer.macs for layer in self.layers if layer.conv)


def _geometry(node: QConv | QPool, graph: QuantGraph) -> tuple[tuple[int, int], tuple[int, int]]:
    """Kernel and stride; the stride of a single window is immaterial and becomes 1."""
    kernel = (int(node.weight.shape[2]), int(node.weight.shape[3])) if isinstance(node, QConv) else node.kernel
    _, oh, ow = graph.tensors[node.output].shape
    stride = (1, 1) if (oh, ow) == (1, 1) else node.stride
    if stride not in ((1, 1), (2, 2)):
        raise UnsupportedLayerError(
            f"{node.name}: stride {stride[0]}x{stride[1]} has no loop nest; legal: 1x1, 2x2 (or one window in all)"
        )
    return kernel, stride


def _reader(node: QConv | QPool, graph: QuantGraph) -> Reader:
    _geometry(node, graph)  # refuses what has no loop nest
    return reader_of(node, window_of_node(node, graph.tensors[node.input]))


def _layouts(graph: QuantGraph) -> tuple[dict[str, bool], dict[str, int]]:
    """Per tensor: phase-split or plain, and the pitch; a class in which anybody needs plain is plain.

    A residual shares its output's layout unless it is plain with its rows back to back.
    """
    nodes = [n for n in graph.nodes if not isinstance(n, QConcat)]
    readers = [_reader(n, graph) for n in nodes]
    added = {(n.output, n.residual) for n in nodes if n.residual is not None}
    together: set[tuple[str, str]] = set()
    while True:
        split = choose_split(graph.tensors, readers, layout_classes(graph, together))
        pitch = choose_pitch(map_widths(graph), readers, split, layout_classes(graph, together))
        apart = {(o, r) for o, r in added if split[r] or pitch[r] != graph.tensors[r].shape[2]} - together
        if not apart:
            return split, pitch
        together |= apart


def network(graph: QuantGraph) -> Network:
    """The layers of `graph`; raises UnsupportedLayerError for strides without a loop nest."""
    split, pitch = _layouts(graph)
    tensors: dict[str, Tensor] = {}
    layers: list[Layer] = []
    alias: dict[str, str] = {}
    readers = [x for node in graph.nodes for x in node_inputs(node)]

    def make(name: str, parts: tuple[int, ...], height: int, width: int) -> Tensor:
        tensors[name] = Tensor(name, parts, height, width, split[name], pitch[name])
        return tensors[name]

    def relayout(tensor: Tensor, out_width: int) -> Tensor:
        name = tensor.name + COPY_SUFFIX
        if name not in tensors:
            half = max(-(-tensor.width // 2), out_width)
            copy = Tensor(name, tensor.parts, tensor.height, tensor.width, True, half)
            tensors[name] = copy
            layers.append(
                Layer(name, False, tensor, copy, (1, 1), (1, 1), (0, 0, 0, 0), False, None, 0, (tensor.name,))
            )
        return tensors[name]

    c, h, w = graph.tensors[graph.input].shape
    make(graph.input, (c,), h, w)
    for node in graph.nodes:
        oc, oh, ow = graph.tensors[node.output].shape
        if isinstance(node, QConcat):
            make(node.output, tuple(p for x in node.inputs for p in tensors[x].parts), oh, ow)
            alias.update({x: node.output for x in node.inputs})
            continue
        kernel, stride = _geometry(node, graph)
        source = tensors[node.input]
        out = make(node.output, (oc,) if isinstance(node, QConv) else source.parts, oh, ow)
        first = isinstance(node, QConv) and node.input == graph.input and readers.count(node.input) == 1
        if _reader(node, graph).reading is Reading.SPLIT and not source.split:
            source = relayout(source, ow)
        reads = (source.name,) if node.residual is None else (source.name, node.residual)
        bits = node.bits.astype(np.int64) if isinstance(node, QConv) else None
        macs = int(np.prod(node.weight.shape[1:])) * oc * oh * ow if isinstance(node, QConv) else 0
        layers.append(
            Layer(
                node.name, isinstance(node, QConv), source, out, kernel, stride, node.padding,
                node.residual is not None, bits, macs, reads, first, node.groups if isinstance(node, QConv) else 1,
            )
        )  # fmt: skip
    return Network(graph.name, tuple(layers), tensors, graph.input, graph.output, alias)
