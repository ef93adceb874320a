"""Prices of bits and passes: against the cycle model run again, and what they do to an allocation."""

from __future__ import annotations

import numpy as np
import pytest
from explore_networks import Builder, resnet, tiny

from bitloom.allocate.hbp import LayerCosts, allocate
from bitloom.allocate.latency import LatencyAllocator
from bitloom.explore.pricing import NetworkCycles
from bitloom.graph.allocation import WIDTHS, uniform
from bitloom.graph.ir import Conv, Graph, Linear
from bitloom.target.arch import NAMED
from bitloom.target.device import load_device

DEVICE = load_device("xczu15eg")


def model_of(graph: Graph, build: str = "full") -> NetworkCycles:
    return NetworkCycles(graph, NAMED[build], DEVICE)


def costs_of(graph: Graph, seed: int = 0) -> dict[str, LayerCosts]:
    """Costs that fall fourfold a bit, channels and layers of lognormal weight."""
    rng, widths = np.random.default_rng(seed), np.array(WIDTHS)
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, Conv | Linear):
            shape = node.op.weight.shape
            scale = np.exp(rng.normal(0, 1.0, shape[0]) + rng.normal(0, 0.7))[:, None]
            curve = np.where(widths > 0, 10 * 4.0**-widths, 1.0)
            found[node.name] = LayerCosts(scale * curve, int(np.prod(shape[1:])))
    return found


@pytest.mark.parametrize(("graph", "build"), [(tiny(), "small"), (resnet(18), "full")], ids=["tiny", "resnet18"])
def test_cycles_are_those_of_the_model(graph: Graph, build: str) -> None:
    bits, model = uniform(graph, 4).bits, model_of(graph, build)
    assert model.prices(bits).cycles == model.run(bits).cycles


def test_early_bits_are_free_and_late_ones_cost_their_time_on_ddr() -> None:
    graph = resnet(18)
    prices = model_of(graph).prices(uniform(graph, 4).bits)
    names = list(prices.per_bit)
    assert all(prices.per_bit[n] == 0 for n in names[1:12])
    ddr = 1 / 8 / DEVICE.ddr_bytes_per_cycle(0.85)  # cycles per bit
    assert prices.per_bit[names[-1]] == pytest.approx(ddr * 1.03, rel=0.05)


def test_the_price_of_a_bit_foretells_the_cycles_of_one_more() -> None:
    """A whole bit more in one late layer: within 10 % and never below the linearisation by more than rounding."""
    graph = resnet(50)
    model, bits = model_of(graph), uniform(graph, 4).bits
    prices = model.prices(bits)
    weights = {n.name: n.op.weight.size for n in graph.nodes if isinstance(n.op, Conv | Linear)}
    late = sorted(prices.per_bit, key=lambda n: prices.per_bit[n] * weights[n])[-3:]
    for name in late:
        more = model.run({**bits, name: bits[name] + 1}).cycles - prices.cycles
        assert more == pytest.approx(prices.per_bit[name] * weights[name], rel=0.1)


def test_the_price_of_a_pass_is_the_work_of_a_vector() -> None:
    graph = resnet(18)
    model, bits = model_of(graph), uniform(graph, 4).bits
    prices = model.prices(bits)
    name = next(n for n in bits if prices.per_pass[n] > 2000)
    wide = bits[name].copy()
    wide[0] = 6
    assert model.run({**bits, name: wide}).cycles - prices.cycles == pytest.approx(prices.per_pass[name], rel=0.02)


def test_wide_channels_share_vectors() -> None:
    """128 channels of which 20 scattered ones have 8 bits: one vector of two takes a second pass."""
    b = Builder("wide", (16, 12, 12))
    graph = b.graph(b.conv(b.conv("x", 16, 128, 3), 128, 16, 3))
    bits = uniform(graph, 4).bits
    first = next(iter(bits))
    bits[first][::7] = 8
    prices = model_of(graph).prices(bits)
    assert prices.wide_vectors[first] == 1


def test_the_bound_moves_bits_from_late_layers_to_early_ones() -> None:
    graph = resnet(50)
    layers, model = costs_of(graph), model_of(graph)
    total = 4 * sum(c.weights * len(c.cost) for c in layers.values())
    free = allocate(layers, WIDTHS, total).allocation
    bound = LatencyAllocator(layers, WIDTHS, model).allocate(total, 405_000)
    assert bound.cycles == model.run(bound.allocation.bits).cycles <= 405_000 < model.run(free.bits).cycles
    assert bound.allocation.mean_bits <= 4.0
    names = list(layers)

    def mean(bits: dict[str, np.ndarray], part: list[str]) -> float:
        weights = sum(layers[n].weights * len(bits[n]) for n in part)
        return sum(layers[n].weights * float(bits[n].sum()) for n in part) / weights

    early, late = names[:-11], names[-11:]
    assert mean(bound.allocation.bits, late) < mean(free.bits, late) - 0.1
    assert mean(bound.allocation.bits, early) > mean(free.bits, early) - 0.1
