"""The cycle model as linear limits: its values and slopes at the widths it was asked for, and the knapsack under them.

Each answer of the model is a linearisation, a limit beside the bytes. Second passes are a fixed charge per vector:
shared among the vector's channels in a first solve (a relaxation, whose bound holds), then decided per vector at the
multipliers found, and solved again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitloom.allocate.budget import enough_milliseconds
from bitloom.allocate.cycle_model import Bits, CycleModel
from bitloom.allocate.hbp import LayerCosts
from bitloom.allocate.knapsack import FloatArray, IntArray
from bitloom.allocate.multi import MultiProblem, MultiSolution, solve_multi
from bitloom.errors import BudgetError
from bitloom.numerics.packing import TWO_PASS_BITS

_UNITS = 64  #: limits are integers of 1/64 cycle


@dataclass(frozen=True, eq=False)
class _Cut:
    """cycles >= base + Σ per_bit·(bits of the layer) + Σ per_pass·(vectors with two passes of the layer)."""

    base: float
    per_bit: FloatArray  #: (layers,)
    per_pass: FloatArray


@dataclass(frozen=True, eq=False)
class _Passes:
    """channels (n,): which may be wide.  vectors (layers,): how many take two passes."""

    channels: npt.NDArray[np.bool_]
    vectors: FloatArray


@dataclass(frozen=True, eq=False)
class Asked:
    """Widths that the model was asked for: choice (channels,) of their columns, its cost, the model's cycles."""

    choice: IntArray
    objective: float
    cycles: int


