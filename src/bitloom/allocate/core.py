"""The exact core of the multiple-choice knapsack: a dynamic program over the choices that reduced costs leave open.

With the multiplier L of the linear relaxation, choice j of item i has the reduced cost r = cost + L·size - (least of
its item) >= 0, and any feasible objective is `bound + Σ r + L·(unused budget)`. So a choice with `bound + r` no lower
than the best known objective is out, items with one choice left are fixed, and what remains (the core) is enumerated as
undominated states of (size, reduced cost), as in Pisinger's minimal algorithm (European Journal of Operational Research
83, 1995). Past `max_states` the dearest states are dropped, and the least reduced cost among them limits the bound.
"""

from __future__ import annotations

import time

import numpy as np

from bitloom.allocate.knapsack import FloatArray, IntArray, Problem, Solution, solve

#: Relative slack for sums of floats; a choice is only dropped when it is dearer by more than this.
_EPS = 1e-12


def solve_exact(problem: Problem, budget: int, max_states: int = 20_000) -> Solution:
    """The optimum (bound = objective), or a better solution and bound than `solve` where max_states ends the search.

    Raises BudgetError like `solve`. Memory: 12 bytes x states x items of the core.
    """
    start = time.perf_counter()
    first = solve(problem, budget)
    if first.objective <= first.bound:
        return first
    reduced = _reduced(problem, first.slope)
    base = np.argmin(reduced, axis=1).astype(np.int64)
    rows = np.arange(len(base))
    slack = budget - int(problem.size[rows, base].sum())
    bound = float((problem.cost[rows, base]).sum()) - first.slope * slack
    room = (first.objective - bound) + _EPS * abs(first.objective)
    open_ = reduced < room
    open_[rows, base] = True
    items = np.flatnonzero(open_.sum(axis=1) > 1)
    # Ambiguous items first: good solutions, and with them a smaller room, come early.
    second = np.partition(np.where(open_[items], reduced[items], np.inf), 1, axis=1)[:, 1]
    items = items[np.argsort(second, kind="stable")]
    search = _Search(problem, first.slope, reduced, open_, base, slack, room, max_states)
    picks, excess, dropped = search.run(items)
    choice = first.choice
    if picks is not None:
        choice = base.copy()
        choice[items[: len(picks)]] = picks
    objective = float(problem.cost[rows, choice].sum())
    if objective > first.objective:
        choice, objective = first.choice, first.objective
    proven = objective if dropped == np.inf else min(objective, bound + min(dropped, excess))
    size = int(problem.size[rows, choice].sum())
    return Solution(choice, objective, max(proven, first.bound), size, first.slope, time.perf_counter() - start)


def _reduced(problem: Problem, slope: float) -> FloatArray:
    value = problem.cost + slope * problem.size
    reduced: FloatArray = value - value.min(axis=1, keepdims=True)
    return reduced


class _Search:
    """States after some items: delta (size against the base choice), reduced (sum of reduced costs)."""

    def __init__(
        self,
        problem: Problem,
        slope: float,
        reduced: FloatArray,
        open_: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
        base: IntArray,
        slack: int,
        room: float,
        max_states: int,
    ) -> None:
        self.problem, self.slope, self.reduced, self.open_, self.base = problem, slope, reduced, open_, base
        self.slack, self.room, self.max_states = slack, room, max_states

    def run(self, items: IntArray) -> tuple[list[int] | None, float, float]:
        """Best picks for the first items (others at base), their excess over the bound, least reduced cost dropped."""
        problem = self.problem
        delta_of = problem.size[items] - problem.size[items, self.base[items]][:, None]
        allowed = self.open_[items]
        lowest = np.where(allowed, delta_of, np.iinfo(np.int64).max).min(axis=1)
        highest = np.where(allowed, delta_of, np.iinfo(np.int64).min).max(axis=1)
        shrink = np.concatenate([np.cumsum(lowest[::-1])[::-1], [0]])
        grow = np.concatenate([np.cumsum(highest[::-1])[::-1], [0]])
        delta, cost = np.zeros(1, np.int64), np.zeros(1)
        parents: list[np.ndarray[tuple[int, ...], np.dtype[np.int32]]] = []
        chosen: list[IntArray] = []
        best: tuple[int, int] | None = None
        excess, dropped = self.room, np.inf
        if self.slack >= 0 and self.slope * self.slack < excess:
            best, excess = (0, 0), self.slope * self.slack
        for step, item in enumerate(items):
            choices = np.flatnonzero(allowed[step])
            new_delta = (delta[:, None] + delta_of[step, choices][None, :]).ravel()
            new_cost = (cost[:, None] + self.reduced[item, choices][None, :]).ravel()
            parent = np.repeat(np.arange(len(delta)), len(choices))
            pick = np.tile(choices, len(delta))
            # What can still be reached: the size must come down to the slack, unused budget costs slope a unit.
            unused = np.maximum(self.slack - new_delta - grow[step + 1], 0)
            keep = (new_delta + shrink[step + 1] <= self.slack) & (new_cost + self.slope * unused < excess)
            keep_at = np.flatnonzero(keep)
            order = keep_at[np.lexsort((new_cost[keep_at] - self.slope * new_delta[keep_at], new_delta[keep_at]))]
            value = new_cost[order] - self.slope * new_delta[order]
            ahead = np.minimum.accumulate(np.concatenate([[np.inf], value[:-1]])) if len(value) else value
            order = order[value < ahead]
            if len(order) > self.max_states:
                ranked = order[np.argsort(new_cost[order], kind="stable")]
                dropped = min(dropped, float(new_cost[ranked[self.max_states]]))
                order = ranked[: self.max_states]
            if not len(order):
                break
            delta, cost = new_delta[order], new_cost[order]
            parents.append(parent[order].astype(np.int32))
            chosen.append(pick[order])
            total = np.where(delta <= self.slack, cost + self.slope * (self.slack - delta), np.inf)
            at = int(np.argmin(total))
            if total[at] < excess:
                best, excess = (step + 1, at), float(total[at])
        if best is None:
            return None, excess, dropped
        depth, at = best
        picks = []
        for level in range(depth - 1, -1, -1):
            picks.append(int(chosen[level][at]))
            at = int(parents[level][at])
        return picks[::-1], excess, dropped
