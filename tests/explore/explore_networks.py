"""Networks of the right shapes without data, for the tests of the explorer: weights are zero-stride arrays."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from bitloom.graph.ir import Add, Conv, Flatten, GlobalAvgPool, Graph, Input, Linear, MaxPool, Node, Op, Relu


class Builder:
    """Appends nodes; every method returns the name of the new tensor."""

    def __init__(self, name: str, shape: tuple[int, int, int]) -> None:
        self.name = name
        self.nodes = [Node("x", Input(shape), ())]

    def add(self, op: Op, *inputs: str) -> str:
        name = f"{type(op).__name__.lower()}{len(self.nodes)}"
        self.nodes.append(Node(name, op, inputs))
        return name

    def conv(
        self, x: str, cin: int, cout: int, k: int, stride: int = 1, relu: bool = True, pad: int | None = None,
        groups: int = 1,
    ) -> str:  # fmt: skip
        p = k // 2 if pad is None else pad
        weight = np.broadcast_to(np.zeros(1, np.float32), (cout, cin // groups, k, k))
        y = self.add(Conv(weight, np.zeros(cout, np.float32), (stride, stride), (p, p, p, p), groups), x)
        return self.add(Relu(), y) if relu else y

    def inverted(self, x: str, cin: int, wide: int, cout: int, stride: int = 1) -> str:
        """An inverted residual: 1×1, depthwise 3×3, 1×1 and, where the shapes allow it, the input added."""
        y = self.conv(self.conv(x, cin, wide, 1), wide, wide, 3, stride, groups=wide)
        y = self.conv(y, wide, cout, 1, relu=False)
        return self.add(Add(), y, x) if stride == 1 and cin == cout else y

    def linear(self, x: str, cin: int, cout: int) -> str:
        weight = np.broadcast_to(np.zeros(1, np.float32), (cout, cin))
        return self.add(Linear(weight, np.zeros(cout, np.float32)), x)

    def graph(self, output: str) -> Graph:
        return Graph(self.name, tuple(self.nodes), output)


@lru_cache
def resnet(depth: int) -> Graph:
    """ResNet-18, 34 or 50 at 224×224."""
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}[depth]
    b = Builder(f"resnet{depth}", (3, 224, 224))
    x = b.add(MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), b.conv("x", 3, 64, 7, 2))
    cin, wide = 64, 4 if depth == 50 else 1
    for stage, count in enumerate(blocks):
        mid = 64 << stage
        for i in range(count):
            stride = 2 if i == 0 and stage > 0 else 1
            if depth == 50:
                y = b.conv(b.conv(x, cin, mid, 1), mid, mid, 3, stride)
                y = b.conv(y, mid, mid * 4, 1, relu=False)
            else:
                y = b.conv(b.conv(x, cin, mid, 3, stride), mid, mid, 3, relu=False)
            skip = x if stride == 1 and cin == mid * wide else b.conv(x, cin, mid * wide, 1, stride, relu=False)
            x = b.add(Relu(), b.add(Add(), y, skip))
            cin = mid * wide
    return b.graph(b.linear(b.add(Flatten(), b.add(GlobalAvgPool(), x)), cin, 1000))


@lru_cache
def vgg16() -> Graph:
    """VGG-16 at 224×224 with its fully connected layers."""
    b = Builder("vgg16", (3, 224, 224))
    x, cin = "x", 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            x, cin = b.conv(x, cin, width, 3), width
        x = b.add(MaxPool((2, 2), (2, 2), (0, 0, 0, 0)), x)
    x = b.add(Relu(), b.linear(b.add(Flatten(), x), 25088, 4096))
    return b.graph(b.linear(b.add(Relu(), b.linear(x, 4096, 4096)), 4096, 1000))


@lru_cache
def tiny() -> Graph:
    """A residual network of 8×8 images, as small as it can be with every kind of layer."""
    b = Builder("tiny", (1, 8, 8))
    x = b.conv("x", 1, 8, 3)
    x = b.add(Relu(), b.add(Add(), b.conv(b.conv(x, 8, 8, 3), 8, 8, 3, relu=False), x))
    y = b.conv(b.conv(x, 8, 16, 3, 2), 16, 16, 3, relu=False)
    x = b.add(Relu(), b.add(Add(), y, b.conv(x, 8, 16, 1, 2, relu=False)))
    return b.graph(b.linear(b.add(Flatten(), b.add(GlobalAvgPool(), x)), 16, 10))


@lru_cache
def mobile() -> Graph:
    """Inverted residuals of strides 1 and 2 on 32×32 images, one layer of four groups, and a classifier."""
    b = Builder("mobile", (3, 32, 32))
    x = b.inverted(b.conv("x", 3, 32, 3, 2), 32, 96, 32)
    x = b.inverted(x, 32, 160, 48, 2)
    x = b.conv(b.inverted(x, 48, 200, 48), 48, 128, 3, groups=4)
    return b.graph(b.linear(b.add(Flatten(), b.add(GlobalAvgPool(), x)), 128, 10))
