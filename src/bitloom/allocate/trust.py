"""How far to trust the costs of the two smallest widths: a few solutions, one of which measured images choose.

Costs are of one channel alone and add up; channels that are pruned together lose more than that, because each takes a
whole feature away instead of adding noise, and errors of binary channels are no small perturbations either. A layer
that gives up most of its channels by summed costs may end a network. So the cost of width 0 is tried at several
factors, the last of which forbids pruning, then without binary channels, and the divergence of each allocation on
images that the rounding has not seen decides. Two numbers are chosen, so few images suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from bitloom.allocate.hbp import LayerCosts
from bitloom.errors import BudgetError
from bitloom.graph.allocation import BitAllocation

NEVER = float("inf")
PRUNED = (1.0, 4.0, 16.0, NEVER)  #: factors that are tried on the cost of width 0


class Allocated(Protocol):
    """What a solver of widths returns: an allocation, and what else it knows."""

    @property
    def allocation(self) -> BitAllocation:
        """The widths."""
        ...


S = TypeVar("S", bound=Allocated)


@dataclass(frozen=True)
class Trust:
    """Factors on the costs of width 0 and of width 1; infinite: the width is not used where it costs anything."""

    pruned: float = 1.0
    binary: float = 1.0

    def weigh(self, layers: Mapping[str, LayerCosts], widths: tuple[int, ...]) -> dict[str, LayerCosts]:
        """The same costs, dearer at 0 and 1; channels that cost nothing at a width stay free."""
        factors = {widths.index(b): f for b, f in ((0, self.pruned), (1, self.binary)) if b in widths and f != 1.0}
        found = {}
        for name, layer in layers.items():
            cost = layer.cost.copy()
            for column, factor in factors.items():
                cost[cost[:, column] > 0, column] *= factor
            found[name] = replace(layer, cost=cost)
        return found


def choose_trust(
    layers: Mapping[str, LayerCosts],
    widths: tuple[int, ...],
    solve: Callable[[Mapping[str, LayerCosts]], S],
    judge: Callable[[BitAllocation], float],
) -> tuple[S, Trust]:
    """The solution that `judge` finds least, and the trust that it was found with; of equals the first.

    solve: widths from costs; judge: the measured loss of an allocation. Nothing is judged where the first solution has
    no channel of width 0 or 1 that costs anything. Raises BudgetError as `solve` does with plain costs; factors that
    leave nothing within the budget are out.
    """
    plain = solve(Trust().weigh(layers, widths))
    if not _doubtful(plain.allocation, layers, widths):
        return plain, Trust()
    judged = [_Judged(plain, Trust(), judge(plain.allocation))]

    def least() -> _Judged[S]:
        return min(judged, key=lambda j: j.loss)

    def visit(trust: Trust) -> None:
        try:
            found = solve(trust.weigh(layers, widths))
        except BudgetError:
            return
        if not any(found.allocation.same_widths(other.solution.allocation) for other in judged):
            judged.append(_Judged(found, trust, judge(found.allocation)))

    for pruned in PRUNED[1:]:
        visit(Trust(pruned))
    visit(replace(least().trust, binary=NEVER))
    visit(Trust(NEVER, NEVER))
    return least().solution, least().trust


@dataclass(frozen=True)
class _Judged(Generic[S]):
    solution: S
    trust: Trust
    loss: float


def _doubtful(allocation: BitAllocation, layers: Mapping[str, LayerCosts], widths: tuple[int, ...]) -> bool:
    """Whether a channel of width 0 or 1 costs something."""
    columns = [widths.index(b) for b in (0, 1) if b in widths]
    return any(
        bool((layers[name].cost[bits == widths[c], c] > 0).any())
        for name, bits in allocation.bits.items()
        for c in columns
    )
