"""Architecture-free view of a network: what every command works on, and how its tensors must lie in memory.

`network(qgraph)` lists the layers in execution order. A tensor whose consumers have stride 2 is stored phase-split
(docs/spec/streams.md); where another consumer needs it plain, a 1×1 maximum pool makes the split copy ('relayout').
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bitloom.errors import UnsupportedLayerError
from bitloom.quantize.qgraph import QConcat, QConv, QNode, QPool, QuantGraph

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tensor:
    """Activation tensor. parts: channels of each piece that starts at a chunk border (several after a concat)."""

    name: str
    parts: tuple[int, ...]
    height: int
    width: int
    split: bool

    def chunks(self, channels: int) -> int:
        """Chunks of `channels` channels."""
        return sum(-(-p // channels) for p in self.parts)


@dataclass(frozen=True, eq=False)
class Layer:
    """One CONV or POOL command (a stripe repeats it). pads: top, bottom, left, right. bits: (Cout,), pools have none.

    walk: 1×1 stride-1 work on a phase-split tensor with an output of the same layout: one long row.
    folded: the first convolution, whose input words hold several pixels (docs/spec/streams.md, Input image).
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
    folded: bool = False

    @property
    def walk(self) -> bool:
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.input.split and self.output.split


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

    @property
    def conv_layers(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.conv)


def _reads(node: QNode) -> tuple[str, ...]:
    if isinstance(node, QConcat):
        return node.inputs
    return (node.input,) if node.residual is None else (node.input, node.residual)


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


def _wants(graph: QuantGraph) -> dict[str, set[bool]]:
    """Layouts (True: phase-split) that the consumers of each tensor need, walking backwards."""
    wants: dict[str, set[bool]] = {name: set() for name in graph.tensors}
    for node in reversed(graph.nodes):
        out = wants[node.output]
        main = {_main(out)} if out else set()
        if isinstance(node, QConcat):
            for x in node.inputs:
                wants[x] |= main
            continue
        kernel, stride = _geometry(node, graph)
        _, oh, ow = graph.tensors[node.output].shape
        if stride == (2, 2):
            wants[node.input].add(True)
        elif kernel == (1, 1):
            wants[node.input] |= main
        elif (oh, ow) != (1, 1):
            wants[node.input].add(False)
        if node.residual is not None:
            wants[node.residual] |= main
    return wants


def _main(wants: set[bool]) -> bool:
    """Layout in which the producer writes: split only when nobody needs plain."""
    return wants == {True}


def network(graph: QuantGraph) -> Network:
    """The layers of `graph`; raises UnsupportedLayerError for strides without a loop nest."""
    wants = _wants(graph)
    tensors: dict[str, Tensor] = {}
    layers: list[Layer] = []
    alias: dict[str, str] = {}

    def make(name: str, parts: tuple[int, ...], height: int, width: int) -> Tensor:
        tensors[name] = Tensor(name, parts, height, width, _main(wants[name]) and height * width > 1)
        return tensors[name]

    def relayout(tensor: Tensor) -> Tensor:
        name = f"{tensor.name}.split"
        if name not in tensors:
            copy = Tensor(name, tensor.parts, tensor.height, tensor.width, True)
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
            parts = tuple(p for x in node.inputs for p in tensors[x].parts)
            make(node.output, parts, oh, ow)
            alias.update({x: node.output for x in node.inputs})
            continue
        kernel, stride = _geometry(node, graph)
        source = tensors[node.input]
        parts = (oc,) if isinstance(node, QConv) else source.parts
        out = make(node.output, parts, oh, ow)
        folded = isinstance(node, QConv) and node.input == graph.input and source.parts[0] <= 4 and kernel != (1, 1)
        needs_split = stride == (2, 2) or (kernel == (1, 1) and out.split)
        if needs_split and not source.split and not folded:
            source = relayout(source)
        reads = [source.name]
        if node.residual is not None:
            other = tensors[node.residual]
            reads.append((relayout(other) if out.split and not other.split else other).name)
        bits = node.bits.astype(np.int64) if isinstance(node, QConv) else None
        macs = int(np.prod(node.weight.shape[1:])) * oc * oh * ow if isinstance(node, QConv) else 0
        layers.append(
            Layer(
                node.name, isinstance(node, QConv), source, out, kernel, stride, node.padding,
                node.residual is not None, bits, macs, tuple(reads), folded,
            )
        )  # fmt: skip
    return Network(graph.name, tuple(layers), tensors, graph.input, graph.output, alias)
