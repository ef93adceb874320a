"""What a way of measuring rounding errors comes to: a table of rows, their costs, an allocation, its divergence.

Rounding may count an error map by its power alone or what it has in common over a map as often as the network does
(`quantize/curvature.py`); which is better depends on the network and the budget. So both are carried through the
allocation, and pictures that the rounding has not seen choose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

import torch
from torch import Tensor

from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.gradients import Curvature, gradient_power
from bitloom.allocate.hbp import LayerCosts
from bitloom.allocate.probe import Probe, divergence_judge
from bitloom.allocate.sensitivity import layer_costs
from bitloom.allocate.trust import Allocated, Trust, choose_trust
from bitloom.graph.allocation import WIDTHS
from bitloom.graph.ir import Graph
from bitloom.journal import Journal
from bitloom.quantize.observe import Calibration
from bitloom.quantize.rounding import RoundedLayer
from bitloom.quantize.statistics import StatisticsOptions
from bitloom.quantize.tables import round_network

S = TypeVar("S", bound=Allocated)


@dataclass(frozen=True, eq=False)
class Material:
    """Of one network: seen, the images that rounding sees; held_out, others for costs and choices; (N, C, H, W)."""

    graph: Graph
    calibration: Calibration
    seen: Tensor
    held_out: Tensor


@dataclass(frozen=True, eq=False)
class PricedTable:
    """Rounded rows and what they cost. measure: of their rounding errors, plain or coherent."""

    measure: str
    rounded: Mapping[str, RoundedLayer]
    costs: Mapping[str, LayerCosts]


@dataclass(frozen=True, eq=False)
class Candidate(Generic[S]):
    """What a table comes to. divergence: of the solution on the held-out images, as `divergence_judge` has it."""

    table: PricedTable
    solution: S
    trust: Trust
    divergence: float


def float_power(calibration: Calibration, held_out: Tensor) -> dict[str, Curvature]:
    """Gradients of the float network, which no rounding touches, on `held_out` and the calibration's images."""
    probe = Probe(calibration, {})
    probe.correct()
    return gradient_power(probe, torch.cat([held_out, calibration.images]))


def price(
    calibration: Calibration,
    rounded: Mapping[str, RoundedLayer],
    held_out: Tensor,
    power: Mapping[str, Curvature] | None = None,
) -> dict[str, LayerCosts]:
    """Costs of every channel and width, as `layer_costs` makes them.

    Errors are measured on `held_out`, float (N, C, H, W), which the rounding has not seen. power: of `float_power`
    (None: measured here).
    """
    known = float_power(calibration, held_out) if power is None else power
    return layer_costs(calibration, rounded, held_out, GradientShare(power=known))


def priced_tables(material: Material, coherent: int, journal: Journal, key: str) -> tuple[PricedTable, ...]:
    """The plain table, and with `coherent` (of `StatisticsOptions`) above 0 the coherent one.

    Gradients, the same for both, roundings and costs are steps of `journal`.
    """
    cal = material.calibration
    power: dict[str, Curvature] = journal.step("gradients", key, lambda: float_power(cal, material.held_out))

    def made(measure: str, coherent: int) -> PricedTable:
        own = key + (f" coherent {coherent}" if coherent else "")
        samples = StatisticsOptions(coherent=coherent)
        rounded: dict[str, RoundedLayer] = journal.step(
            _step("round", measure), own, lambda: round_network(cal, statistics=samples, images=material.seen)
        )
        costs: dict[str, LayerCosts] = journal.step(
            _step("sensitivity", measure), own, lambda: price(cal, rounded, material.held_out, power)
        )
        return PricedTable(measure, rounded, costs)

    plain = made("plain", 0)
    return (plain, made("coherent", coherent)) if coherent else (plain,)


def candidate(
    table: PricedTable,
    material: Material,
    solve: Callable[[Mapping[str, LayerCosts]], S],
    journal: Journal,
    key: str,
) -> Candidate[S]:
    """Allocates, as a step of `journal`; `key` is of all that the table and `solve` depend on.

    solve: widths from costs. Raises BudgetError as it does.
    """

    def allocate() -> tuple[S, Trust, float]:
        judge = divergence_judge(material.graph, material.calibration, table.rounded, material.held_out)
        known = cache(judge)  # the solution was often judged before
        solution, trust = choose_trust(table.costs, WIDTHS, solve, known)
        return solution, trust, known(solution.allocation)

    return Candidate(table, *journal.step(_step("allocate", table.measure), key, allocate))


def _step(name: str, measure: str) -> str:
    """Of the journal."""
    return name if measure == "plain" else f"{name}-{measure}"
