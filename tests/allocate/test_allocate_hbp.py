"""The hierarchy: budget kept, bound of the full problem, never worse than one width per layer at the same costs."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.allocate.allocation import BitAllocation
from bitloom.allocate.hbp import HbpOptions, LayerCosts, allocate, per_layer
from bitloom.errors import BudgetError

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


def test_infeasible_budget() -> None:
    costs = {"a": LayerCosts(np.array([[2.0, 1.0]]), 10)}
    with pytest.raises(BudgetError, match="a budget of 19 bits cannot be met: the smallest allocation has 20 bits"):
        allocate(costs, (2, 3), 19)