class LinearisedCycles:
    """The channels of one network, and what the cycle model has said of them so far.

    cost, sizes (channels, widths): of every channel at every width, loss and weight bits.  least (channels,): choice of
    the smallest allowed widths.  cuts: linearisations, the latest last.  clock_mhz: for errors in milliseconds too.
    """

    def __init__(
        self,
        layers: Mapping[str, LayerCosts],
        widths: tuple[int, ...],
        model: CycleModel,
        clock_mhz: float | None = None,
    ) -> None:
        self.clock_mhz = clock_mhz
        self.names = list(layers)
        self.widths = np.asarray(widths, np.int64)
        self.model = model
        self.cost = np.concatenate([layer.cost for layer in layers.values()])
        self.inputs = {name: layer.weights for name, layer in layers.items()}
        self.cuts: list[_Cut] = []
        self._counts = [len(layer.cost) for layer in layers.values()]
        self._layer = np.repeat(np.arange(len(layers)), self._counts)
        self._weights = np.array([layers[n].weights for n in self.names], np.int64)[self._layer]
        self.sizes = self._weights[:, None] * self.widths[None, :]
        self.least: IntArray = np.argmax(np.isfinite(self.cost), axis=1)

    def bits(self, choice: IntArray) -> dict[str, npt.NDArray[np.int8]]:
        """Widths (Cout,) of every layer."""
        bits = self.widths[choice].astype(np.int8)
        return dict(zip(self.names, np.split(bits, np.cumsum(self._counts)[:-1]), strict=True))

    @cached_property
    def fastest(self) -> int:
        """Cycles with every channel at its smallest width."""
        return self.model.prices(self.bits(self.least)).cycles

    def check(self, limit: int) -> None:
        """BudgetError when even the smallest widths exceed the limit."""
        if self.fastest > limit:
            raise BudgetError(
                f"a bound of {self._time(limit)} cannot be met: with every channel at its smallest width the model "
                f"takes {self.fastest}; nearest feasible: {self._time(self.fastest, enough=True)}"
            )

    def _time(self, cycles: int, enough: bool = False) -> str:
        """Cycles, and with a clock the milliseconds; enough: so many that these cycles are allowed."""
        if self.clock_mhz is None:
            return f"{cycles} cycles"
        plain = f"{cycles / self.clock_mhz / 1e3:.4g}"
        text = enough_milliseconds(cycles, self.clock_mhz) if enough else plain
        return f"{cycles} cycles ({text} ms at {self.clock_mhz:g} MHz)"

    def ask(self, choice: IntArray) -> Asked:
        """What the model says; its linearisation becomes a cut."""
        bits = self.bits(choice)
        prices = self.model.prices(bits)
        per_bit = np.array([prices.per_bit[n] for n in self.names])
        per_pass = np.array([prices.per_pass[n] for n in self.names])
        have = self._layer_bits(bits)
        wide = np.array([float(prices.wide_vectors[n]) for n in self.names])
        self.cuts.append(_Cut(prices.cycles - per_bit @ have - per_pass @ wide, per_bit, per_pass))
        return self.answer(choice, prices.cycles)

    def answer(self, choice: IntArray, cycles: int) -> Asked:
        """A choice with its cost, where the cycles are known."""
        return Asked(choice, float(self.cost[np.arange(len(choice)), choice].sum()), cycles)

    def drop_refuted(self, target: float, limit: int) -> None:
        """Forgets linearisations that rule out every allocation: the smallest widths show that they are wrong there.

        BudgetError when they are right for `limit`.
        """
        least = self.bits(self.least)
        bits = self._layer_bits(least)
        wide = np.array([float((least[n] >= TWO_PASS_BITS).any()) for n in self.names])
        kept = [cut for cut in self.cuts if cut.base + cut.per_bit @ bits + cut.per_pass @ wide <= target]
        if len(kept) < len(self.cuts):
            self.check(limit)
            self.cuts = kept

    def solve(self, budget_bits: int, target: float) -> tuple[MultiSolution, IntArray]:
        """The relaxation with shared passes, and the choice with passes decided per vector."""
        relaxed = self._knapsack(budget_bits, target, None)
        if not self.cuts:
            return relaxed, relaxed.choice
        return relaxed, self._knapsack(budget_bits, target, self._open(relaxed, target)).choice

    def _knapsack(self, budget_bits: int, target: float, passes: _Passes | None) -> MultiSolution:
        """passes: None where they are shared by channels."""
        size = self.sizes
        usage, limits = [size], [budget_bits]
        wide = (self.widths >= TWO_PASS_BITS)[None, :]
        for cut in self.cuts:
            cycles = cut.per_bit[self._layer][:, None] * size
            rest = target - cut.base
            if passes is None:
                cycles = cycles + np.where(wide, (cut.per_pass / self.model.vector)[self._layer][:, None], 0.0)
            else:
                rest -= float(cut.per_pass @ passes.vectors)
            usage.append(np.rint(cycles * _UNITS).astype(np.int64))
            limits.append(int(np.floor(rest * _UNITS)))
        cost = self.cost if passes is None else np.where(wide & ~passes.channels[:, None], np.inf, self.cost)
        names = ("bits", *(f"cycles of linearisation {i + 1}, 1/{_UNITS}" for i in range(len(self.cuts))))
        return solve_multi(MultiProblem(cost, np.array(usage), names), tuple(limits))

    def _open(self, relaxed: MultiSolution, target: float) -> _Passes:
        """The second passes that pay.

        Channels are ranked by what a width of 6 or more gains at the multipliers; the vectors that gain most per cycle
        are opened while every linearisation has cycles left beside the bits of the relaxed solution.
        """
        price = relaxed.multipliers[1:] * _UNITS
        per_bit, per_pass = np.array([c.per_bit for c in self.cuts]), np.array([c.per_pass for c in self.cuts])
        dear = relaxed.multipliers[0] + (price @ per_bit)[self._layer]
        value = self.cost + dear[:, None] * self._weights[:, None] * self.widths
        narrow = value[:, self.widths < TWO_PASS_BITS].min(axis=1)
        gain = np.where(np.isfinite(narrow), narrow - np.minimum(narrow, value.min(axis=1)), np.inf)
        bits = self._layer_bits(self.bits(relaxed.choice))
        left = np.array([target - c.base for c in self.cuts]) - per_bit @ bits
        allowed = [np.zeros(n, np.bool_) for n in self._counts]
        opened = np.zeros(len(self.names))
        blocks = self._blocks(np.split(gain, np.cumsum(self._counts)[:-1]), price @ per_pass)
        for _, i, block in sorted(blocks, key=lambda b: -b[0]):
            if (per_pass[:, i] <= left).all():
                left = left - per_pass[:, i]
                allowed[i][block] = True
                opened[i] += 1
        return _Passes(np.concatenate(allowed), opened)

    def _blocks(self, gain: list[FloatArray], price: FloatArray) -> list[tuple[float, int, IntArray]]:
        """(gain per price, layer, channels) of every vector that gains more than its second pass costs."""
        ties = self.model.ties(self.bits(self.least))
        classes: dict[tuple[str, bool], list[int]] = {}
        for i, name in enumerate(self.names):
            tie = ties[name]
            classes.setdefault((name, False) if tie is None else (tie, True), []).append(i)
        found = []
        for (_, free), members in classes.items():
            total = sum((gain[i] for i in members), np.zeros(self._counts[members[0]]))
            order = np.argsort(-total, kind="stable") if free else np.arange(total.size)
            for at in range(0, total.size, self.model.vector):
                block = order[at : at + self.model.vector].astype(np.int64)
                for i in members:
                    worth = float(gain[i][block].sum())
                    if worth > price[i]:
                        found.append((worth / max(float(price[i]), 1e-30), i, block))
        return found

    def _layer_bits(self, bits: Bits) -> FloatArray:
        """(layers,) weight bits."""
        return np.array([float(bits[n].sum(dtype=np.int64)) * self.inputs[n] for n in self.names])
