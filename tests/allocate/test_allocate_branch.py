"""Local branching: limits kept, never dearer, the optimum of small instances, the same result every time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bitloom.allocate.branch import local_branch


def instance(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cost = np.sort(rng.uniform(0, 1, (n, k)), axis=1)[:, ::-1].copy()
    usage = np.cumsum(rng.integers(1, 9, (2, n, k)), axis=2)
    return cost, usage, usage[:, np.arange(n), k // 2].sum(axis=1)


@pytest.mark.parametrize("seed", range(6))
def test_small_instances_are_solved(seed: int) -> None:
    cost, usage, limits = instance(7, 2, seed)
    rows = np.arange(7)
    best = min(
        float(cost[rows, c].sum())
        for c in map(list, itertools.product(range(2), repeat=7))
        if (usage[:, rows, c].sum(axis=1) <= limits).all()
    )
    start = np.zeros(7, np.int64)
    found = local_branch(cost, usage, limits - usage[:, rows, start].sum(axis=1), cost, start, 0.0)
    assert float(cost[rows, found].sum()) == pytest.approx(best)


def test_never_dearer_never_over_the_limits_and_repeatable() -> None:
    cost, usage, limits = instance(200, 5, 9)
    cost[3, 4] = np.inf
    rows, start = np.arange(200), np.zeros(200, np.int64)
    left = limits - usage[:, rows, start].sum(axis=1)
    reduced = cost - cost.min(axis=1, keepdims=True)
    found = local_branch(cost, usage, left, reduced, start, 0.0)
    assert (usage[:, rows, found].sum(axis=1) <= limits).all()
    assert np.isfinite(cost[rows, found]).all() and cost[rows, found].sum() < cost[rows, start].sum()
    assert np.array_equal(found, local_branch(cost, usage, left, reduced, start, 0.0))
    assert np.array_equal(start, np.zeros(200)) and np.array_equal(left, limits - usage[:, rows, start].sum(axis=1))


def test_nothing_is_done_when_it_is_good_enough() -> None:
    cost, usage, limits = instance(20, 3, 1)
    start = np.zeros(20, np.int64)
    left = limits - usage[:, np.arange(20), start].sum(axis=1)
    assert np.array_equal(local_branch(cost, usage, left, cost, start, 1e9), start)
