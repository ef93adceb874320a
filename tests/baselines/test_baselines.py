"""Baselines: budget kept, equal bytes, determinism, the published formulas on cases small enough to compute by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from allocate.small import tiny
from bitloom.allocate.hbp import LayerCosts, allocate, binary_only_in
from bitloom.allocate.probe import Probe
from bitloom.baselines.hawq import V2_WIDTHS, V3_WIDTHS, hawq, mean_traces
from bitloom.baselines.layers import SMALLEST, best_per_layer, by_layer, without_binary
from bitloom.baselines.ompq import ompq, orthogonality
from bitloom.baselines.search import greedy, random_allocation
from bitloom.errors import BudgetError, DataError
from bitloom.graph.allocation import WIDTHS, BitAllocation

GRAPH, CALIBRATION, ROUNDED, IMAGES = tiny()
LABELS = np.arange(len(IMAGES), dtype=np.int64) % 4


def layers(seed: int = 0) -> dict[str, LayerCosts]:
    rng = np.random.default_rng(seed)
    answer = {}
    for i, (channels, weights) in enumerate([(16, 27), (32, 144), (64, 288), (10, 64)]):
        scale = np.exp(rng.normal(0, 1.5)) * np.exp(rng.normal(0, 1, channels))
        answer[f"layer{i}"] = LayerCosts(scale[:, None] * 4.0 ** -np.array(WIDTHS)[None, :], weights)
    return answer


COSTS = layers()
CHANNELS = {n: len(c.cost) for n, c in COSTS.items()}
WEIGHTS = {n: c.weights for n, c in COSTS.items()}
TOTAL = sum(CHANNELS[n] * WEIGHTS[n] for n in COSTS)


def price(a: BitAllocation) -> float:
    return sum(float(COSTS[n].cost[np.arange(len(b)), np.searchsorted(WIDTHS, b)].sum()) for n, b in a.bits.items())


def every(budget: int) -> dict[str, BitAllocation]:
    orm = np.random.default_rng(1).uniform(0, 1, (4, 4))
    return {
        "per_layer": best_per_layer(COSTS, WIDTHS, budget, price),
        "greedy": greedy(COSTS, WIDTHS, budget),
        "random": random_allocation(CHANNELS, WEIGHTS, budget, seed=3),
        "ompq": ompq((orm + orm.T) / 2, CHANNELS, WEIGHTS, budget),
    }


@pytest.mark.parametrize("mean", [2.0, 2.5, 3.0, 4.0, 6.0])
def test_every_baseline_keeps_the_budget_and_its_layers(mean: float) -> None:
    budget = int(TOTAL * mean)
    best = allocate(COSTS, WIDTHS, budget)
    for name, found in every(budget).items():
        assert found.total_bits <= budget, name
        assert {n: len(b) for n, b in found.bits.items()} == CHANNELS and found.inputs == WEIGHTS
        assert min(int(b.min()) for b in found.bits.values()) >= 2, name
        assert price(found) >= best.bound * (1 - 1e-9), name
        if name != "random":
            assert all(len(np.unique(b)) == 1 for b in found.bits.values()), name


def test_more_budget_is_never_worse() -> None:
    prices = [[price(a) for a in every(int(TOTAL * m)).values()] for m in (2.0, 3.0, 4.0, 5.0)]
    for low, high in itertools.pairwise(prices):
        assert high[0] <= low[0] and high[1] <= low[1]


def test_exact_program_is_not_above_greedy() -> None:
    for mean in (2.2, 2.7, 3.3, 4.1, 5.5):
        budget = int(TOTAL * mean)
        exact = best_per_layer(COSTS, WIDTHS, budget, price, smallest=(2,))
        assert price(exact) <= price(greedy(COSTS, WIDTHS, budget)) * (1 + 1e-12)


def test_the_smallest_width_is_chosen_by_the_judge() -> None:
    budget = int(TOTAL * 3.2)
    alone = [best_per_layer(COSTS, WIDTHS, budget, price, smallest=(least,)) for least in SMALLEST]
    assert min(int(b.min()) for b in alone[2].bits.values()) == 3
    assert price(alone[0]) <= price(alone[1]) <= price(alone[2])
    chosen = best_per_layer(COSTS, WIDTHS, budget, price)
    turned = best_per_layer(COSTS, WIDTHS, budget, lambda a: -price(a))
    assert price(chosen) == price(alone[0]) and price(turned) == price(alone[2])
    with pytest.raises(BudgetError, match="allows no smallest width"):
        best_per_layer(COSTS, WIDTHS, TOTAL - 1, price)


def test_only_some_layers_may_be_binary() -> None:
    legal, budget = binary_only_in(COSTS, WIDTHS, ["layer2"]), int(TOTAL * 1.9)
    for found in (best_per_layer(legal, WIDTHS, budget, price), greedy(legal, WIDTHS, budget, least=1)):
        least = {n: int(bits.min()) for n, bits in found.bits.items()}
        assert least.pop("layer2") == 1 and min(least.values()) >= 2 and found.total_bits <= budget
    with pytest.raises(BudgetError, match="cannot be met"):
        greedy(legal, WIDTHS, TOTAL, least=1)
    costs = {n: layer.cost.sum(axis=0) for n, layer in COSTS.items()}
    masked = without_binary(costs, WIDTHS, ["layer2"])
    assert [n for n in costs if np.isinf(masked[n]).any()] == ["layer0", "layer1", "layer3"]
    np.testing.assert_array_equal(masked["layer1"][2:], costs["layer1"][2:])


def test_random_allocations_follow_their_seed_and_fill_the_budget() -> None:
    budget = int(TOTAL * 3.3)
    a, b, c = (random_allocation(CHANNELS, WEIGHTS, budget, seed=s) for s in (1, 1, 2))
    assert all(np.array_equal(a.bits[n], b.bits[n]) for n in a.bits)
    assert any(not np.array_equal(a.bits[n], c.bits[n]) for n in a.bits)
    assert budget - a.total_bits < min(WEIGHTS.values())
    assert len(np.unique(random_allocation(CHANNELS, WEIGHTS, 4 * TOTAL, seed=1).bits["layer2"])) > 3
    with pytest.raises(BudgetError, match="2 bits everywhere need"):
        random_allocation(CHANNELS, WEIGHTS, TOTAL, seed=0)


def test_greedy_fills_what_a_large_step_left() -> None:
    """`b` goes down to 2 bits first, then `a` to 3, which leaves two steps for `b`."""
    costs = {"a": LayerCosts(np.array([[9.0, 4.0, 2.0]]), 100), "b": LayerCosts(np.array([[9.0, 8.9, 8.8]]), 10)}
    found = greedy(costs, (2, 3, 4), 340)
    assert {n: b.tolist() for n, b in found.bits.items()} == {"a": [3], "b": [4]} and found.total_bits == 340


def test_greedy_names_what_cannot_be_met() -> None:
    with pytest.raises(BudgetError, match="2 bits everywhere are"):
        greedy(COSTS, WIDTHS, TOTAL)


def test_one_layer_with_all_the_weight_of_the_sum() -> None:
    costs = {"a": np.array([9.0, 1.0]), "b": np.array([5.0, 4.0])}
    found = by_layer(costs, {"a": 1, "b": 1}, {"a": 10, "b": 10}, (2, 4), 60)
    assert {n: b.tolist() for n, b in found.bits.items()} == {"a": [4], "b": [2]}


def test_hutchinson_traces_meet_the_exact_hessian() -> None:
    """The head's logits are linear in its weights, so that its Hessian is p(1-p) x^2 on the diagonal."""
    probe = Probe(CALIBRATION, ROUNDED)
    inputs: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        logits = probe.logits(IMAGES, lambda s, x: inputs.update({s.name: x}))
    p, x = torch.softmax(logits, dim=1).double(), inputs["head"].flatten(1).double()
    exact = ((p * (1 - p)).sum(dim=1) * x.square().sum(dim=1)).mean() / probe.weight["head"].numel()
    found = [mean_traces(probe, IMAGES, LABELS, draws=50, batch=32, seed=s)["head"] for s in range(8)]
    error = np.std(found) / 8**0.5
    assert abs(np.mean(found) - float(exact)) < 4 * error and np.mean(found) > 0


