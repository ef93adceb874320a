"""What one way of measuring rounding errors comes to: a table of rows, their costs, an allocation, its divergence.

Rounding may count an error map by its power alone or what it has in common over a map as often as the network does
(`quantize/curvature.py`); which is better depends on the network and the budget. So both are carried through the
allocation, and pictures that the rounding has not seen choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

from torch import Tensor

from bitloom.allocate.allocation import WIDTHS
from bitloom.allocate.hbp import LayerCosts
from bitloom.allocate.probe import divergence_judge
from bitloom.allocate.sensitivity import layer_costs
from bitloom.allocate.trust import Solution, Trust, choose_trust
from bitloom.graph.ir import Graph
from bitloom.journal import Journal
from bitloom.quantize.observe import Calibration
from bitloom.quantize.rounding import RoundedLayer
from bitloom.quantize.statistics import StatisticsOptions, round_network

S = TypeVar("S", bound=Solution)


@dataclass(frozen=True, eq=False)
class Candidate(Generic[S]):
    """coherent: of `StatisticsOptions`; divergence: of the solution on the held-out images, in nats."""

    coherent: int
    rounded: Mapping[str, RoundedLayer]
    costs: Mapping[str, LayerCosts]
    solution: S
    trust: Trust
    divergence: float

    @property
    def measure(self) -> str:
        """Its name in reports."""
        return "coherent" if self.coherent else "plain"


@dataclass(frozen=True, eq=False)
class Material:
    """Of one network: seen, the images that rounding sees; held_out, others for costs and choices; (N, C, H, W)."""

    graph: Graph
    calibration: Calibration
    seen: Tensor
    held_out: Tensor


def candidate(
    material: Material,
    coherent: int,
    solve: Callable[[Mapping[str, LayerCosts]], S],
    journal: Journal,
    rounding_key: str,
    budget_key: str,
) -> Candidate[S]:
    """Rounds, measures and allocates, each a step of `journal`; `budget_key` is of what `solve` depends on.

    solve: widths from costs. Raises BudgetError as it does.
    """
    mark = "-coherent" if coherent else ""
    key = rounding_key + (f" coherent {coherent}" if coherent else "")
    samples = StatisticsOptions(coherent=coherent)
    cal, held_out = material.calibration, material.held_out
    rounded: dict[str, RoundedLayer] = journal.step(
        f"round{mark}", key, lambda: round_network(cal, statistics=samples, images=material.seen)
    )
    costs: dict[str, LayerCosts] = journal.step(f"sensitivity{mark}", key, lambda: layer_costs(cal, rounded, held_out))

    def allocate() -> tuple[S, Trust, float]:
        judge = cache(divergence_judge(material.graph, cal, rounded, held_out))  # the solution was often judged before
        solution, trust = choose_trust(costs, WIDTHS, solve, judge)
        return solution, trust, judge(solution.allocation)

    solution, trust, divergence = journal.step(f"allocate{mark}", key + budget_key, allocate)
    return Candidate(coherent, rounded, costs, solution, trust, divergence)
