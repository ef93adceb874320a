"""Baselines that look at no theory: greedy descent of one layer at a time, and random allocations per channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bitloom.allocate.hbp import LayerCosts
from bitloom.baselines.layers import WIDTHS
from bitloom.errors import BudgetError
from bitloom.graph.allocation import BitAllocation


def greedy(
    layers: Mapping[str, LayerCosts], widths: tuple[int, ...], budget_bits: int, least: int = 2
) -> BitAllocation:
    """From the largest width, lowers the layer that costs least per bit saved until it fits, then fills what is left.

    Same costs as the exact program per layer, no look-ahead. Raises BudgetError when `least` everywhere does not fit.
    """
    columns = [i for i, b in enumerate(widths) if b >= least]
    names = list(layers)
    sums = {n: layers[n].cost.sum(axis=0) for n in names}
    size = {n: layers[n].weights * len(layers[n].cost) for n in names}
    at = {n: len(columns) - 1 for n in names}
    total = sum(size[n] * widths[columns[-1]] for n in names)
    while total > budget_bits:
        price = {}
        for n in names:
            if at[n] > 0:
                high, low = columns[at[n]], columns[at[n] - 1]
                if not np.isfinite(sums[n][low]):
                    continue
                price[n] = (sums[n][low] - sums[n][high]) / (size[n] * (widths[high] - widths[low]))
        if not price:
            raise BudgetError(f"a budget of {budget_bits} bits cannot be met: {least} bits everywhere are {total} bits")
        cheapest = min(price, key=lambda n: price[n])
        total -= size[cheapest] * (widths[columns[at[cheapest]]] - widths[columns[at[cheapest] - 1]])
        at[cheapest] -= 1
    # What the last, perhaps large, step left over goes back to the layers that gain most by it.
    left = budget_bits - total
    while True:
        gain = {}
        for n in names:
            if at[n] + 1 < len(columns):
                low, high = columns[at[n]], columns[at[n] + 1]
                step = size[n] * (widths[high] - widths[low])
                if step <= left and sums[n][low] > sums[n][high]:
                    gain[n] = (sums[n][low] - sums[n][high]) / step
        if not gain:
            break
        dearest = max(gain, key=lambda n: gain[n])
        left -= size[dearest] * (widths[columns[at[dearest] + 1]] - widths[columns[at[dearest]]])
        at[dearest] += 1
    bits = {n: np.full(len(layers[n].cost), widths[columns[at[n]]], np.int8) for n in names}
    return BitAllocation(bits, {n: layers[n].weights for n in names})


def random_allocation(
    channels: Mapping[str, int],
    weights: Mapping[str, int],
    budget_bits: int,
    seed: int,
    widths: tuple[int, ...] = WIDTHS,
) -> BitAllocation:
    """Every channel starts at the smallest width; random channels, any of them again, gain a step until nothing fits.

    Equal bytes by construction: less than one step of the narrowest layer is left. widths: of every channel alike, so
    without 1 bit, which not every layer may have. Raises BudgetError when infeasible.
    """
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.full(channels[n], i) for i, n in enumerate(channels)])
    inputs = np.array([weights[n] for n in channels], np.int64)[owner]
    level = np.zeros(len(owner), np.int64)
    left = budget_bits - int(inputs.sum()) * widths[0]
    if left < 0:
        raise BudgetError(
            f"a budget of {budget_bits} bits cannot be met: {widths[0]} bits everywhere need {-left} more"
        )
    step = np.diff(np.asarray(widths, np.int64))
    for _ in range(2):  # the second time for what the first left where a dear step no longer fitted
        for c in rng.permutation(np.repeat(np.arange(len(owner)), len(step))):
            if level[c] < len(step) and inputs[c] * step[level[c]] <= left:
                left -= int(inputs[c] * step[level[c]])
                level[c] += 1
    picked = np.asarray(widths, np.int8)[level]
    bits = {n: picked[owner == i] for i, n in enumerate(channels)}
    return BitAllocation(bits, dict(weights))
