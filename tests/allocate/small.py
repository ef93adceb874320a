"""A network small enough to see through: convolution, a selection of its channels, a linear layer."""

from __future__ import annotations

import numpy as np
import torch

from bitloom.graph.ir import Conv, Flatten, GlobalAvgPool, Graph, Input, Linear, Node, Relu
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.rounding import RoundedLayer, round_layer


def tiny() -> tuple[Graph, Calibration, dict[str, RoundedLayer], torch.Tensor]:
    """Channel 5 of `conv` is dead, `select` is exact at two bits, row 3 of `select` feeds nothing on."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.5, (6, 1, 3, 3)).astype(np.float32)
    weight[5] = 0.0
    select = np.eye(6, dtype=np.float32).reshape(6, 6, 1, 1)
    head = rng.normal(0, 3.0, (4, 6)).astype(np.float32)
    head[:, 3] = 0.0
    zeros = np.zeros(6, np.float32)
    nodes = (
        Node("x", Input((1, 8, 8)), ()),
        Node("conv", Conv(weight, zeros, (1, 1), (1, 1, 1, 1)), ("x",)),
        Node("relu", Relu(), ("conv",)),
        Node("select", Conv(select, zeros, (1, 1), (0, 0, 0, 0)), ("relu",)),
        Node("pool", GlobalAvgPool(), ("select",)),
        Node("flat", Flatten(), ("pool",)),
        Node("head", Linear(head, np.zeros(4, np.float32)), ("flat",)),
    )
    graph = Graph("tiny", nodes, "head")
    images = torch.from_numpy((rng.normal(0, 1, (64, 1, 8, 8)) * rng.uniform(0.2, 3, (64, 1, 1, 1))).astype(np.float32))
    calibration = calibrate(graph, images[:32])
    rounded = {s.name: round_layer(s.weight.reshape(len(s.weight), -1), None) for s in calibration.lowered.convs}
    return graph, calibration, rounded, images[32:]
