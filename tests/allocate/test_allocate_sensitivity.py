"""Costs of widths on a network small enough to see through."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitloom.allocate.hbp import LayerCosts, allocate
from bitloom.allocate.sensitivity import SensitivityOptions, layer_costs
from bitloom.graph.ir import Conv, Flatten, GlobalAvgPool, Graph, Input, Linear, Node, Relu
from bitloom.quantize.lower import lower
from bitloom.quantize.rounding import RoundedLayer, round_layer


@pytest.fixture(scope="module")
def network() -> tuple[Graph, dict[str, RoundedLayer], torch.Tensor]:
    """Convolution, a selection of its channels (weights 0 and 1, exact at two bits), a linear layer."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.5, (6, 1, 3, 3)).astype(np.float32)
    weight[5] = 0.0  # a dead channel
    select = np.eye(6, dtype=np.float32).reshape(6, 6, 1, 1)
    head = rng.normal(0, 3.0, (4, 6)).astype(np.float32)
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
    rounded = {
        n: round_layer(w.reshape(len(w), -1), None) for n, w in (("conv", weight), ("select", select), ("head", head))
    }
    images = torch.from_numpy(
        rng.normal(0, 1, (32, 1, 8, 8)).astype(np.float32) * rng.uniform(0.2, 3, (32, 1, 1, 1)).astype(np.float32)
    )
    return graph, rounded, images


def costs_of(network: tuple[Graph, dict[str, RoundedLayer], torch.Tensor]) -> dict[str, LayerCosts]:
    graph, rounded, images = network
    return layer_costs(graph, lower(graph), rounded, images, SensitivityOptions(images=32, batch=8))


def test_costs_are_not_negative_and_fall_with_width(
    network: tuple[Graph, dict[str, RoundedLayer], torch.Tensor],
) -> None:
    for name, layer in costs_of(network).items():
        assert layer.cost.shape == (len(network[0][name].op.weight), 8)  # type: ignore[union-attr]
        assert (layer.cost >= 0).all() and (np.diff(layer.cost, axis=1) <= 0).all()
    assert {n: c.weights for n, c in costs_of(network).items()} == {"conv": 9, "select": 6, "head": 6}


def test_a_layer_exact_at_two_bits_is_free_there_and_dear_to_prune(
    network: tuple[Graph, dict[str, RoundedLayer], torch.Tensor],
) -> None:
    costs = costs_of(network)
    assert costs["select"].cost[:, 1:].max() == 0.0
    assert costs["select"].cost[:, 0].sum() > 1e-3
    bits = allocate(costs, network[1]["conv"].widths, 4 * 114).allocation.bits
    assert set(bits["select"].tolist()) == {2}


def test_a_dead_channel_costs_nothing_and_is_pruned(
    network: tuple[Graph, dict[str, RoundedLayer], torch.Tensor],
) -> None:
    costs = costs_of(network)
    assert (costs["conv"].cost[5] == 0.0).all()
    assert allocate(costs, network[1]["conv"].widths, 4 * 114).allocation.bits["conv"][5] == 0
