"""Pictures of an exploration: the roofline of a network and the Pareto front of architectures."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from bitloom.explore.roofline import Roofline, RooflinePoint
from bitloom.explore.search import Point
from bitloom.program.commands import CAUSES
from bitloom.report.plots import CAUSE_COLOURS
from bitloom.report.style import plain_style

_INK, _GRID = "#22262b", "#dfe4ea"


def _picture(figure: Figure, kind: str) -> bytes:
    """SVG or PNG bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(buffer, format=kind, bbox_inches="tight", dpi=150, metadata=metadata)
    return buffer.getvalue()


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(color=_GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_INK, labelsize=8)
    return figure, axes


@plain_style()
def roofline_picture(roof: Roofline, kind: str = "svg") -> bytes:
    """Layers under the roof, coloured by what binds them, area by share of the cycles. kind: svg or png."""
    figure, axes = _axes(9, 4.2)
    ridge = roof.peak / roof.slope
    xs = [p.intensity for p in roof.points]
    low, high = min([*xs, ridge]) / 2, max([*xs, ridge]) * 2
    axes.plot([low, ridge, high], [roof.attainable(low), roof.peak, roof.peak], color=_INK, linewidth=1.6)
    axes.fill_between([low, ridge, high], [roof.attainable(low), roof.peak, roof.peak], 1e-9, color="#f4f6f8", zorder=0)
    for p in roof.points:
        axes.scatter(p.intensity, p.macs_per_cycle, s=18 + 1600 * p.share, color=CAUSE_COLOURS[p.bound], alpha=0.75,
                     edgecolor="white", linewidth=0.8, zorder=3)  # fmt: skip
    named: list[RooflinePoint] = []
    for p in sorted(roof.points, key=lambda q: q.macs_per_cycle):
        if len(named) == 3 or any(abs(p.macs_per_cycle / q.macs_per_cycle - 1) < 0.3 for q in named):
            continue
        named.append(p)
        axes.annotate(p.layer, (p.intensity, p.macs_per_cycle), xytext=(7, -9), textcoords="offset points", fontsize=7,
                      color=_INK)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high))
    axes.set_ylim(min(p.macs_per_cycle for p in roof.points) / 2, roof.peak * 1.8)
    axes.set_xlabel("useful MACs per DDR byte", fontsize=9)
    axes.set_ylabel("useful MACs per cycle", fontsize=9)
    axes.text(high / 1.1, roof.peak * 1.1, f"array: {roof.peak:.0f} MACs a cycle", ha="right", fontsize=8, color=_INK)
    axes.text(ridge / 1.15, roof.peak * 1.1, f"DDR: {roof.slope:.1f} bytes a cycle", ha="right", fontsize=8, color=_INK)
    axes.set_title(f"{roof.network}: roofline (area: share of the cycles)", fontsize=10, loc="left", color=_INK)
    used = {p.bound for p in roof.points}
    handles = [Line2D([], [], marker="o", linestyle="", color=CAUSE_COLOURS[c], label=c) for c in CAUSES if c in used]
    axes.legend(handles=handles, title="bound by", fontsize=8, title_fontsize=8, frameon=False, loc="lower right")
    return _picture(figure, kind)


@plain_style()
def pareto_picture(front: Sequence[Point], best: Point, clock_mhz: float, kind: str = "svg") -> bytes:
    """DSPs against milliseconds of all networks together, coloured by memory, the best marked."""
    figure, axes = _axes(7.5, 4.2)
    times = [sum(p.cycles) / clock_mhz / 1e3 for p in front]
    dots = axes.scatter([p.resources.dsp for p in front], times, c=[p.memory for p in front], cmap="viridis_r", s=26,
                        edgecolor="white", linewidth=0.5, zorder=3)  # fmt: skip
    bar = figure.colorbar(dots, ax=axes, pad=0.02)
    bar.set_label("memory, BRAM36 (a URAM as 8)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    at = (best.resources.dsp, sum(best.cycles) / clock_mhz / 1e3)
    axes.scatter(*at, s=130, facecolor="none", edgecolor="#b3412f", linewidth=1.8, zorder=4)
    label = f"best: P={best.arch.pixels} C={best.arch.channels} M={best.arch.vector}, {at[1]:.3g} ms"
    axes.annotate(label, at, xytext=(0.98, 0.95), textcoords="axes fraction", ha="right", fontsize=8, color="#b3412f",
                  arrowprops={"arrowstyle": "-", "color": "#b3412f", "linewidth": 0.8, "shrinkB": 7})  # fmt: skip
    axes.set_xlabel("DSP slices", fontsize=9)
    axes.set_ylabel("modelled milliseconds (all networks)", fontsize=9)
    axes.set_yscale("log" if len(times) > 1 and max(times) > 4 * min(times) else "linear")
    for formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    axes.tick_params(axis="y", which="both", labelsize=7)
    axes.set_title(f"Pareto front: {len(front)} architectures", fontsize=10, loc="left", color=_INK)
    return _picture(figure, kind)
