"""The factor on pruning: judged solutions, the free ones kept, nothing judged without need."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.allocate.allocation import WIDTHS, BitAllocation
from bitloom.allocate.hbp import HbpSolution, LayerCosts, allocate
from bitloom.allocate.pruning import FACTORS, choose_pruning, dearer_pruning
from bitloom.errors import BudgetError


def _layers(seed: int = 0) -> dict[str, LayerCosts]:
    rng = np.random.default_rng(seed)
    curve = np.where(np.array(WIDTHS) > 0, 4.0 ** -np.array(WIDTHS) * 6, 0.5)
    return {n: LayerCosts(np.exp(rng.normal(0, 1.5, 20))[:, None] * curve, 9) for n in ("a", "b")}


def _pruned(allocation: BitAllocation) -> int:
    return sum(int((bits == 0).sum()) for bits in allocation.bits.values())


@pytest.mark.parametrize("mean", [1.5, 2.0, 2.5])
def test_the_judge_decides(mean: float) -> None:
    layers, budget = _layers(), int(mean * 360)
    solve = lambda costs: allocate(costs, WIDTHS, budget)  # noqa: E731
    few, _ = choose_pruning(layers, WIDTHS, solve, _pruned)
    many, factor = choose_pruning(layers, WIDTHS, solve, lambda a: -_pruned(a))
    assert factor == 1.0 and _pruned(many.allocation) == _pruned(solve(layers).allocation) > 0
    assert _pruned(few.allocation) < _pruned(many.allocation)
    if mean >= 2.0:
        assert _pruned(few.allocation) == 0
    assert max(few.allocation.mean_bits, many.allocation.mean_bits) <= mean


def test_without_pruning_nothing_is_judged() -> None:
    def judge(_: BitAllocation) -> float:
        raise AssertionError("judged")

    found, factor = choose_pruning(_layers(), WIDTHS, lambda c: allocate(c, WIDTHS, 8 * 360), judge)
    assert factor == 1.0 and _pruned(found.allocation) == 0


def test_dead_channels_stay_free() -> None:
    layers = _layers()
    layers["a"].cost[3] = 0.0
    dear = dearer_pruning(layers, WIDTHS, float("inf"))
    assert dear["a"].cost[3, 0] == 0.0 and np.isinf(dear["a"].cost[4, 0])
    np.testing.assert_array_equal(dear["a"].cost[:, 1:], layers["a"].cost[:, 1:])
    found, _ = choose_pruning(layers, WIDTHS, lambda c: allocate(c, WIDTHS, 2 * 360), _pruned)
    assert _pruned(found.allocation) == 1


def test_a_budget_that_needs_pruning_keeps_it_and_an_impossible_one_is_refused() -> None:
    found, factor = choose_pruning(_layers(), WIDTHS, lambda c: allocate(c, WIDTHS, 360), _pruned)
    assert factor in FACTORS[:-1] and found.allocation.mean_bits <= 1.0

    def refuse(_: object) -> HbpSolution:
        raise BudgetError("no")

    with pytest.raises(BudgetError, match="no"):
        choose_pruning(_layers(), WIDTHS, refuse, _pruned)
