"""Hierarchical Bit Programming: channels are grouped inside their layer by sensitivity, the groups are programmed
first, then refined down to single channels near the groups' widths. The bound is that of the full problem."""

from __future__ import annotations

import math
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bitloom.allocate.core import solve_exact
from bitloom.allocate.grouping import group_channels
from bitloom.allocate.knapsack import FloatArray, IntArray, Problem, Solution, relative_gap, solve
from bitloom.graph.allocation import BitAllocation

TIE = 1e-30  #: of a weight at width 0, where costs do not tell widths apart; a quarter of it a bit more


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """One layer: cost (Cout, k), the estimated loss increase of each channel at each width; weights per channel."""

    cost: FloatArray
    weights: int

    def at_least(self, least: int, widths: tuple[int, ...]) -> LayerCosts:
        """The same layer without the widths below `least`."""
        return replace(self, cost=np.where(np.asarray(widths)[None, :] < least, np.inf, self.cost))

    def without(self, width: int, widths: tuple[int, ...]) -> LayerCosts:
        """The same layer without one width."""
        return replace(self, cost=np.where(np.asarray(widths)[None, :] == width, np.inf, self.cost))


def binary_only_in(
    layers: Mapping[str, LayerCosts], widths: tuple[int, ...], names: Container[str]
) -> dict[str, LayerCosts]:
    """The layers, those that are not among `names` without the width 1."""
    return {name: layer if name in names else layer.without(1, widths) for name, layer in layers.items()}


def told_apart(layers: Mapping[str, LayerCosts], widths: tuple[int, ...]) -> dict[str, LayerCosts]:
    """The layers; where no channel's cost depends on its width, with costs that fall with it, far below any real ones.

    Equal costs say nothing: logits of a million leave a softmax no gradient. Without a word about the widths the budget
    is spent evenly, where the smallest ones would cost as little and end the network.
    """
    allowed = [np.isfinite(layer.cost) for layer in layers.values()]
    highest = [np.where(a, layer.cost, -np.inf).max(axis=1) for a, layer in zip(allowed, layers.values(), strict=True)]
    told = any(
        bool((layer.cost.min(axis=1) < high).any()) for layer, high in zip(layers.values(), highest, strict=True)
    )
    if told or not any(bool((a.sum(axis=1) > 1).any()) for a in allowed):
        return dict(layers)
    falling = TIE * 0.25 ** np.asarray(widths, np.float64)
    return {
        name: replace(layer, cost=np.where(a, layer.weights * falling, np.inf))
        for a, (name, layer) in zip(allowed, layers.items(), strict=True)
    }


@dataclass(frozen=True)
class HbpOptions:
    """groups: per layer, at most. reach: a channel may leave its group's width by so many steps in the refinement."""

    groups: int = 16
    reach: int = 2


@dataclass(frozen=True, eq=False)
class HbpSolution:
    """The allocation and what is known about it.

    objective and bound: of the per-channel problem; gap = (objective - bound)/objective. group_objective: after the
    first level. log10_states: size of the search space of channels, of groups, and of the refinement.
    """

    allocation: BitAllocation
    objective: float
    bound: float
    gap: float
    seconds: float
    group_objective: float
    log10_states: tuple[float, float, float]


def allocate(
    layers: Mapping[str, LayerCosts], widths: tuple[int, ...], budget_bits: int, options: HbpOptions | None = None
) -> HbpSolution:
    """The cheapest allocation of at most `budget_bits` weight bits.

    widths: the candidates in increasing order, the columns of every cost. Raises BudgetError when infeasible.
    """
    opts = HbpOptions() if options is None else options
    start = time.perf_counter()
    layers = told_apart(layers, widths)
    cost = np.concatenate([layer.cost for layer in layers.values()])
    inputs = np.concatenate([np.full(len(layer.cost), layer.weights, np.int64) for layer in layers.values()])
    size = inputs[:, None] * np.asarray(widths, np.int64)[None, :]
    group = group_channels([layer.cost for layer in layers.values()], opts.groups)
    n_groups = int(group.max()) + 1
    grouped = solve(Problem(_sum_rows(cost, group, n_groups), _sum_rows(size, group, n_groups)), budget_bits)
    near = np.abs(np.arange(len(widths))[None, :] - grouped.choice[group][:, None]) <= opts.reach
    refined = solve(Problem(np.where(near, cost, np.inf), size), budget_bits)
    full = solve(Problem(cost, size), budget_bits)
    best: Solution = refined if refined.objective <= full.objective else full
    if grouped.objective < best.objective:
        best = replace(best, choice=grouped.choice[group], objective=grouped.objective, size=grouped.size)
    bits = np.asarray(widths, np.int8)[best.choice]
    names, sizes = list(layers), np.cumsum([len(layer.cost) for layer in layers.values()])[:-1]
    allocation = BitAllocation(
        dict(zip(names, np.split(bits, sizes), strict=True)), {n: layer.weights for n, layer in layers.items()}
    )
    gap = relative_gap(best.objective, full.bound)
    states = (
        len(cost) * math.log10(len(widths)),
        n_groups * math.log10(len(widths)),
        float(np.log10(near.sum(axis=1)).sum()),
    )
    seconds = time.perf_counter() - start
    return HbpSolution(allocation, best.objective, full.bound, gap, seconds, grouped.objective, states)


def per_layer(layers: Mapping[str, LayerCosts], widths: tuple[int, ...], budget_bits: int) -> BitAllocation:
    """The exact baseline with one width per layer: same costs, same solver."""
    layers = told_apart(layers, widths)
    cost = np.stack([layer.cost.sum(axis=0) for layer in layers.values()])
    inputs = np.array([layer.weights * len(layer.cost) for layer in layers.values()], np.int64)
    solution = solve_exact(Problem(cost, inputs[:, None] * np.asarray(widths, np.int64)[None, :]), budget_bits)
    bits = {
        name: np.full(len(layer.cost), widths[c], np.int8)
        for (name, layer), c in zip(layers.items(), solution.choice, strict=True)
    }
    return BitAllocation(bits, {name: layer.weights for name, layer in layers.items()})


def _sum_rows(values: Any, group: IntArray, n: int) -> Any:
    out = np.zeros((n, values.shape[1]), values.dtype)
    np.add.at(out, group, values)
    return out
