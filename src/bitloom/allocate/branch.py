"""Local branching for the knapsack with several limits: small sets of items enumerated completely, again and again.

At the best multipliers almost every item's choice is clear; the rest of the gap is what single moves leave unused of
several limits at once. A set of a few items among the least clear ones, each with its choices of least reduced cost,
has about a thousand combinations: all of them are priced at once and the cheapest that fits replaces the present one.
Sets are drawn with a fixed seed, so that the result is the same every time.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bitloom.allocate.knapsack import FloatArray, IntArray

Number = TypeVar("Number", np.float64, np.int64)
MEMBERS, CHOICES, CORE = 10, 2, 64  #: items of a set, choices of an item, items that sets are drawn from


def local_branch(
    cost: FloatArray,
    usage: IntArray,
    left: IntArray,
    reduced: FloatArray,
    choice: IntArray,
    enough: float,
    sets: int = 1500,
    seed: int = 0,
) -> IntArray:
    """A choice no dearer than `choice` that keeps the limits.

    cost (n, k); usage (m, n, k); left (m,) >= 0: of each limit at `choice`; reduced (n, k): reduced costs at the
    multipliers. Stops when the objective is at most `enough`, after `sets` sets, or when 400 in a row bring nothing.
    """
    rng = np.random.default_rng(seed)
    choice, left = choice.copy(), left.copy()
    n, k = cost.shape
    core = np.argsort(np.partition(reduced, min(1, k - 1), axis=1)[:, min(1, k - 1)], kind="stable")[:CORE]
    ranked = np.argsort(reduced[core], axis=1, kind="stable")[:, : min(CHOICES, k)]
    finite = np.isfinite(np.take_along_axis(cost[core], ranked, axis=1)).all(axis=1)
    core, ranked = core[finite], ranked[finite]
    objective = float(cost[np.arange(n), choice].sum())
    idle = 0
    for _ in range(sets if len(core) else 0):
        if objective <= enough or idle >= 400:
            break
        at = rng.choice(len(core), min(MEMBERS, len(core)), replace=False)
        items, options = core[at], ranked[at]
        now = choice[items]
        gain = _all_sums(cost[items[:, None], options] - cost[items, now][:, None])
        more = np.stack([_all_sums(u[items[:, None], options] - u[items, now][:, None]) for u in usage])
        allowed = np.where((more <= left[:, None]).all(axis=0), gain, np.inf)
        best = int(np.argmin(allowed))
        if allowed[best] < -1e-12 * max(objective, 1e-300):
            picks = np.unravel_index(best, (options.shape[1],) * len(items))
            choice[items] = options[np.arange(len(items)), np.array(picks)]
            objective += float(allowed[best])
            left -= more[:, best]
            idle = 0
        else:
            idle += 1
    return choice


def _all_sums(values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """values (members, choices) -> sums of every combination, (choices^members,), the first member slowest."""
    total: npt.NDArray[Number] = values[0]
    for row in values[1:]:
        total = (total[:, None] + row[None, :]).ravel()
    return total
