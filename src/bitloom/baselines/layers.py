"""Baselines with one width per layer: what they share, and the exact integer program at its best smallest width."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

import numpy as np
import numpy.typing as npt

from bitloom.allocate.core import solve_exact
from bitloom.allocate.hbp import LayerCosts
from bitloom.allocate.knapsack import Problem
from bitloom.errors import BudgetError
from bitloom.graph.allocation import BitAllocation

FloatArray = npt.NDArray[np.float64]
WIDTHS = (2, 3, 4, 5, 6, 7, 8)  #: of a baseline, where it is not given others
SMALLEST = (1, 2, 3)  #: smallest widths that a baseline may be better off with
Judge = Callable[[BitAllocation], float]


def by_layer(
    costs: Mapping[str, FloatArray],
    channels: Mapping[str, int],
    weights: Mapping[str, int],
    widths: tuple[int, ...],
    budget_bits: int,
) -> BitAllocation:
    """One width per layer of least summed cost (k,) within the budget, proven optimal unless the solver's states end.

    channels, weights: output channels, and weights of each. Raises BudgetError when infeasible.
    """
    sizes = np.array([channels[n] * weights[n] for n in costs], np.int64)
    cost = np.stack(list(costs.values()))
    cost = cost - cost.min(axis=1, keepdims=True)
    chosen = solve_exact(Problem(cost, sizes[:, None] * np.asarray(widths, np.int64)[None, :]), budget_bits).choice
    bits = {n: np.full(channels[n], widths[c], np.int8) for n, c in zip(costs, chosen, strict=True)}
    return BitAllocation(bits, dict(weights))


def without_binary(
    costs: Mapping[str, FloatArray], widths: tuple[int, ...], binary: Container[str]
) -> dict[str, FloatArray]:
    """The costs (k,) of every layer, infinite at 1 bit in layers that are not in `binary`."""
    one = np.asarray(widths) == 1
    return {name: cost if name in binary else np.where(one, np.inf, cost) for name, cost in costs.items()}


def best_smallest(make: Callable[[int], BitAllocation], smallest: tuple[int, ...], judge: Judge) -> BitAllocation:
    """Of the allocations at each smallest width the one that `judge` finds least; widths that do not fit are out.

    make: an allocation from the smallest width. Raises BudgetError when none fits.
    """
    found, reason = [], ""
    for least in smallest:
        try:
            found.append(make(least))
        except BudgetError as error:
            reason = reason or str(error)
    if not found:
        raise BudgetError(f"the budget allows no smallest width of {smallest}: {reason}")
    return found[0] if len(found) == 1 else min(found, key=judge)


def best_per_layer(
    layers: Mapping[str, LayerCosts],
    widths: tuple[int, ...],
    budget_bits: int,
    judge: Judge,
    smallest: tuple[int, ...] = SMALLEST,
) -> BitAllocation:
    """The exact program per layer at each smallest width that the budget allows; the one that `judge` finds least.

    A layer at one or two bits is easily the whole loss, so that a smallest width of two or three can be the better
    setting. judge: the measured loss of an allocation, on calibration images. Raises BudgetError when no smallest width
    fits.
    """
    channels = {n: len(layer.cost) for n, layer in layers.items()}
    weights = {n: layer.weights for n, layer in layers.items()}

    def make(least: int) -> BitAllocation:
        allowed = [i for i, b in enumerate(widths) if b >= least]
        sums = {n: layer.cost.sum(axis=0)[allowed] for n, layer in layers.items()}
        return by_layer(sums, channels, weights, tuple(widths[i] for i in allowed), budget_bits)

    return best_smallest(make, smallest, judge)
