"""A small residual network with images, for tests of training and reconstruction."""

from __future__ import annotations

import numpy as np
import torch

from bitloom.graph.allocation import BitAllocation
from bitloom.graph.ir import Add, AvgPool, Conv, Flatten, Graph, Input, Linear, MaxPool, Node, Op, Relu
from bitloom.graph.qgraph import QuantGraph
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.quantize import quantize


def residual_graph(seed: int = 0) -> Graph:
    """3x12x12 images: convolution, maximum pool, residual block with ReLU6, average pool, 5 classes; channel 2 dead."""
    rng = np.random.default_rng(seed)

    def conv(out: int, cin: int, k: int) -> Conv:
        weight = (rng.standard_normal((out, cin, k, k)) / np.sqrt(cin * k * k)).astype(np.float32)
        pad = k // 2
        return Conv(weight, (0.1 * rng.standard_normal(out)).astype(np.float32), (1, 1), (pad, pad, pad, pad))

    first = conv(8, 3, 3)
    first.weight[2], first.bias[2] = 0.0, 0.0
    head = Linear((rng.standard_normal((5, 8 * 9)) / 8).astype(np.float32), np.zeros(5, np.float32))
    nodes: tuple[tuple[str, Op, tuple[str, ...]], ...] = (
        ("in", Input((3, 12, 12)), ()),
        ("c1", first, ("in",)),
        ("r1", Relu(), ("c1",)),
        ("mp", MaxPool((2, 2), (2, 2), (0, 0, 0, 0)), ("r1",)),
        ("c2", conv(8, 8, 3), ("mp",)),
        ("r2", Relu(6.0), ("c2",)),
        ("c3", conv(8, 8, 3), ("r2",)),
        ("add", Add(), ("c3", "mp")),
        ("r3", Relu(), ("add",)),
        ("ap", AvgPool((2, 2), (2, 2), (0, 0, 0, 0)), ("r3",)),
        ("fl", Flatten(), ("ap",)),
        ("fc", head, ("fl",)),
    )
    return Graph("small", tuple(Node(*n) for n in nodes), "fc")


def images(n: int = 40, seed: int = 3) -> torch.Tensor:
    """Smooth random images (n, 3, 12, 12)."""
    noise = torch.randn((n, 3, 14, 14), generator=torch.Generator().manual_seed(seed))
    return 3.0 * torch.nn.functional.avg_pool2d(noise, 3, 1)


def mixed_widths(graph: Graph, seed: int = 0, choices: tuple[int, ...] = (0, 1, 2, 3, 4)) -> BitAllocation:
    """Random widths of every channel; the last layer has 4 bits."""
    rng = np.random.default_rng(seed)
    layers = {n.name: n.op.weight for n in graph.nodes if isinstance(n.op, Conv | Linear)}
    bits = {name: rng.choice(choices, w.shape[0]).astype(np.int8) for name, w in layers.items()}
    bits["fc"] = np.full(5, 4, np.int8)
    return BitAllocation(bits, {name: int(np.prod(w.shape[1:])) for name, w in layers.items()})


def start(seed: int = 0, choices: tuple[int, ...] = (0, 1, 2, 3, 4)) -> tuple[Graph, Calibration, QuantGraph]:
    """The graph, its calibration and its integer network at mixed widths."""
    graph = residual_graph()
    calibration = calibrate(graph, images())
    return graph, calibration, quantize(graph, mixed_widths(graph, seed, choices), calibration)
