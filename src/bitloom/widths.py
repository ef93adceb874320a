"""The widths that a budget allows a network on a build: its bits, its cycles, and the layers that may have 1 bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from bitloom.allocate.allocation import WIDTHS
from bitloom.allocate.budget import Budget
from bitloom.allocate.hbp import HbpSolution, LayerCosts, allocate, binary_only_in
from bitloom.allocate.latency import LatencyAllocator, LatencySolution
from bitloom.explore.pricing import NetworkCycles
from bitloom.graph.ir import Conv, Graph, Linear
from bitloom.program.binary import binary_layers
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

WidthSolution = HbpSolution | LatencySolution


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
        solver = LatencyAllocator(self._allowed(costs), WIDTHS, self._model, self.device.clock_mhz)
        return solver.allocate(self._weight_bits, self.cycle_limit)

    @property
    def cycle_limit(self) -> int | None:
        """Of the budget at the device's clock; None without one."""
        return self.budget.cycle_limit(self.device.clock_mhz)

    def cycles_without_limit(self, costs: Mapping[str, LayerCosts]) -> int:
        """Of an image, by the model, at the cheapest widths whatever their cycles."""
        return self._model.run(self._solve_bits(costs).allocation.bits).cycles

    def key(self) -> str:
        """Identity of all that the answer depends on beside graph and costs."""
        limits = f"budget {self.budget} {sorted(self._binary)}"
        return limits if self.cycle_limit is None else f"{limits} {self.cycle_limit} cycles {self.arch} {self.device}"

    def _solve_bits(self, costs: Mapping[str, LayerCosts]) -> HbpSolution:
        return allocate(self._allowed(costs), WIDTHS, self._weight_bits)

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
    def _binary(self) -> frozenset[str]:
        return binary_layers(self.graph, self.arch)


def weights(graph: Graph) -> int:
    """Weights of all layers."""
    return sum(int(node.op.weight.size) for node in graph.nodes if isinstance(node.op, Conv | Linear))
