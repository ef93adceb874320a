"""Fusion: which nodes are one step, and what integers cannot express."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.errors import GraphError, UnsupportedLayerError
from bitloom.graph.allocation import uniform
from bitloom.graph.ir import (
    Add,
    AvgPool,
    Conv,
    Input,
    Relu,
)
from bitloom.quantize.lower import ConvStep, PoolStep, lower, step_inputs
from bitloom.quantize.observe import calibrate
from bitloom.quantize.quantize import quantize
from quantize.float_graphs import ZERO, branching_graph, graph_of, images_of, logit_error, random_conv


def test_fusion_of_a_residual_network() -> None:
    lowered = lower(branching_graph())
    assert [s.name for s in lowered.steps] == ["c1", "c2", "mp", "c3", "cat.copy2", "cat", "ap", "fc"]
    first, second, pool = lowered.steps[:3]
    assert isinstance(first, ConvStep) and first.output == "r1" and first.relu == Relu()
    assert isinstance(second, ConvStep) and second.residual == "r1" and second.relu == Relu(6.0)
    assert isinstance(pool, PoolStep) and pool.padding == (0, 0, 0, 1) and lowered.shapes["mp"] == (8, 5, 5)
    assert lowered.convs[-1].weight.shape == (7, 21, 6, 6)
    assert lowered.group["cat"] == lowered.group["mp"] == lowered.group["r2"] == lowered.group["cat.copy2"]


def test_every_tensor_is_spent_once_and_after_its_last_reader() -> None:
    lowered = lower(branching_graph())
    spent = lowered.spent(lowered.output)
    assert sorted(name for names in spent for name in names) == sorted(lowered.shapes.keys() - {lowered.output})
    for index, names in enumerate(spent):
        later = {name for step in lowered.steps[index + 1 :] for name in step_inputs(step)}
        assert not later & set(names)
    assert spent[1] == ("r1",) and lowered.spent()[-1][-1] == lowered.output


def test_the_addition_joins_the_convolution_computed_last() -> None:
    rng = np.random.default_rng(1)
    nodes = (
        ("in", Input((4, 6, 6)), ()),
        ("main", random_conv(rng, 4, 4, 3), ("in",)),
        ("short", random_conv(rng, 4, 4, 1), ("in",)),
        ("add", Add(), ("main", "short")),
        ("again", Add(), ("add", "add")),
        ("relu", Relu(), ("in",)),
        ("both", Add(), ("again", "relu")),
    )
    steps = lower(graph_of(*nodes)).steps
    assert [(s.name, s.output) for s in steps] == [
        ("main", "main"), ("short", "add"), ("again", "again"), ("relu", "relu"), ("both", "both"),
    ]  # fmt: skip
    assert isinstance(steps[1], ConvStep) and steps[1].residual == "main"
    for step in steps[2:]:
        assert isinstance(step, PoolStep) and step.maximum and step.kernel == (1, 1)
    graph = graph_of(*nodes)
    images = images_of(graph)
    qgraph = quantize(graph, uniform(graph, 8), calibrate(graph, images))
    assert logit_error(graph, qgraph, images) < 0.02


def test_what_integers_cannot_express() -> None:
    rng = np.random.default_rng(0)
    ceil = graph_of(("in", Input((2, 6, 6)), ()), ("a", AvgPool((3, 3), (2, 2), ZERO, True), ("in",)))
    with pytest.raises(UnsupportedLayerError, match=r"a: average pool in ceil mode .*use ceil_mode=False"):
        lower(ceil)
    conv = Conv(random_conv(rng, 2, 2, 7).weight, np.zeros(2, np.float32), (1, 1), ZERO)
    with pytest.raises(GraphError, match=r"c: kernel 7x7 exceeds its padded input 3x3"):
        lower(graph_of(("in", Input((2, 3, 3)), ()), ("c", conv, ("in",))))
