"""Bits under a bound of the modelled cycles: Hierarchical Bit Programming for the accelerator's own cost.

Cycles are no sum over channels: bits of layers whose weights run ahead are free, bits of layers that wait for DDR are
not, and one channel of 6 bits or more costs its whole vector a second pass. The cycle model gives its value and its
slope at an allocation; each such linearisation becomes a limit beside the bytes, the multiple-choice knapsack is solved
again, and the model is asked at its answer (cutting planes: Kelley, The cutting-plane method for solving convex
programs, SIAM J. 1960; `linearised.py`). The late-weights part is convex up to rounding, so its cuts stay valid for
every bound: a front over bounds starts warm.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bitloom.allocate.cycle_model import CycleModel
from bitloom.allocate.hbp import LayerCosts, told_apart
from bitloom.allocate.knapsack import IntArray, Problem, relative_gap, solve
from bitloom.allocate.linearised import Asked, LinearisedCycles
from bitloom.errors import BudgetError
from bitloom.graph.allocation import BitAllocation
from bitloom.numerics.packing import TWO_PASS_BITS


@dataclass(frozen=True)
class LatencyOptions:
    """rounds: asks of the model at most.  slack: a run this close under the bound (relative) is close enough.

    cuts: linearisations kept, the latest ones: each is a limit more in the knapsack.  tighter: shares of the bound that
    are tried where the answer is more than `far` (relative) above the linearised bound.
    """

    rounds: int = 12
    cuts: int = 8
    slack: float = 0.003
    tighter: tuple[float, ...] = (0.97, 0.94, 0.9)
    far: float = 0.1


@dataclass(frozen=True, eq=False)
class LatencySolution:
    """objective: of the cost.  bound: on it, for the linearised cycle model; gap = (objective - bound)/objective.
    free_bound: proven for the bits alone, whatever the cycles.  cycles: of the model at the allocation, at most
    `limit`.  rounds: asks of the model."""

    allocation: BitAllocation
    objective: float
    bound: float
    gap: float
    free_bound: float
    seconds: float
    cycles: int
    limit: int
    rounds: int


class LatencyAllocator:
    """Allocations of one network under several bounds: what the model says for one serves the next.

    clock_mhz: with it, errors say milliseconds beside cycles.
    """

    def __init__(
        self,
        layers: Mapping[str, LayerCosts],
        widths: tuple[int, ...],
        model: CycleModel,
        clock_mhz: float | None = None,
    ) -> None:
        self.cycles = LinearisedCycles(told_apart(layers, widths), widths, model, clock_mhz)
        self._asked: list[Asked] = []

    def allocate(self, budget_bits: int, limit: int, options: LatencyOptions | None = None) -> LatencySolution:
        """The cheapest allocation found with at most `budget_bits` weight bits and `limit` modelled cycles.

        Raises BudgetError when the bits or the cycles cannot be met; the text names the nearest feasible.
        """
        opts, start = options or LatencyOptions(), time.perf_counter()
        free = solve(Problem(self.cycles.cost, self.cycles.sizes), budget_bits)
        best, bound, rounds = self._search(budget_bits, limit, opts)
        if best is None:
            best = self._fewer_bits(budget_bits, limit)
        return self._solution(best, bound, free.bound, time.perf_counter() - start, limit, rounds)

    def fewest_cycles(
        self, budget_bits: int, tolerance: float, options: LatencyOptions | None = None
    ) -> LatencySolution:
        """The fewest modelled cycles found at a cost of at most (1 + tolerance) times that of `knapsack.solve`.

        Bisection over bounds, to 2 %. `bound` and `gap` are those of the bits alone; `limit` is the cycles found.
        Raises BudgetError when the bits cannot be met.
        """
        opts, start = options or LatencyOptions(rounds=6, tighter=()), time.perf_counter()
        free = solve(Problem(self.cycles.cost, self.cycles.sizes), budget_bits)
        best = self._ask(free.choice)
        most, rounds = (1 + tolerance) * best.objective, 0
        low, high = min(self.cycles.fastest, best.cycles), best.cycles
        while high - low > 0.02 * high:
            middle = (low + high) // 2
            rounds += self._search(budget_bits, middle, opts)[2]
            best = min((a for a in self._within(budget_bits) if a.objective <= most), key=lambda a: a.cycles)
            low, high = (low, min(high, best.cycles)) if best.cycles <= 1.01 * middle else (middle, high)
        return self._solution(best, free.bound, free.bound, time.perf_counter() - start, best.cycles, rounds)

    def _search(self, budget_bits: int, limit: int, opts: LatencyOptions) -> tuple[Asked | None, float, int]:
        """The cheapest choice found within the limits, the bound of the linearised model, asks of the model."""
        best = self._known(budget_bits, limit)
        target, bound, rounds = float(limit), 0.0, 0
        seen: set[bytes] = set()
        for rounds in range(1, opts.rounds + 1):
            self.cycles.cuts = self.cycles.cuts[-opts.cuts :]
            self.cycles.drop_refuted(target, limit)
            relaxed, choice = self.cycles.solve(budget_bits, target)
            if choice.tobytes() in seen and (best is not None or rounds > 4):
                break
            seen.add(choice.tobytes())
            found = self._ask(choice)
            if target >= limit:
                bound = max(bound, relaxed.bound)
            best = _cheaper(best, found, limit)
            if found.cycles > limit:
                target -= 0.5 * (found.cycles - limit) if rounds > 3 else 0.0
            elif found.cycles >= limit * (1 - opts.slack) or not relaxed.multipliers[1:].any():
                break
            else:
                target += 0.7 * (limit - found.cycles)
        return self._tighter(budget_bits, limit, best, bound, opts), bound, rounds

    def front(self, budgets: Sequence[int], limits: Sequence[int]) -> list[LatencySolution]:
        """Allocations for every pair of a bit budget and a cycle limit that can be met, limits from the loosest on.

        What a tighter limit leads to serves the looser ones too, so that the loss never rises with the limit.
        """
        found = []
        for budget in budgets:
            for limit in sorted(limits, reverse=True):
                try:
                    found.append((self.allocate(budget, limit), budget))
                except BudgetError:
                    break
        return [self._improved(one, budget) for one, budget in found]

    def _ask(self, choice: IntArray) -> Asked:
        """What the model says, kept for later bounds."""
        self._asked.append(self.cycles.ask(choice))
        return self._asked[-1]

    def _known(self, budget_bits: int, limit: int) -> Asked | None:
        """The cheapest choice asked so far, for whatever bound, that meets these."""
        fits = (a for a in self._within(budget_bits) if a.cycles <= limit)
        return min(fits, key=lambda a: a.objective, default=None)

    def _within(self, budget_bits: int) -> list[Asked]:
        """The choices asked so far of no more bits."""
        sizes = self.cycles.sizes
        rows = np.arange(len(sizes))
        return [a for a in self._asked if int(sizes[rows, a.choice].sum()) <= budget_bits]

    def _tighter(
        self, budget_bits: int, limit: int, best: Asked | None, bound: float, opts: LatencyOptions
    ) -> Asked | None:
        """Where the answer is far from the bound: what tighter limits of the linearised model lead to."""
        for share in opts.tighter:
            if best is not None and best.objective <= (1 + opts.far) * bound:
                break
            self.cycles.drop_refuted(share * limit, limit)
            _, choice = self.cycles.solve(budget_bits, share * limit)
            best = _cheaper(best, self._ask(choice), limit)
        return best

    def _fewer_bits(self, budget_bits: int, limit: int) -> Asked:
        """Where the linearisations mislead: the most bits, all in vectors of one pass, that meet the limit (bisection).

        BudgetError when not even the smallest widths meet it.
        """
        cycles = self.cycles
        cycles.check(limit)
        best = cycles.answer(cycles.least, cycles.fastest)
        cost = np.where((cycles.widths >= TWO_PASS_BITS)[None, :], np.inf, cycles.cost)
        problem = Problem(np.where(np.isfinite(cost).any(axis=1, keepdims=True), cost, cycles.cost), cycles.sizes)
        low, high = problem.smallest, min(budget_bits, int(cycles.sizes.max(axis=1).sum()))
        for _ in range(8):
            middle = (low + high) // 2
            found = self._ask(solve(problem, middle).choice)
            if found.cycles > limit:
                high = middle
            else:
                low = middle
                best = min(best, found, key=lambda a: a.objective)
        return best

    def _improved(self, found: LatencySolution, budget_bits: int) -> LatencySolution:
        """The solution, or a cheaper choice asked since that meets its limits."""
        known = self._known(budget_bits, found.limit)
        if known is None or known.objective >= found.objective:
            return found
        return self._solution(known, found.bound, found.free_bound, found.seconds, found.limit, found.rounds)

    def _solution(
        self, found: Asked, bound: float, free_bound: float, seconds: float, limit: int, rounds: int
    ) -> LatencySolution:
        bound = min(bound, found.objective)
        gap = relative_gap(found.objective, bound)
        allocation = BitAllocation(self.cycles.bits(found.choice), self.cycles.inputs)
        return LatencySolution(
            allocation, found.objective, bound, gap, free_bound, seconds, found.cycles, limit, rounds
        )


def _cheaper(best: Asked | None, found: Asked, limit: int) -> Asked | None:
    """`found` where it meets the limit and costs less."""
    return found if found.cycles <= limit and (best is None or found.objective < best.objective) else best
