"""Several limits at once: brute force on small instances, an independent LP for the bound, infeasible limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix, vstack

from bitloom.allocate.multi import MultiProblem, solve_multi
from bitloom.errors import BudgetError


@st.composite
def small(draw: st.DrawFn) -> tuple[MultiProblem, tuple[int, ...]]:
    n, k, m = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    cost = rng.choice([0.0, 0.1, 0.5, 0.7, 1.3, np.inf], (n, k), p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.1])
    cost[np.isinf(cost).all(axis=1), 0] = 1.0
    usage = rng.integers(0, 8, (m, n, k))
    least = np.where(np.isfinite(cost), usage, 99).min(axis=2).sum(axis=1)
    limits = tuple(int(x) for x in least + rng.integers(0, 12, m))
    return MultiProblem(cost, usage, ("bits", "cycles", "luts")[:m]), limits


def brute_force(problem: MultiProblem, limits: tuple[int, ...]) -> float:
    n, k = problem.cost.shape
    rows, best = np.arange(n), np.inf
    for pick in itertools.product(range(k), repeat=n):
        if (problem.usage[:, rows, list(pick)].sum(axis=1) <= np.array(limits)).all():
            best = min(best, float(problem.cost[rows, list(pick)].sum()))
    return best


@settings(max_examples=400, deadline=None)
@given(small())
def test_feasible_and_bound_below_the_optimum(case: tuple[MultiProblem, tuple[int, ...]]) -> None:
    problem, limits = case
    best = brute_force(problem, limits)
    try:
        s = solve_multi(problem, limits)
    except BudgetError as error:
        # On tiny instances the search may miss the few feasible choices; a claim of proof must be true.
        assert "that the search found" in str(error) or best == np.inf
        return
    rows = np.arange(len(s.choice))
    assert (s.usage == problem.usage[:, rows, s.choice].sum(axis=1)).all()
    assert (s.usage <= np.array(limits)).all()
    assert s.objective == pytest.approx(float(problem.cost[rows, s.choice].sum()), abs=1e-12)
    assert s.bound <= best + 1e-9
    assert s.objective >= best - 1e-9


def relaxation(problem: MultiProblem, limits: tuple[int, ...]) -> float:
    n, k = problem.cost.shape
    one = coo_matrix((np.ones(n * k), (np.repeat(np.arange(n), k), np.arange(n * k))))
    rows = vstack([csr_matrix(u.reshape(1, -1)) for u in problem.usage])
    answer = linprog(
        problem.cost.ravel(), A_ub=rows, b_ub=limits, A_eq=one, b_eq=np.ones(n), bounds=(0, None), method="highs"
    )
    assert answer.status == 0
    return float(answer.fun)


def random_channels(n: int, seed: int) -> MultiProblem:
    """Widths 2..8; bits and cycles are priced unlike in every layer of 64 channels, so that both limits can bind."""
    rng = np.random.default_rng(seed)
    widths = np.arange(2, 9)
    cost = rng.lognormal(0, 1, n)[:, None] * 4.0**-widths
    weights = np.repeat(rng.integers(100, 2000, -(-n // 64)), 64)[:n]
    cycles = np.repeat(rng.integers(100, 2000, -(-n // 64)), 64)[:n]
    usage = np.stack([weights[:, None] * widths, cycles[:, None] * (widths + 4 * (widths > 5))]).astype(np.int64)
    return MultiProblem(cost, usage, ("bits", "cycles"))


@pytest.mark.parametrize("seed", range(6))
def test_two_binding_limits_close_to_the_independent_bound(seed: int) -> None:
    problem = random_channels(2000, seed)
    smallest = problem.usage[:, :, 0].sum(axis=1)
    limits = (int(smallest[0] * 1.8), int(smallest[1] * 1.8))
    s = solve_multi(problem, limits)
    assert (s.usage <= np.array(limits)).all() and (s.multipliers > 0).all()
    lowest = relaxation(problem, limits)
    assert s.bound <= lowest * (1 + 1e-7)
    assert s.bound == pytest.approx(lowest, rel=1e-4)
    assert s.gap <= 1e-3


def test_a_slack_limit_has_no_price() -> None:
    problem = random_channels(500, 1)
    s = solve_multi(problem, (int(problem.usage[0, :, 0].sum() * 2), 10**9))
    assert s.multipliers[1] == 0 and s.multipliers[0] > 0 and s.gap <= 1e-3


def test_a_limit_below_the_least_is_named() -> None:
    problem = MultiProblem(np.array([[3.0, 1.0]]), np.array([[[2, 3]], [[7, 5]]], np.int64), ("bits", "cycles"))
    with pytest.raises(BudgetError, match="a limit of 4 cycles cannot be met: the least possible is 5; raise it to 5"):
        solve_multi(problem, (3, 4))
    with pytest.raises(BudgetError, match="1 limits for 2 resources: bits, cycles"):
        solve_multi(problem, (3,))


def test_limits_that_exclude_each_other() -> None:
    problem = MultiProblem(np.array([[3.0, 1.0]]), np.array([[[2, 3]], [[7, 5]]], np.int64), ("bits", "cycles"))
    with pytest.raises(BudgetError, match="the limits 2 bits, 5 cycles exclude each other; raise one of them"):
        solve_multi(problem, (2, 5))


@pytest.mark.parametrize(
    ("cost", "usage", "text"),
    [
        ([[1.0, -1.0]], [[[1, 2]]], "costs must be 0 or more"),
        ([[1.0, np.nan]], [[[1, 2]]], "item 0: a cost is"),
        ([[np.inf, np.inf]], [[[1, 2]]], "item 0 has no allowed choice"),
        ([[1.0, 1.0]], [[[1, -2]]], "usage of 'bits' is negative"),
        ([[1.0, 1.0]], [[[1, 2, 3]]], r"usage \(1, 1, 3\) of 1 resources"),
    ],
)
def test_bad_problems_are_refused(cost: list[list[float]], usage: list[list[list[int]]], text: str) -> None:
    with pytest.raises(BudgetError, match=text):
        MultiProblem(np.array(cost), np.array(usage, np.int64), ("bits",))
