"""The widths that a budget allows a network on a build: its bits, its cycles, and the layers that may have 1 bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from bitloom.allocate.budget import Budget
from bitloom.allocate.hbp import HbpSolution, LayerCosts, allocate, binary_only_in
from bitloom.allocate.latency import LatencyAllocator, LatencySolution
from bitloom.explore.pricing import NetworkCycles
from bitloom.graph.allocation import WIDTHS, BitAllocation
from bitloom.graph.ir import Conv, Graph, Linear
from bitloom.program.binary import binary_layers
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

WidthSolution = HbpSolution | LatencySolution


@dataclass(frozen=True)
class CycleFacts:
    """What regard for cycles has cost some widths, and what it has brought.

    limit: in cycles, or None.  model_cycles, model_cycles_without_limit: of one image at these widths, and at the
    cheapest whatever their cycles.  loss_given_up: over the estimated loss of those widths, relative.
    """

    limit: int | None
    model_cycles: int
    model_cycles_without_limit: int
    loss_given_up: float


@dataclass(frozen=True, eq=False)
class WidthSolver:
    """Solves for widths from costs, as often as one asks."""

    graph: Graph
    arch: ArchConfig
    device: Device
    budget: Budget

    def solve(self, costs: Mapping[str, LayerCosts]) -> WidthSolution:
        """The cheapest widths. Raises BudgetError where the bits or the cycles cannot be met."""
        if self.cycle_limit is None:
            return self._solve_bits(costs)
        return self._by_cycles(costs).allocate(self._weight_bits, self.cycle_limit)

    def spare(self, costs: Mapping[str, LayerCosts], cheapest: WidthSolution) -> WidthSolution:
        """Widths of fewer cycles than those of `solve`, within the budget's tolerance, where it limits no cycles."""
        if not self.spares:
            return cheapest
        found = self._by_cycles(costs).fewest_cycles(self._weight_bits, self.budget.tolerance)
        return found if found.cycles < self._cycles(cheapest.allocation) else cheapest

    def settle(self, costs: Mapping[str, LayerCosts]) -> WidthSolution:
        """`solve`, and what `spare` makes of it."""
        return self.spare(costs, self.solve(costs))

    @property
    def spares(self) -> bool:
        """The budget lets some loss be given up for cycles."""
        return self.cycle_limit is None and self.budget.tolerance > 0

    @property
    def cycle_limit(self) -> int | None:
        """Of the budget at the device's clock; None without one."""
        return self.budget.cycle_limit(self.device.clock_mhz)

    def cycle_facts(
        self, costs: Mapping[str, LayerCosts], cheapest: WidthSolution, solution: WidthSolution
    ) -> CycleFacts:
        """Of `solution`; cheapest: what `solve` made of the same costs."""
        free = cheapest if self.cycle_limit is None else self._solve_bits(costs)
        given = solution.objective / free.objective - 1 if free.objective > 0 else 0.0
        cycles, free_cycles = self._cycles(solution.allocation), self._cycles(free.allocation)
        return CycleFacts(self.cycle_limit, cycles, free_cycles, max(0.0, given))

    def key(self) -> str:
        """Identity of all that the answer of `solve` depends on beside graph and costs."""
        limits = f"budget {self.budget} {sorted(self._binary)}"
        return limits if self.cycle_limit is None else f"{limits} {self.cycle_limit} cycles {self.arch} {self.device}"

    def spare_key(self) -> str:
        """The same of `spare`, beside those of `solve`."""
        return f"tolerance {self.budget.tolerance:g} {self.arch} {self.device}" if self.spares else ""

    def _solve_bits(self, costs: Mapping[str, LayerCosts]) -> HbpSolution:
        return allocate(self._allowed(costs), WIDTHS, self._weight_bits)

    def _by_cycles(self, costs: Mapping[str, LayerCosts]) -> LatencyAllocator:
        return LatencyAllocator(self._allowed(costs), WIDTHS, self._model, self.device.clock_mhz)

    def _allowed(self, costs: Mapping[str, LayerCosts]) -> dict[str, LayerCosts]:
        layers = {name: layer.at_least(self.budget.least, WIDTHS) for name, layer in costs.items()}
        return binary_only_in(layers, WIDTHS, self._binary)

    @property
    def _weight_bits(self) -> int:
        return self.budget.weight_bits(weights(self.graph))

    @property
    def _model(self) -> NetworkCycles:
        return NetworkCycles(self.graph, self.arch, self.device)

    @cached_property
    def _cycles(self) -> Callable[[BitAllocation], int]:
        """The model's, which plans a whole program: once an allocation."""
        return cache(lambda allocation: self._model.run(allocation.bits).cycles)

    @cached_property
    def _binary(self) -> frozenset[str]:
        return binary_layers(self.graph, self.arch)


def weights(graph: Graph) -> int:
    """Weights of all layers."""
    return sum(int(node.op.weight.size) for node in graph.nodes if isinstance(node.op, Conv | Linear))