def test_hawq_weighs_the_error_by_the_trace() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    total = sum(w.numel() for w in probe.weight.values())
    even = {"conv": 1.0, "select": 1.0, "head": 1.0}
    a = hawq(probe, even | {"conv": 1e6}, 4 * total, V2_WIDTHS)
    b = hawq(probe, even | {"head": 1e6}, 4 * total, V2_WIDTHS)
    assert a.bits["conv"][0] > b.bits["conv"][0] and a.bits["head"][0] < b.bits["head"][0]
    assert a.bits["select"][0] == 2  # exact there
    c = hawq(probe, even, 6 * total, V3_WIDTHS)
    assert {int(w[0]) for w in c.bits.values()} <= {4, 8} and c.total_bits <= 6 * total
    with pytest.raises(BudgetError):
        hawq(probe, even, 3 * total, V3_WIDTHS)
    with pytest.raises(DataError, match="3 labels for 32 images"):
        mean_traces(probe, IMAGES, LABELS[:3])


def test_orthogonality_is_a_symmetric_similarity() -> None:
    orm = orthogonality(Probe(CALIBRATION, ROUNDED), IMAGES)
    assert orm.shape == (3, 3) and np.allclose(orm, orm.T) and np.allclose(np.diag(orm), 1.0)
    assert (orm > 0).all() and (orm <= 1 + 1e-9).all()


def test_ompq_gives_bits_to_the_orthogonal_layers() -> None:
    """Two equal layers, the first alike all others: the second, late and orthogonal, is worth more."""
    orm = np.array([[1.0, 0.1, 0.9], [0.1, 1.0, 0.0], [0.9, 0.0, 1.0]])
    sizes = {"a": 10, "b": 10, "c": 10}
    found = ompq(orm, sizes, sizes, 1200, beta=3.0)
    assert found.bits["b"][0] == 8 and found.total_bits <= 1200
