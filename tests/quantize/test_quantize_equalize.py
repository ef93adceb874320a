"""Equalization: the same function, factors where they can be undone, even channels where the power is one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_networks import images, residual_graph

from bitloom import zoo
from bitloom.errors import DataError
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.allocation import uniform
from bitloom.graph.execute import execute
from bitloom.graph.ir import Graph
from bitloom.quantize.equalize import EqualizeOptions, equalize, scale_classes
from bitloom.quantize.lower import lower
from bitloom.quantize.observe import calibrate
from bitloom.quantize.quantize import quantize
from bitloom.quantize.refine import divergence
from bitloom.quantize.tables import round_network


def _logits(graph: Graph, x: torch.Tensor) -> torch.Tensor:
    return execute(graph, x)[graph.output]


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0, -0.5])
def test_the_function_stays(power: float) -> None:
    graph = residual_graph()
    changed = equalize(graph, images(), EqualizeOptions(power=power))
    torch.testing.assert_close(_logits(changed, images(8, 5)), _logits(graph, images(8, 5)), rtol=1e-4, atol=1e-5)
    assert any(not np.array_equal(a.op.weight, b.op.weight) for a, b in zip(graph.nodes, changed.nodes, strict=True)
               if hasattr(a.op, "weight"))  # fmt: skip


@pytest.mark.parametrize("name", ["resnet20", "digits"])
def test_whole_networks_stay(name: str) -> None:
    torch.manual_seed(0)
    info = zoo.info(name)
    graph = from_torch(zoo.build(name), info.image_shape, name)
    x = torch.randn(6, *info.image_shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(_logits(equalize(graph, x), x), _logits(graph, x), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_undone_stays() -> None:
    classes = scale_classes(lower(residual_graph()))
    assert classes["in"] is None and classes["fc"] is None
    assert classes["r2"] is None  # ReLU6
    assert classes["r1"] == classes["mp"] == classes["r3"] == classes["ap"] is not None


def test_power_one_gives_even_channels_and_leaves_dead_ones() -> None:
    graph, x = residual_graph(), images()
    changed = equalize(graph, x, EqualizeOptions(power=1.0, limit=1e6))
    roots = [tensor.pow(2).mean(dim=(0, 2, 3)).sqrt() for tensor in execute(changed, x, {"mp", "ap"}).values()]
    power = torch.stack(roots).pow(2).mean(dim=0)  # the factors serve both readers of the class
    live = power[torch.arange(8) != 2]
    torch.testing.assert_close(live, live.mean().expand(7), rtol=1e-3, atol=0)
    before = execute(graph, x, {"mp"})["mp"][:, 2]
    torch.testing.assert_close(execute(changed, x, {"mp"})["mp"][:, 2], before)


def test_power_zero_changes_nothing() -> None:
    graph = residual_graph()
    for a, b in zip(graph.nodes, equalize(graph, images(), EqualizeOptions(power=0.0)).nodes, strict=True):
        if hasattr(a.op, "weight"):
            np.testing.assert_array_equal(a.op.weight, b.op.weight)


def test_broken_weights_are_named() -> None:
    graph = residual_graph()
    next(n for n in graph.nodes if n.name == "c1").op.weight[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="tensor 'ap' holds NaN"):
        equalize(graph, images())


def test_uneven_channels_quantize_better_after_it() -> None:
    graph, x, rng = residual_graph(), images(60), np.random.default_rng(2)
    uneven = np.exp(rng.normal(0, 1.5, 8))
    weights = {n.name: n.op.weight for n in graph.nodes if hasattr(n.op, "weight")}
    for name in ("c1", "c3"):  # the writers of one class
        weights[name][:] *= uneven[:, None, None, None].astype(np.float32)
    next(n for n in graph.nodes if n.name == "c1").op.bias[:] *= uneven.astype(np.float32)
    weights["c2"][:] /= uneven[None, :, None, None].astype(np.float32)
    weights["fc"][:] /= np.repeat(uneven, 9)[None, :].astype(np.float32)

    def loss(g: Graph) -> float:
        calibration = calibrate(g, x[:40])
        start = quantize(g, uniform(g, 4), calibration, rounded=round_network(calibration))
        return divergence(calibration.lowered, start, x[40:])

    assert loss(equalize(graph, x[:40], EqualizeOptions(power=1.0))) < 0.7 * loss(graph)
