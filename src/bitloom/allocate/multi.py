"""The multiple-choice knapsack under several limits at once (bytes, cycles, a layer's share): choice and proven bound.

The Lagrangian dual L(m) = Σ_i min_j (cost + Σ_r m_r·usage_r) - Σ_r m_r·limit_r, m >= 0, is concave and piecewise
linear, and each of its values is a lower bound. It is maximized by cutting planes in a trust region (a bundle method),
its master a linear program of a few variables. The choice at the best multipliers is repaired and improved by single
moves in the order of their reduced cost, which is what a move adds to the gap, and last by local branching.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from bitloom.allocate.branch import local_branch
from bitloom.allocate.knapsack import FloatArray, IntArray, relative_gap
from bitloom.errors import BudgetError


@dataclass(frozen=True, eq=False)
class MultiProblem:
    """n items with k choices, m resources, exactly one choice per item.

    cost (n, k) float64 >= 0, +inf where a choice is not allowed; usage (m, n, k) int64 >= 0; names of the resources.
    """

    cost: FloatArray
    usage: IntArray
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.cost.ndim != 2 or 0 in self.cost.shape or self.usage.shape != (len(self.names), *self.cost.shape):
            raise BudgetError(
                f"costs {self.cost.shape} and usage {self.usage.shape} of {len(self.names)} resources must be "
                f"(n, k) and (m, n, k), not empty"
            )
        if np.isnan(self.cost).any() or (self.cost < 0).any():
            item = int(np.argmax((np.isnan(self.cost) | (self.cost < 0)).any(axis=1)))
            raise BudgetError(f"item {item}: a cost is {self.cost[item]}; costs must be 0 or more")
        if not np.isfinite(self.cost).any(axis=1).all():
            item = int(np.argmin(np.isfinite(self.cost).any(axis=1)))
            raise BudgetError(f"item {item} has no allowed choice; allow at least one width")
        if (self.usage < 0).any():
            raise BudgetError(f"usage of '{self.names[int(np.argwhere(self.usage < 0)[0][0])]}' is negative")


@dataclass(frozen=True)
class MultiOptions:
    """cuts: evaluations of the dual at most; tolerance: relative gap of the dual; passes: of the improving moves.

    enough: relative gap at which local branching stops.
    """

    cuts: int = 60
    tolerance: float = 1e-7
    passes: int = 3
    moves: int = 20_000
    enough: float = 1e-6


@dataclass(frozen=True, eq=False)
class MultiSolution:
    """choice (n,); objective; bound: proven lower bound; usage (m,) int64; multipliers (m,), cost per
    unit of usage; seconds."""

    choice: IntArray
    objective: float
    bound: float
    usage: IntArray
    multipliers: FloatArray
    seconds: float

    @property
    def gap(self) -> float:
        """Of the objective to the bound."""
        return relative_gap(self.objective, self.bound)


def solve_multi(problem: MultiProblem, limits: tuple[int, ...], options: MultiOptions | None = None) -> MultiSolution:
    """The cheapest choice found with usage <= limits, and the proven bound.

    Raises BudgetError: a limit below the least usage of its resource (named, with the nearest), limits that the bound
    proves to exclude each other, or that no choice was found for.
    """
    opts, start = options or MultiOptions(), time.perf_counter()
    if len(limits) != len(problem.names):
        raise BudgetError(f"{len(limits)} limits for {len(problem.names)} resources: {', '.join(problem.names)}")
    allowed = np.isfinite(problem.cost)
    for name, use, limit in zip(problem.names, problem.usage, limits, strict=True):
        least = int(np.where(allowed, use, np.iinfo(np.int64).max).min(axis=1).sum())
        if limit < least:
            raise BudgetError(
                f"a limit of {limit} {name} cannot be met: the least possible is {least}; raise it to {least}"
            )
    dual = _Dual(problem, np.array(limits, np.int64))
    multipliers, bound = _maximize(dual, opts)
    worst = float(np.where(allowed, problem.cost, 0.0).max(axis=1).sum())
    if bound > worst * (1 + 1e-9):
        raise _exclusive(problem, limits, "exclude each other")
    choice = _primal(dual, multipliers, opts, bound)
    if choice is None:
        raise _exclusive(problem, limits, "leave no allocation that the search found")
    rows = np.arange(len(choice))
    objective = float(problem.cost[rows, choice].sum())
    usage = problem.usage[:, rows, choice].sum(axis=1)
    prices = multipliers / dual.scale
    return MultiSolution(choice, objective, min(bound, objective), usage, prices, time.perf_counter() - start)


def _exclusive(problem: MultiProblem, limits: tuple[int, ...], what: str) -> BudgetError:
    listed = ", ".join(f"{limit} {name}" for name, limit in zip(problem.names, limits, strict=True))
    return BudgetError(f"the limits {listed} {what}; raise one of them")


class _Dual:
    """L(m) in units in which limits and the largest cost sum are 1; columns contiguous for speed."""

    def __init__(self, problem: MultiProblem, limits: IntArray) -> None:
        self.problem, self.limits = problem, limits
        self.scale = np.maximum(limits, 1).astype(np.float64)
        self.cost = np.ascontiguousarray(problem.cost.T)
        self.usage = [
            np.ascontiguousarray(u.T).astype(np.float64) / s for u, s in zip(problem.usage, self.scale, strict=True)
        ]
        self.rhs = limits / self.scale
        self.columns = np.arange(self.cost.shape[1])

    def penalized(self, m: FloatArray) -> FloatArray:
        """cost + Σ m·usage, (k, n)."""
        value = self.cost.copy()
        for weight, use in zip(m, self.usage, strict=True):
            if weight:
                value += weight * use
        return value

    def value(self, m: FloatArray) -> tuple[float, FloatArray]:
        """L(m) and a supergradient."""
        value = self.penalized(m)
        least = value.min(axis=0)
        pick = np.argmin(value, axis=0)
        gradient = np.array([use[pick, self.columns].sum() for use in self.usage]) - self.rhs
        return float(least.sum() - m @ self.rhs), gradient


def _maximize(dual: _Dual, opts: MultiOptions) -> tuple[FloatArray, float]:
    """The best multipliers (in the dual's units) and their value."""
    m = len(dual.limits)
    centre = np.zeros(m)
    best, gradient = dual.value(centre)
    if (gradient <= 0).all():
        return centre, best
    finite = np.isfinite(dual.cost)
    spread = float((np.where(finite, dual.cost, 0.0).max(axis=0) - dual.cost.min(axis=0)).sum())
    points, values, slopes = [centre], [best], [gradient]
    radius = np.full(m, max(spread, 1e-300) * 0.01)
    for _ in range(opts.cuts):
        new, model = _master(np.array(points), np.array(values), np.array(slopes), centre, radius)
        promised = model - best
        if promised <= opts.tolerance * max(abs(best), 1e-300):
            if not (new >= centre + radius * 0.999).any():
                break
            radius = radius * 4
            continue
        value, gradient = dual.value(new)
        points.append(new)
        values.append(value)
        slopes.append(gradient)
        if value > best:
            grew = value - best > 0.5 * promised
            edge = np.abs(new - centre) >= radius * 0.999
            radius = np.where(edge & grew, radius * 4, radius)
            centre, best = new, value
        else:
            radius = radius * 0.4
    return centre, best


def _master(
    points: FloatArray, values: FloatArray, slopes: FloatArray, centre: FloatArray, radius: FloatArray
) -> tuple[FloatArray, float]:
    """Maximizes the least of the cuts inside the trust region (variables scaled by it)."""
    top = max(float(np.abs(values - values.max()).max()), float((np.abs(slopes) * radius).max()), 1e-300)
    base = float(values.max())
    scaled = np.hstack([np.ones((len(values), 1)), -slopes * radius / top])
    right = (values - base + np.einsum("tm,tm->t", slopes, centre[None, :] - points)) / top
    low = np.maximum(-1.0, -centre / radius)
    limits = [(None, None), *((float(a), 1.0) for a in low)]
    answer = linprog(
        np.concatenate([[-1.0], np.zeros(len(centre))]), A_ub=scaled, b_ub=right, bounds=limits, method="highs"
    )
    if answer.status != 0:
        return centre, base
    new: FloatArray = np.maximum(centre + answer.x[1:] * radius, 0.0)
    return new, base + float(answer.x[0]) * top


def _primal(dual: _Dual, m: FloatArray, opts: MultiOptions, bound: float) -> IntArray | None:
    """The choice at the multipliers, repaired to the limits, then improved while something fits."""
    value = dual.penalized(m)
    reduced = (value - value.min(axis=0)[None, :]).T
    choice = np.argmin(reduced, axis=1).astype(np.int64)
    moves = _cheapest(reduced, opts.moves)
    state = _State(dual.problem, choice, dual.limits)
    if not state.repair(moves, reduced):
        every = _cheapest(reduced, reduced.size)
        if not state.repair(every, reduced):
            return None
    for _ in range(opts.passes):
        if not state.improve(moves):
            break
    problem, left = dual.problem, np.array(state.left, np.int64)
    return local_branch(problem.cost, problem.usage, left, reduced, state.choice, bound * (1 + opts.enough))


def _cheapest(reduced: FloatArray, most: int) -> IntArray:
    """Flat indices of the finite choices of least reduced cost, in order."""
    flat = reduced.ravel()
    finite = int(np.isfinite(flat).sum())
    most = min(most + len(reduced), finite)
    part = np.argpartition(flat, most - 1)[:most]
    ordered: IntArray = part[np.argsort(flat[part], kind="stable")].astype(np.int64)
    return ordered


class _State:
    """A choice and what it leaves of every limit (negative: violated)."""

    def __init__(self, problem: MultiProblem, choice: IntArray, limits: IntArray) -> None:
        self.problem, self.choice = problem, choice
        rows = np.arange(len(choice))
        self.left: list[int] = [int(x) for x in limits - problem.usage[:, rows, choice].sum(axis=1)]

    def _gains(self, moves: IntArray) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
        """Items, targets, extra usage (moves, m) and extra cost of every move from the present choice."""
        k = self.problem.cost.shape[1]
        item, target = moves // k, moves % k
        now = self.choice[item]
        more = (self.problem.usage[:, item, target] - self.problem.usage[:, item, now]).T
        cost = self.problem.cost[item, target] - self.problem.cost[item, now]
        return item, target, more, cost

    def _apply(self, item: int, target: int, more: list[int]) -> None:
        self.choice[item] = target
        self.left = [left - step for left, step in zip(self.left, more, strict=True)]

    def repair(self, moves: IntArray, reduced: FloatArray) -> bool:
        """Moves that lower the violation, the cheapest per unit of it first, until every limit holds."""
        for _ in range(50):
            if min(self.left) >= 0:
                return True
            item, target, more, _cost = self._gains(moves)
            over = np.array([max(0, -left) for left in self.left], np.float64)
            size = np.maximum(np.array(self.left) + more * 0 + 1, 1)
            harm = (np.maximum(more, 0) / np.maximum(size, 1)).sum(axis=1)
            relief = (np.minimum(-more, over[None, :]) / np.maximum(over, 1)[None, :])[:, over > 0].sum(axis=1)
            useful = np.flatnonzero(relief - np.where((over == 0).any(), harm, 0.0) > 0)
            price = reduced[item[useful], target[useful]] / relief[useful]
            if not self._walk(item, target, more, useful[np.argsort(price, kind="stable")]):
                return min(self.left) >= 0
        return min(self.left) >= 0

    def _walk(self, item: IntArray, target: IntArray, more: IntArray, order: IntArray) -> bool:
        moved: set[int] = set()
        for at in order:
            who, step = int(item[at]), more[at].tolist()
            if who in moved:
                continue
            before = sum(max(0, -left) for left in self.left)
            after = sum(max(0, step_ - left) for left, step_ in zip(self.left, step, strict=True))
            if after < before:
                self._apply(who, int(target[at]), step)
                moved.add(who)
                if after == 0:
                    return True
        return bool(moved)

    def improve(self, moves: IntArray) -> bool:
        """Moves that lower the cost and fit, in their order; False when there was none."""
        item, target, more, cost = self._gains(moves)
        moved: set[int] = set()
        fits = (more <= np.array(self.left)[None, :]).all(axis=1)
        for at in np.flatnonzero((cost < 0) & fits):
            who, step = int(item[at]), more[at].tolist()
            if who not in moved and all(s <= left for s, left in zip(step, self.left, strict=True)):
                self._apply(who, int(target[at]), step)
                moved.add(who)
        return bool(moved)
