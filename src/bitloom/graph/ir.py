"""The float graph: a frozen list of nodes in topological order, batch dimension left out.

Grammar (shapes are (C, H, W); after Flatten and Linear (C,)):

    Input(shape) | Conv(weight, bias, stride, padding, groups) | Linear(weight, bias) | Relu(limit) | Add(x, y)
    | MaxPool(kernel, stride, padding, ceil_mode) | AvgPool(same) | GlobalAvgPool | Flatten | Concat(x, y, ...)

Batch normalization is folded by the front ends (`bitloom.graph.fold`), so it never appears here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Pads = tuple[int, int, int, int]  #: top, bottom, left, right
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Input:
    """The image, normalised as the network wants it."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Conv:
    """2-D convolution: weight (Cout, Cin / groups, KH, KW) float32, bias (Cout,) float32.

    Output channels of group g, Cout / groups of them, read the input channels of group g alone; depthwise: Cin groups.
    """

    weight: FloatArray
    bias: FloatArray
    stride: tuple[int, int]
    padding: Pads
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Linear:
    """Fully connected: weight (Cout, Cin), bias (Cout,)."""

    weight: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class Relu:
    """min(max(x, 0), limit); limit None means no upper bound, 6.0 is ReLU6."""

    limit: float | None = None


@dataclass(frozen=True)
class Add:
    """Sum of two tensors of one shape."""


@dataclass(frozen=True)
class MaxPool:
    """Maximum over a window; padding counts as -infinity."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads
    ceil_mode: bool = False


@dataclass(frozen=True)
class AvgPool:
    """Mean over a window; padded zeros count (count_include_pad)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads
    ceil_mode: bool = False


@dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over H and W, kept as (C, 1, 1)."""


@dataclass(frozen=True)
class Flatten:
    """(C, H, W) -> (C*H*W,), channel-major as PyTorch does."""


@dataclass(frozen=True)
class Concat:
    """Concatenation of channels."""


Op = Input | Conv | Linear | Relu | Add | MaxPool | AvgPool | GlobalAvgPool | Flatten | Concat


@dataclass(frozen=True, eq=False)
class Node:
    """One operation; its name is the name of the tensor it makes."""

    name: str
    op: Op
    inputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network: nodes in topological order, the first is the Input; `output` names the last tensor (logits)."""

    name: str
    nodes: tuple[Node, ...]
    output: str

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise KeyError(name)

    @property
    def input(self) -> Node:
        """The Input node."""
        return self.nodes[0]
