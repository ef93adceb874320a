"""Small float graphs of every kind of layer, their images, and how far an integer network is from them."""

from __future__ import annotations

import numpy as np
import torch

from bitloom.graph.execute import execute
from bitloom.graph.ir import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Op,
    Pads,
    Relu,
)
from bitloom.graph.qgraph import QuantGraph
from bitloom.reference.fast import quantize_input, run_fast

ZERO: Pads = (0, 0, 0, 0)
ONE: Pads = (1, 1, 1, 1)


def random_conv(rng: np.random.Generator, out: int, cin: int, k: int, stride: int = 1) -> Conv:
    weight = rng.standard_normal((out, cin, k, k)) / np.sqrt(cin * k * k)
    bias = 0.1 * rng.standard_normal(out)
    pad = k // 2
    return Conv(weight.astype(np.float32), bias.astype(np.float32), (stride, stride), (pad, pad, pad, pad))


def graph_of(*nodes: tuple[str, Op, tuple[str, ...]]) -> Graph:
    return Graph("net", tuple(Node(*n) for n in nodes), nodes[-1][0])


def branching_graph() -> Graph:
    rng = np.random.default_rng(0)
    linear = Linear((rng.standard_normal((7, 21 * 6 * 6)) / 25).astype(np.float32), np.zeros(7, np.float32))
    return graph_of(
        ("in", Input((3, 11, 10)), ()),
        ("c1", random_conv(rng, 8, 3, 3), ("in",)),
        ("r1", Relu(), ("c1",)),
        ("c2", random_conv(rng, 8, 8, 3), ("r1",)),
        ("add", Add(), ("c2", "r1")),
        ("r2", Relu(6.0), ("add",)),
        ("mp", MaxPool((3, 3), (2, 2), ZERO, True), ("r2",)),
        ("c3", random_conv(rng, 5, 8, 1), ("mp",)),
        ("cat", Concat(), ("c3", "mp", "mp")),
        ("ap", AvgPool((2, 2), (1, 1), ONE), ("cat",)),
        ("fl", Flatten(), ("ap",)),
        ("fc", linear, ("fl",)),
    )


def images_of(graph: Graph, n: int = 24) -> torch.Tensor:
    op = graph.input.op
    assert isinstance(op, Input)
    return torch.randn((n, *op.shape), generator=torch.Generator().manual_seed(3))


def reals(qgraph: QuantGraph, codes: np.ndarray, name: str) -> np.ndarray:
    tensor = qgraph.tensors[name]
    return (codes.astype(np.float64) - tensor.zero_point) * tensor.scale


def logit_error(graph: Graph, qgraph: QuantGraph, images: torch.Tensor) -> float:
    """Relative RMS error of the logits against float."""
    y = execute(graph, images)[graph.output].flatten(1).double().numpy()
    out = run_fast(qgraph, quantize_input(qgraph, images))[qgraph.output]
    return float(np.sqrt(np.square(reals(qgraph, out, qgraph.output).reshape(y.shape) - y).mean() / y.var()))
