"""Allocations by name, ours and the related methods', each at its best settings for the rounding that goes with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bitloom.allocate.hbp import LayerCosts, allocate, binary_only_in
from bitloom.allocate.probe import Probe
from bitloom.allocate.trust import choose_trust
from bitloom.baselines.hawq import V3_WIDTHS, hawq
from bitloom.baselines.layers import SMALLEST, Judge, best_per_layer, best_smallest
from bitloom.baselines.ompq import ompq
from bitloom.baselines.search import greedy, random_allocation
from bitloom.compare.lineup import Lineup
from bitloom.errors import BudgetError
from bitloom.graph.allocation import WIDTHS, BitAllocation, uniform

#: What every allocation is called on a page. The number behind `random` is its seed.
NAMES = {
    "hbp": "HBP, per channel",
    "naive_channel": "Fisher per channel",
    "per_layer": "per layer, exact",
    "greedy": "per layer, greedy",
    "hawq_v2": "HAWQ-V2",
    "hawq_v3": "HAWQ-V3 (4 and 8 bits)",
    "ompq": "OMPQ",
    "uniform": "uniform",
    "random0": "random per channel, seed 0",
    "random1": "random per channel, seed 1",
    "random2": "random per channel, seed 2",
}
#: Roundings that the related methods are published with, where they are compared in that form too.
PUBLISHED = {
    "uniform": ("nearest", "plain"),
    "naive_channel": ("nearest", "plain"),
    "hawq_v2": ("nearest",),
    "ompq": ("nearest",),
}


@dataclass(frozen=True)
class Method:
    """allocation: of NAMES. rounding: gptq (ours, biases corrected), nearest, or plain (GPTQ as published)."""

    allocation: str
    rounding: str

    def __str__(self) -> str:
        return f"{self.allocation}+{self.rounding}"

    @property
    def comparison(self) -> str:
        """`allocation`: only the allocation differs from HBP's; `method`: the rounding too."""
        return "method" if self.rounding in ("nearest", "plain") else "allocation"

    @property
    def smallest(self) -> tuple[int, ...]:
        """Smallest widths to choose from: ours where the rounding is ours, those from 2 on of a method as published."""
        return SMALLEST if self.rounding == "gptq" else SMALLEST[1:]


def allocation_of(method: Method, mean_bits: float, lineup: Lineup, judge: Judge) -> BitAllocation | None:
    """The allocation of a method at a budget, in mean bits; None where it has none.

    judge: the loss of an allocation with the method's rounding, on images kept for choice.
    """
    p, budget = lineup, int(lineup.total * mean_bits)
    try:
        match method.allocation:
            case "hbp":
                return choose_trust(p.costs, WIDTHS, lambda c: allocate(c, WIDTHS, budget), judge)[0].allocation
            case "naive_channel":
                costs, least = p.naive(), (1, 2) if method.rounding == "gptq" else (2,)
                return best_smallest(lambda b: _naive(costs, b, budget), least, judge)
            case "per_layer":
                return best_per_layer(p.costs, WIDTHS, budget, judge, (0, *SMALLEST))  # 0: whole layers may go
            case "greedy":
                return best_smallest(lambda b: greedy(p.costs, WIDTHS, budget, b), SMALLEST, judge)
            case "uniform":
                return uniform(p.graph, int(mean_bits)) if mean_bits == int(mean_bits) else None
            case "random0" | "random1" | "random2":
                return random_allocation(p.channels, p.weights, budget, seed=int(method.allocation[-1]))
            case "ompq":
                orm = p.orm()
                make = lambda b: ompq(orm, p.channels, p.weights, budget, 1.0, WIDTHS[b:], p.binary)  # noqa: E731
                return best_smallest(make, method.smallest, judge)
            case "hawq_v2":
                probe, traces = Probe(p.calibration, p.tables[method.rounding]), p.traces()
                make = lambda b: hawq(probe, traces, budget, WIDTHS[b:], p.binary)  # noqa: E731
                return best_smallest(make, method.smallest, judge)
            case "hawq_v3":
                return hawq(Probe(p.calibration, p.tables[method.rounding]), p.traces(), budget, V3_WIDTHS)
    except BudgetError:
        return None
    raise ValueError(f"unknown allocation '{method.allocation}'")


def choice_of(
    method: Method, mean_bits: float, lineups: Sequence[Lineup], judge: Callable[[Lineup, str, BitAllocation], float]
) -> tuple[Lineup, BitAllocation] | None:
    """The allocation of a method, made for each measure of rounding errors, and the one that `judge` finds better.

    lineups: one network, rounded by each measure; with another rounding than ours the first serves. judge: the loss of
    an allocation with a rounding, on images kept for choice. None as `allocation_of`.
    """
    found = []
    for lineup in lineups if method.rounding == "gptq" else lineups[:1]:
        bits = allocation_of(method, mean_bits, lineup, partial(judge, lineup, method.rounding))
        if bits is not None:
            found.append((lineup, bits))
    return min(found, key=lambda f: judge(f[0], method.rounding, f[1])) if len(found) > 1 else next(iter(found), None)


def _naive(costs: Mapping[str, LayerCosts], least: int, budget: int) -> BitAllocation:
    """Per channel, pruning allowed; without binary channels where `least` is 2."""
    layers = costs if least == 1 else binary_only_in(costs, WIDTHS, ())
    return allocate(layers, WIDTHS, budget).allocation
