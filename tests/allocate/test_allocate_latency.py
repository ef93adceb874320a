"""Bits under a cycle bound: against brute force on a model small enough, and on the accelerator's own model."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from bitloom.allocate.budget import Budget
from bitloom.allocate.cycle_model import CyclePrices
from bitloom.allocate.hbp import LayerCosts, allocate
from bitloom.allocate.knapsack import Problem, solve
from bitloom.allocate.latency import LatencyAllocator
from bitloom.errors import BudgetError
from bitloom.graph.allocation import WIDTHS

FEW = (2, 4, 6)


@dataclass(frozen=True)
class Toy:
    """Two layers: the first computes, the second waits for what DDR has not brought meanwhile; passes double work."""

    vector: int = 2
    compute: int = 100
    rate: float = 1.0

    def ties(self, bits: Mapping[str, np.ndarray]) -> dict[str, str | None]:
        return dict.fromkeys(bits)

    def wide(self, bits: Mapping[str, np.ndarray]) -> dict[str, int]:
        return {n: int((b.reshape(-1, self.vector) >= 6).any(axis=1).sum()) for n, b in bits.items()}

    def cycles(self, bits: Mapping[str, np.ndarray]) -> int:
        wide = self.wide(bits)
        work = self.compute + 40 * wide["a"]
        late = max(0.0, self.rate * 8 * float(bits["b"].sum()) - work)
        return int(work + late + 40 + 10 * wide["b"])

    def prices(self, bits: Mapping[str, np.ndarray]) -> CyclePrices:
        wide, late = self.wide(bits), self.rate * 8 * float(bits["b"].sum()) > self.compute + 40 * self.wide(bits)["a"]
        per_pass = {"a": 0.0 if late else 40.0, "b": 10.0}
        return CyclePrices(self.cycles(bits), {"a": 0.0, "b": self.rate if late else 0.0}, per_pass, wide)


def toy_layers(rng: np.random.Generator) -> dict[str, LayerCosts]:
    def cost() -> np.ndarray:
        return np.sort(rng.uniform(0, 10, (4, len(FEW))), axis=1)[:, ::-1].copy()

    return {"a": LayerCosts(cost(), 8), "b": LayerCosts(cost(), 8)}


def brute(layers: dict[str, LayerCosts], model: Toy, budget: int, limit: int) -> float:
    best = np.inf
    for choice in itertools.product(range(len(FEW)), repeat=8):
        bits = {"a": np.array([FEW[c] for c in choice[:4]]), "b": np.array([FEW[c] for c in choice[4:]])}
        if 8 * sum(int(b.sum()) for b in bits.values()) <= budget and model.cycles(bits) <= limit:
            cost = sum(layers["a"].cost[i, c] for i, c in enumerate(choice[:4]))
            best = min(best, cost + sum(layers["b"].cost[i, c] for i, c in enumerate(choice[4:])))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_near_the_optimum_of_brute_force_and_always_within_the_bound(seed: int) -> None:
    layers, model = toy_layers(np.random.default_rng(seed)), Toy()
    for limit in (170, 200, 240):
        found = LatencyAllocator(layers, FEW, model).allocate(8 * 32, limit)
        assert found.cycles == model.cycles(found.allocation.bits) <= limit
        assert found.allocation.total_bits <= 8 * 32
        best = brute(layers, model, 8 * 32, limit)
        assert found.objective >= best - 1e-9
        assert found.objective <= best * 1.25
        assert found.free_bound <= best + 1e-9


def test_a_bound_that_does_not_bind_changes_nothing() -> None:
    layers = toy_layers(np.random.default_rng(3))
    found = LatencyAllocator(layers, FEW, Toy()).allocate(8 * 32, 10_000)
    assert found.rounds == 1
    assert found.objective == pytest.approx(allocate(layers, FEW, 8 * 32).objective)


def test_a_bound_that_cannot_be_met_names_the_nearest() -> None:
    layers = toy_layers(np.random.default_rng(4))
    with pytest.raises(BudgetError, match=r"a bound of 120 cycles cannot be met: .* nearest feasible: 140 cycles"):
        LatencyAllocator(layers, FEW, Toy()).allocate(8 * 32, 120)


def test_with_a_clock_the_nearest_is_said_in_milliseconds_too() -> None:
    layers = toy_layers(np.random.default_rng(4))
    asked = (
        r"a bound of 120 cycles \(0.0004 ms at 300 MHz\) .* nearest feasible: 140 cycles \(0.0004667 ms at 300 MHz\)"
    )
    with pytest.raises(BudgetError, match=asked):
        LatencyAllocator(layers, FEW, Toy(), 300.0).allocate(8 * 32, 120)
    assert Budget(milliseconds=0.0004667).cycle_limit(300.0) == 140


def test_costs_that_tell_nothing_take_the_widths_that_the_bound_allows() -> None:
    layers = {n: LayerCosts(np.zeros((4, len(FEW))), 8) for n in "ab"}
    found = LatencyAllocator(layers, FEW, Toy()).allocate(8 * 32, 1000)
    assert set(found.allocation.histogram) == {4}
    tight = LatencyAllocator(layers, FEW, Toy()).allocate(8 * 32, 150)
    assert tight.cycles <= 150 and tight.allocation.total_bits > 8 * 16


def test_bits_that_cannot_be_met_name_the_nearest() -> None:
    layers = toy_layers(np.random.default_rng(4))
    with pytest.raises(BudgetError, match="a budget of 100 bits cannot be met: the smallest allocation has 128 bits"):
        LatencyAllocator(layers, FEW, Toy()).allocate(100, 200)


def test_a_front_starts_warm() -> None:
    layers = toy_layers(np.random.default_rng(5))
    shared = LatencyAllocator(layers, FEW, Toy())
    costs = [shared.allocate(8 * 32, limit).objective for limit in (260, 230, 200, 170)]
    assert costs == sorted(costs)
    assert len(shared.cycles.cuts) > 1


def test_pruned_channels_count_as_no_bits() -> None:
    rng = np.random.default_rng(6)
    layers = {n: LayerCosts(np.sort(rng.uniform(0, 1, (4, len(WIDTHS))))[:, ::-1].copy(), 8) for n in "ab"}
    found = LatencyAllocator(layers, WIDTHS, Toy()).allocate(8 * 40, 160)
    assert found.cycles <= 160


def test_a_tight_bound_still_gives_bits_and_looser_ones_never_lose_to_it() -> None:
    """Just above the fastest allocation: some choice between it and the budget is found, and kept for looser bounds."""
    layers = toy_layers(np.random.default_rng(7))
    shared = LatencyAllocator(layers, FEW, Toy(compute=60))
    tight = shared.allocate(8 * 40, 130)
    assert tight.cycles <= 130
    assert tight.objective < sum(float(c.cost[:, 0].sum()) for c in layers.values())
    assert shared.allocate(8 * 40, 131).objective <= tight.objective
    assert shared.allocate(8 * 41, 130).objective <= tight.objective


@pytest.mark.parametrize("seed", range(6))
def test_the_loss_of_a_front_never_rises_with_the_limit(seed: int) -> None:
    layers, model = toy_layers(np.random.default_rng(seed)), Toy()
    found = LatencyAllocator(layers, FEW, model).front([8 * 32], [260, 240, 220, 200, 190, 180, 170])
    losses = [one.objective for one in found]
    assert losses == sorted(losses)
    assert all(one.cycles == model.cycles(one.allocation.bits) <= one.limit for one in found)
    assert all(one.objective >= brute(layers, model, 8 * 32, one.limit) - 1e-9 for one in found)


def _cost_and_bits(layers: dict[str, LayerCosts]) -> tuple[np.ndarray, np.ndarray]:
    cost = np.concatenate([layer.cost for layer in layers.values()])
    return cost, np.tile(8 * np.array(FEW), (len(cost), 1))


@pytest.mark.parametrize("tolerance", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(6))
def test_fewest_cycles_within_a_tolerance_against_brute_force(seed: int, tolerance: float) -> None:
    """Never dearer than allowed; cycles at most 25 % above the fewest of all choices."""
    layers, model, budget = toy_layers(np.random.default_rng(seed)), Toy(), 8 * 8 * 4
    found = LatencyAllocator(layers, FEW, model).fewest_cycles(budget, tolerance)
    free = allocate(layers, FEW, budget)
    most = (1 + tolerance) * solve(Problem(*_cost_and_bits(layers)), budget).objective + 1e-9
    assert found.free_bound - 1e-9 <= free.objective and found.objective <= most
    assert found.cycles == model.cycles(found.allocation.bits) <= model.cycles(free.allocation.bits)
    assert 8 * sum(int(b.sum()) for b in found.allocation.bits.values()) <= budget
    fewest = next(n for n in range(100, 1000, 10) if brute(layers, model, budget, n) <= most)
    assert found.cycles <= 1.25 * fewest
