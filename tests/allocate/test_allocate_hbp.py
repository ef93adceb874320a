"""The hierarchy: budget kept, bound of the full problem, never worse than one width per layer at the same costs."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.allocate.hbp import HbpOptions, LayerCosts, allocate, per_layer, told_apart
from bitloom.errors import BudgetError
from bitloom.graph.allocation import BitAllocation

WIDTHS = (0, 2, 3, 4, 5, 6, 7, 8)


def layers(seed: int) -> dict[str, LayerCosts]:
    rng = np.random.default_rng(seed)
    answer = {}
    for i, (channels, weights) in enumerate([(16, 27), (32, 144), (64, 288), (10, 64)]):
        scale = np.exp(rng.normal(0, 1)) * np.exp(rng.normal(0, 1, channels))
        answer[f"layer{i}"] = LayerCosts(scale[:, None] * 4.0 ** -np.array(WIDTHS)[None, :], weights)
    return answer


def price(costs: dict[str, LayerCosts], allocation: BitAllocation) -> float:
    return sum(
        float(costs[n].cost[np.arange(len(b)), [WIDTHS.index(int(x)) for x in b]].sum())
        for n, b in allocation.bits.items()
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mean", [1.0, 2.5, 3.5, 6.0])
def test_within_its_gap_of_the_optimum_and_below_per_layer(seed: int, mean: float) -> None:
    costs = layers(seed)
    budget = int(sum(c.weights * len(c.cost) for c in costs.values()) * mean)
    s, coarse = allocate(costs, WIDTHS, budget), per_layer(costs, WIDTHS, budget)
    assert s.allocation.total_bits <= budget and coarse.total_bits <= budget
    assert s.objective == pytest.approx(price(costs, s.allocation))
    assert s.bound <= s.objective <= s.bound / (1 - s.gap) * (1 + 1e-9)
    assert s.gap < 0.01
    assert s.objective < price(costs, coarse)
    assert s.objective <= s.group_objective * (1 + 1e-12)


def test_search_space_shrinks_from_channels_to_groups() -> None:
    costs = layers(0)
    budget = sum(c.weights * len(c.cost) for c in costs.values()) * 3
    s = allocate(costs, WIDTHS, budget, HbpOptions(groups=4, reach=1))
    channels, groups, refined = s.log10_states
    assert channels == pytest.approx(122 * np.log10(8))
    assert groups == pytest.approx(16 * np.log10(8))
    assert groups < refined < channels


@pytest.mark.parametrize(("mean", "widths"), [(4.0, {4}), (8.0, {8}), (2.0, {2}), (4.5, {4, 5})])
def test_costs_that_tell_nothing_spend_the_budget_evenly(mean: float, widths: set[int]) -> None:
    """As those of a network whose softmax has saturated; a width that is not allowed stays so."""
    costs = {n: LayerCosts(np.zeros((c, len(WIDTHS))), w) for n, c, w in (("a", 16, 27), ("b", 10, 64))}
    costs["a"].cost[:, 0] = np.inf
    budget = int(sum(c.weights * len(c.cost) for c in costs.values()) * mean)
    found = [allocate(costs, WIDTHS, budget).allocation, per_layer(costs, WIDTHS, budget)]
    assert set(found[0].histogram) == widths
    assert all(a.total_bits <= budget and min(a.histogram) >= min(widths) for a in found)


def test_costs_that_tell_something_stay_as_they_are() -> None:
    """Channels that cost nothing are pruned as before, and where one width alone is allowed nothing is to be told."""
    dead = {"a": LayerCosts(np.zeros((4, len(WIDTHS))), 9), **layers(0)}
    only = {n: layer.at_least(8, WIDTHS) for n, layer in layers(0).items()}
    for costs in (dead, only):
        assert all(told_apart(costs, WIDTHS)[n] is layer for n, layer in costs.items())
    assert not allocate(dead, WIDTHS, 100_000).allocation.bits["a"].any()


def test_infeasible_budget() -> None:
    costs = {"a": LayerCosts(np.array([[2.0, 1.0]]), 10)}
    with pytest.raises(BudgetError, match="a budget of 19 bits cannot be met: the smallest allocation has 20 bits"):
        allocate(costs, (2, 3), 19)
