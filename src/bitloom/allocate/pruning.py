"""How far to trust the costs of pruning: a few solutions, one of which measured images choose.

Costs are of one channel alone and add up; channels that are pruned together lose more than that, because each takes a
whole feature away instead of adding noise. A layer that loses most of its channels by summed costs may end a network.
So the cost of width 0 is tried at several factors, the last of which forbids pruning, and the divergence of each
allocation on images that the rounding has not seen decides. One number is chosen, so few images suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np

from bitloom.allocate.allocation import BitAllocation
from bitloom.allocate.hbp import LayerCosts
from bitloom.errors import BudgetError

FACTORS = (1.0, 4.0, 16.0, float("inf"))


class Solution(Protocol):
    """What a solver returns: an allocation, and what else it knows."""

    @property
    def allocation(self) -> BitAllocation:
        """The widths."""
        ...


S = TypeVar("S", bound=Solution)


def dearer_pruning(layers: Mapping[str, LayerCosts], widths: tuple[int, ...], factor: float) -> dict[str, LayerCosts]:
    """The same costs with those of width 0 times `factor`; channels that cost nothing at 0 stay free."""
    if widths[0] != 0 or factor == 1.0:
        return dict(layers)
    found = {}
    for name, layer in layers.items():
        cost = layer.cost.copy()
        cost[cost[:, 0] > 0, 0] *= factor
        found[name] = replace(layer, cost=cost)
    return found


def choose_pruning(
    layers: Mapping[str, LayerCosts],
    widths: tuple[int, ...],
    solve: Callable[[Mapping[str, LayerCosts]], S],
    judge: Callable[[BitAllocation], float],
    factors: tuple[float, ...] = FACTORS,
) -> tuple[S, float]:
    """The solution that `judge` finds least, and the factor of its pruning costs; of equals the first factor's.

    solve: widths from costs; judge: the measured loss of an allocation. Nothing is judged where the first solution
    prunes nothing that costs. Raises BudgetError as `solve` does with the first factor; later ones that cannot be met
    are out.
    """
    best, chosen = solve(dearer_pruning(layers, widths, factors[0])), factors[0]
    if not _prunes(layers, best.allocation):
        return best, chosen
    least, seen = judge(best.allocation), [best.allocation]
    for factor in factors[1:]:
        try:
            found = solve(dearer_pruning(layers, widths, factor))
        except BudgetError:
            break
        if any(_equal(found.allocation, other) for other in seen):
            continue
        seen.append(found.allocation)
        if (loss := judge(found.allocation)) < least:
            best, chosen, least = found, factor, loss
    return best, chosen


def _prunes(layers: Mapping[str, LayerCosts], allocation: BitAllocation) -> bool:
    """Whether a channel is pruned that costs something."""
    return any(bool((layers[name].cost[bits == 0, 0] > 0).any()) for name, bits in allocation.bits.items())


def _equal(a: BitAllocation, b: BitAllocation) -> bool:
    return all(np.array_equal(a.bits[name], b.bits[name]) for name in a.bits)
