"""Pictures of bits under a cycle bound: where the bound takes them from and gives them to, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

_FREE, _BOUND, _LATE, _INK = "#9aa5b1", "#2f6db5", "#d9822b", "#22262b"


def hardware_figure(
    network: str,
    free: Mapping[str, float],
    bound: Mapping[str, float],
    prices: Mapping[str, float],
    labels: tuple[str, str],
    fronts: Mapping[str, Sequence[tuple[float, float]]],
) -> Figure:
    """Three panels: mean bits of every layer without and with the bound; what a weight bit of it costs in cycles; and
    the front of estimated loss against cycles.

    free, bound: layer -> mean bits; prices: layer -> cycles per 1000 weight bits at the free allocation; labels: of the
    two allocations; fronts: label -> (cycles, loss) points, the loss above 0.
    """
    figure = Figure(figsize=(9, 9), layout="constrained")
    bits, price, front = figure.subplots(3, 1, height_ratios=(3, 1.2, 3))
    names = list(free)
    x = np.arange(len(names))
    before, after = np.array(list(free.values())), np.array([bound[n] for n in names])
    bits.plot(x, before, color=_FREE, marker="o", markersize=4, linewidth=1.4, label=labels[0])
    bits.plot(x, after, color=_BOUND, marker="o", markersize=4, linewidth=1.8, label=labels[1])
    bits.fill_between(x, before, after, where=after > before, interpolate=True, color=_BOUND, alpha=0.15, linewidth=0)
    bits.fill_between(x, before, after, where=after < before, interpolate=True, color=_LATE, alpha=0.25, linewidth=0)
    bits.set_ylabel("mean bits of the layer", fontsize=9)
    bits.set_title(
        f"{network}: bits leave late layers and second passes for the layers between", fontsize=10, loc="left"
    )
    bits.legend(fontsize=8, frameon=False)
    bits.set_xticks(x, [])
    price.bar(x, [prices[n] for n in names], color=_LATE, width=0.7)
    price.set_ylabel("cycles per\n1000 bits", fontsize=9)
    step = max(1, len(names) // 30)
    price.set_xticks(x[::step], names[::step], rotation=60, ha="right", fontsize=6.5)
    for axis in (bits, price):
        axis.set_xlim(-0.7, len(names) - 0.3)
    colours = colormaps["viridis"](np.linspace(0.15, 0.8, max(1, len(fronts))))
    for (label, points), colour in zip(fronts.items(), colours, strict=True):
        ordered = sorted(points)
        front.plot(
            [p[0] / 1e3 for p in ordered], [p[1] for p in ordered], marker="o", markersize=4, color=colour, label=label
        )
    front.set_yscale("log")
    for formatter in (front.yaxis.set_major_formatter, front.yaxis.set_minor_formatter):
        formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    front.set_xlabel("modelled cycles of an image, thousands", fontsize=9)
    front.set_ylabel("estimated loss (KL)", fontsize=9)
    front.set_title("What a bound costs, at several sizes of the weights", fontsize=10, loc="left")
    front.legend(fontsize=8, frameon=False, title="mean bits", title_fontsize=8)
    for axis in (bits, price, front):
        axis.grid(color="#dfe4ea", linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(which="both", colors=_INK, labelsize=7.5)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return figure
