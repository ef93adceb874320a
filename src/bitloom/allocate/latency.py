"""Bits under a bound of the modelled cycles: Hierarchical Bit Programming for the accelerator's own cost.

Cycles are no sum over channels: bits of layers whose weights run ahead are free, bits of layers that wait for DDR are
not, and one channel of 6 bits or more costs its whole vector a second pass. The cycle model gives its value and its
slope at an allocation; each such linearisation becomes a limit beside the bytes, the multiple-choice knapsack is solved
again, and the model is asked at its answer (cutting planes: Kelley, The cutting-plane method for solving convex
programs, SIAM J. 1960). The late-weights part is convex up to rounding, so its cuts stay valid for every bound: a front
over bounds starts warm. Second passes are a fixed charge per vector: shared among the vector's channels in a first
solve (a relaxation, whose bound is kept), then decided per vector at the multipliers found, and solved again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bitloom.allocate.allocation import BitAllocation
from bitloom.allocate.cycle_model import Bits, CycleModel
from bitloom.allocate.hbp import LayerCosts
from bitloom.allocate.knapsack import FloatArray, IntArray, Problem, solve
from bitloom.allocate.multi import MultiProblem, MultiSolution, solve_multi
from bitloom.errors import BudgetError

WIDE = 6  #: widths from here on take two passes
_UNITS = 64  #: limits are integers of 1/64 cycle


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


@dataclass(frozen=True, eq=False)
class _Cut:
    """cycles >= base + Σ per_bit·(bits of the layer) + Σ per_pass·(vectors with two passes of the layer)."""

    base: float
    per_bit: FloatArray  #: (layers,)
    per_pass: FloatArray


class LatencyAllocator:
    """Allocations of one network under several bounds: the cuts of one serve the next."""

    def __init__(self, layers: Mapping[str, LayerCosts], widths: tuple[int, ...], model: CycleModel) -> None:
        self.names = list(layers)
        self.widths = np.asarray(widths, np.int64)
        self.model = model
        self.cost = np.concatenate([layer.cost for layer in layers.values()])
        self.sizes = [len(layer.cost) for layer in layers.values()]
        self.inputs = {name: layer.weights for name, layer in layers.items()}
        self.layer = np.repeat(np.arange(len(layers)), self.sizes)
        self.weights = np.array([layers[n].weights for n in self.names], np.int64)[self.layer]
        self.cuts: list[_Cut] = []
        self._fastest: int | None = None
        self._asked: list[tuple[IntArray, int]] = []  # choices and the model's cycles

    def allocate(self, budget_bits: int, limit: int, options: LatencyOptions | None = None) -> LatencySolution:
        """The cheapest allocation found with at most `budget_bits` weight bits and `limit` modelled cycles.

        Raises BudgetError when the bits or the cycles cannot be met; the text names the nearest feasible.
        """
        opts, start = options or LatencyOptions(), time.perf_counter()
        best = self._known(budget_bits, limit)
        target, bound, rounds = float(limit), 0.0, 0
        seen: set[bytes] = set()
        free = solve(Problem(self.cost, self._sizes()), budget_bits)
        for rounds in range(1, opts.rounds + 1):
            self.cuts = self.cuts[-opts.cuts :]
            self._drop_refuted(target, limit)
            relaxed, choice = self._solve(budget_bits, target)
            if choice.tobytes() in seen and (best is not None or rounds > 4):
                break
            seen.add(choice.tobytes())
            cycles = self._ask(choice)
            if target >= limit:
                bound = max(bound, relaxed.bound)
            objective = self._objective(choice)
            if cycles <= limit and (best is None or objective < best[0]):
                best = (objective, choice, cycles)
            if cycles > limit:
                target -= 0.5 * (cycles - limit) if rounds > 3 else 0.0
            elif cycles >= limit * (1 - opts.slack) or not relaxed.multipliers[1:].any():
                break
            else:
                target += 0.7 * (limit - cycles)
        best = self._tighter(budget_bits, limit, best, bound, opts)
        if best is None:
            best = self._fewer_bits(budget_bits, limit)
        objective, choice, cycles = best
        bound = min(bound, objective)
        gap = 0.0 if objective <= 0 else (objective - bound) / objective
        allocation = BitAllocation(self._bits(choice), self.inputs)
        seconds = time.perf_counter() - start
        return LatencySolution(allocation, objective, bound, gap, free.bound, seconds, cycles, limit, rounds)

    def _tighter(
        self,
        budget_bits: int,
        limit: int,
        best: tuple[float, IntArray, int] | None,
        bound: float,
        opts: LatencyOptions,
    ) -> tuple[float, IntArray, int] | None:
        """Where the answer is far from the bound: what tighter limits of the linearised model lead to."""
        for share in opts.tighter:
            if best is not None and best[0] <= (1 + opts.far) * bound:
                break
            self._drop_refuted(share * limit, limit)
            _, choice = self._solve(budget_bits, share * limit)
            cycles, objective = self._ask(choice), self._objective(choice)
            if cycles <= limit and (best is None or objective < best[0]):
                best = (objective, choice, cycles)
        return best

    def _known(self, budget_bits: int, limit: int) -> tuple[float, IntArray, int] | None:
        """The cheapest choice asked so far, for whatever bound, that meets these."""
        size = self._sizes()
        rows = np.arange(len(size))
        fits = [(c, n) for c, n in self._asked if n <= limit and int(size[rows, c].sum()) <= budget_bits]
        return min(((self._objective(c), c, n) for c, n in fits), key=lambda b: b[0], default=None)

    def _fewer_bits(self, budget_bits: int, limit: int) -> tuple[float, IntArray, int]:
        """Where the linearisations mislead: the most bits, all in vectors of one pass, that meet the limit (bisection).

        BudgetError when not even the smallest widths meet it.
        """
        best = (self._objective(self._least()), self._least(), self._least_cycles(limit))
        cost = np.where((self.widths >= WIDE)[None, :], np.inf, self.cost)
        problem = Problem(np.where(np.isfinite(cost).any(axis=1, keepdims=True), cost, self.cost), self._sizes())
        low, high = problem.smallest, min(budget_bits, int(self.weights.sum()) * int(self.widths.max()))
        for _ in range(8):
            middle = (low + high) // 2
            choice = solve(problem, middle).choice
            cycles = self._ask(choice)
            if cycles > limit:
                high = middle
                continue
            low = middle
            best = min(best, (self._objective(choice), choice, cycles), key=lambda b: b[0])
        return best

    def _sizes(self) -> IntArray:
        """(n, k) weight bits of every channel at every width."""
        return np.asarray(self.weights[:, None] * self.widths[None, :], dtype=np.int64)

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

    def _improved(self, found: LatencySolution, budget_bits: int) -> LatencySolution:
        """The solution, or a cheaper choice asked since that meets its limits."""
        known = self._known(budget_bits, found.limit)
        if known is None or known[0] >= found.objective:
            return found
        objective, choice, cycles = known
        bound = min(found.bound, objective)
        allocation = BitAllocation(self._bits(choice), self.inputs)
        gap = 0.0 if objective <= 0 else (objective - bound) / objective
        return replace(found, allocation=allocation, objective=objective, bound=bound, gap=gap, cycles=cycles)

    def _objective(self, choice: IntArray) -> float:
        return float(self.cost[np.arange(len(choice)), choice].sum())

    def _least_cycles(self, limit: int) -> int:
        """Cycles with every channel at its smallest width; BudgetError when even they exceed the limit."""
        if self._fastest is None:
            self._fastest = self.model.prices(self._bits(self._least())).cycles
        if self._fastest > limit:
            raise BudgetError(
                f"a bound of {limit} cycles cannot be met: with every channel at its smallest width the model takes "
                f"{self._fastest}; nearest feasible: {self._fastest} cycles"
            )
        return self._fastest

    def _drop_refuted(self, target: float, limit: int) -> None:
        """Forgets linearisations that rule out every allocation: the smallest widths show that they are wrong there."""
        least = self._bits(self._least())
        bits = self._layer_bits(least)
        wide = np.array([float((least[n] >= WIDE).any()) for n in self.names])
        kept = [cut for cut in self.cuts if cut.base + cut.per_bit @ bits + cut.per_pass @ wide <= target]
        if len(kept) < len(self.cuts):
            self._least_cycles(limit)
            self.cuts = kept

    def _layer_bits(self, bits: Bits) -> FloatArray:
        """(layers,) weight bits."""
        return np.array([float(bits[n].sum(dtype=np.int64)) * self.inputs[n] for n in self.names])

    def _bits(self, choice: IntArray) -> dict[str, npt.NDArray[np.int8]]:
        bits = self.widths[choice].astype(np.int8)
        return dict(zip(self.names, np.split(bits, np.cumsum(self.sizes)[:-1]), strict=True))

    def _least(self) -> IntArray:
        """Every channel at its smallest allowed width."""
        return np.asarray(np.argmax(np.isfinite(self.cost), axis=1), dtype=np.int64)

    def _ask(self, choice: IntArray) -> int:
        """Cycles of the model; its linearisation becomes a cut."""
        bits = self._bits(choice)
        prices = self.model.prices(bits)
        per_bit = np.array([prices.per_bit[n] for n in self.names])
        per_pass = np.array([prices.per_pass[n] for n in self.names])
        have = self._layer_bits(bits)
        wide = np.array([float(prices.wide_vectors[n]) for n in self.names])
        self._asked.append((choice, prices.cycles))
        self.cuts.append(_Cut(prices.cycles - per_bit @ have - per_pass @ wide, per_bit, per_pass))
        return prices.cycles

    def _solve(self, budget_bits: int, target: float) -> tuple[MultiSolution, IntArray]:
        """The relaxation with shared passes, and the choice with passes decided per vector."""
        relaxed = self._knapsack(budget_bits, target, None)
        if not self.cuts:
            return relaxed, relaxed.choice
        return relaxed, self._knapsack(budget_bits, target, self._open(relaxed, target)).choice

    def _knapsack(
        self, budget_bits: int, target: float, passes: tuple[npt.NDArray[np.bool_], FloatArray] | None
    ) -> MultiSolution:
        """passes: channels that may be wide, and vectors with two passes by layer; None: passes shared by channels."""
        size = self._sizes()
        usage, limits = [size], [budget_bits]
        wide = (self.widths >= WIDE)[None, :]
        for cut in self.cuts:
            cycles = cut.per_bit[self.layer][:, None] * size
            rest = target - cut.base
            if passes is None:
                cycles = cycles + np.where(wide, (cut.per_pass / self.model.vector)[self.layer][:, None], 0.0)
            else:
                rest -= float(cut.per_pass @ passes[1])
            usage.append(np.rint(cycles * _UNITS).astype(np.int64))
            limits.append(int(np.floor(rest * _UNITS)))
        cost = self.cost if passes is None else np.where(wide & ~passes[0][:, None], np.inf, self.cost)
        names = ("bits", *(f"cycles of linearisation {i + 1}, 1/{_UNITS}" for i in range(len(self.cuts))))
        return solve_multi(MultiProblem(cost, np.array(usage), names), tuple(limits))

    def _open(self, relaxed: MultiSolution, target: float) -> tuple[npt.NDArray[np.bool_], FloatArray]:
        """Channels that may be wide and, by layer, vectors with two passes.

        Channels are ranked by what a width of 6 or more gains at the multipliers; the vectors that gain most per cycle
        are opened while every linearisation has cycles left beside the bits of the relaxed solution.
        """
        price = relaxed.multipliers[1:] * _UNITS
        per_bit, per_pass = np.array([c.per_bit for c in self.cuts]), np.array([c.per_pass for c in self.cuts])
        dear = relaxed.multipliers[0] + (price @ per_bit)[self.layer]
        value = self.cost + dear[:, None] * self.weights[:, None] * self.widths
        narrow = value[:, self.widths < WIDE].min(axis=1)
        gain = np.where(np.isfinite(narrow), narrow - np.minimum(narrow, value.min(axis=1)), np.inf)
        bits = self._layer_bits(self._bits(relaxed.choice))
        left = np.array([target - c.base for c in self.cuts]) - per_bit @ bits
        allowed = [np.zeros(n, np.bool_) for n in self.sizes]
        opened = np.zeros(len(self.names))
        blocks = self._blocks(np.split(gain, np.cumsum(self.sizes)[:-1]), price @ per_pass)
        for _, i, block in sorted(blocks, key=lambda b: -b[0]):
            if (per_pass[:, i] <= left).all():
                left = left - per_pass[:, i]
                allowed[i][block] = True
                opened[i] += 1
        return np.concatenate(allowed), opened

    def _blocks(self, gain: list[FloatArray], price: FloatArray) -> list[tuple[float, int, IntArray]]:
        """(gain per price, layer, channels) of every vector that gains more than its second pass costs."""
        ties = self.model.ties(self._bits(self._least()))
        classes: dict[tuple[str, bool], list[int]] = {}
        for i, name in enumerate(self.names):
            tie = ties[name]
            classes.setdefault((name, False) if tie is None else (tie, True), []).append(i)
        found = []
        for (_, free), members in classes.items():
            total = sum((gain[i] for i in members), np.zeros(self.sizes[members[0]]))
            order = np.argsort(-total, kind="stable") if free else np.arange(total.size)
            for at in range(0, total.size, self.model.vector):
                block = order[at : at + self.model.vector].astype(np.int64)
                for i in members:
                    worth = float(gain[i][block].sum())
                    if worth > price[i]:
                        found.append((worth / max(float(price[i]), 1e-30), i, block))
        return found
