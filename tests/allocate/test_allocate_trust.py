"""Trust in the smallest widths: judged solutions, the free ones kept, nothing judged without need."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.allocate.hbp import HbpSolution, LayerCosts, allocate
from bitloom.allocate.trust import NEVER, Trust, choose_trust
from bitloom.errors import BudgetError
from bitloom.graph.allocation import WIDTHS, BitAllocation


def _layers(seed: int = 0) -> dict[str, LayerCosts]:
    rng = np.random.default_rng(seed)
    curve = np.concatenate([[1.2, 0.7], 4.0 ** -np.arange(2.0, 9.0) * 6])
    return {n: LayerCosts(np.exp(rng.normal(0, 1.5, 20))[:, None] * curve, 9) for n in ("a", "b")}


def _count(allocation: BitAllocation, width: int) -> int:
    return sum(int((bits == width).sum()) for bits in allocation.bits.values())


def _pruned(allocation: BitAllocation) -> int:
    return _count(allocation, 0)


def _narrow(allocation: BitAllocation) -> int:
    return _count(allocation, 0) + _count(allocation, 1)


@pytest.mark.parametrize("mean", [1.5, 2.0, 2.5])
def test_the_judge_decides(mean: float) -> None:
    layers, budget = _layers(), int(mean * 360)
    solve = lambda costs: allocate(costs, WIDTHS, budget)  # noqa: E731
    few, _ = choose_trust(layers, WIDTHS, solve, _narrow)
    many, _ = choose_trust(layers, WIDTHS, solve, lambda a: -_narrow(a))
    assert _narrow(many.allocation) >= _narrow(solve(layers).allocation) > _narrow(few.allocation)
    if mean >= 2.0:
        assert _narrow(few.allocation) == 0
    assert max(few.allocation.mean_bits, many.allocation.mean_bits) <= mean


@pytest.mark.parametrize("width", [0, 1])
def test_each_width_can_be_refused_alone(width: int) -> None:
    layers, other = _layers(), 1 - width
    solve = lambda costs: allocate(costs, WIDTHS, int(2.5 * 360))  # noqa: E731
    free = solve(layers).allocation
    assert _count(free, width) and _count(free, other)
    found, trust = choose_trust(layers, WIDTHS, solve, lambda a: _count(a, width) - 1e-3 * _count(a, other))
    assert (trust.pruned, trust.binary)[width] > 1.0
    assert _count(found.allocation, width) == 0 < _count(found.allocation, other)


def test_without_pruning_nothing_is_judged() -> None:
    def judge(_: BitAllocation) -> float:
        raise AssertionError("judged")

    found, trust = choose_trust(_layers(), WIDTHS, lambda c: allocate(c, WIDTHS, 8 * 360), judge)
    assert trust == Trust() and _narrow(found.allocation) == 0


def test_dead_channels_stay_free() -> None:
    layers = _layers()
    layers["a"].cost[3] = 0.0
    dear = Trust(NEVER, 3.0).weigh(layers, WIDTHS)
    assert dear["a"].cost[3, 0] == 0.0 and np.isinf(dear["a"].cost[4, 0])
    np.testing.assert_array_equal(dear["a"].cost[:, 1], 3.0 * layers["a"].cost[:, 1])
    np.testing.assert_array_equal(dear["a"].cost[:, 2:], layers["a"].cost[:, 2:])
    found, _ = choose_trust(layers, WIDTHS, lambda c: allocate(c, WIDTHS, 2 * 360), _narrow)
    assert _pruned(found.allocation) == 1


def test_a_budget_that_needs_pruning_keeps_it_and_an_impossible_one_is_refused() -> None:
    found, trust = choose_trust(_layers(), WIDTHS, lambda c: allocate(c, WIDTHS, 300), _pruned)
    assert trust.pruned != NEVER and found.allocation.mean_bits <= 1.0

    def refuse(_: object) -> HbpSolution:
        raise BudgetError("no")

    with pytest.raises(BudgetError, match="no"):
        choose_trust(_layers(), WIDTHS, refuse, _pruned)
