"""Pictures of the report, as inline SVG: one palette, one size, no chart junk.

Figures are made without pyplot: a notebook keeps its own backend and figures, and threads do not meet.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from bitloom.graph.allocation import WIDTHS
from bitloom.report.style import plain_style

#: Colour of every cause a cycle can have, in drawing order.
CAUSE_COLOURS: dict[str, str] = {
    "compute": "#2f6db5",
    "weights": "#d9822b",
    "planes": "#e8b04b",
    "drain": "#7a5195",
    "input": "#4c9f70",
    "control": "#9aa5b1",
}
#: Colour of every width, 0 to 8 bits.
WIDTH_COLOURS = ("#22262b", "#e5e0ee", "#c6dbef", "#9ecae1", "#6baed6", "#3182bd", "#fdae6b", "#f16913", "#a63603")


def svg(figure: Figure) -> str:
    """The figure as an <svg> element without XML header."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    return inline(buffer.getvalue())


def inline(text: str) -> str:
    """An SVG file without its XML header."""
    return text[text.index("<svg") :]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


@plain_style()
def bits_picture(bits: Mapping[str, npt.NDArray[np.int8]]) -> str:
    """Every channel of every layer as one coloured cell: a row a layer, channels sorted by width."""
    names = list(bits)
    columns = 256
    rows = np.empty((len(names), columns), dtype=np.int8)
    for i, name in enumerate(names):
        ordered = np.sort(bits[name])[::-1]
        rows[i] = ordered[(np.arange(columns) * len(ordered)) // columns]
    figure, axis = _axes(9, 0.6 + 0.2 * len(names))
    norm = BoundaryNorm(np.arange(-0.5, 9.5), 9)
    image = axis.imshow(rows, aspect="auto", cmap=ListedColormap(WIDTH_COLOURS), norm=norm, interpolation="nearest")
    axis.set_yticks(range(len(names)), [f"{n}  ({len(bits[n])})" for n in names], fontsize=7)
    axis.set_xticks([0, columns - 1], ["widest channels", "narrowest"], fontsize=8)
    bar = figure.colorbar(image, ax=axis, ticks=list(WIDTHS), fraction=0.03, pad=0.02)
    bar.set_label("bits", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return svg(figure)


@plain_style()
def cycles_picture(layers: Sequence[Mapping[str, object]]) -> str:
    """Cycles per layer by cause (bars, measured) and the model's prediction (ticks).

    Each layer: name, causes (cause -> cycles), model (cycles) or None.
    """
    figure, axis = _axes(9, 0.8 + 0.22 * len(layers))
    y = np.arange(len(layers))
    left = np.zeros(len(layers))
    for cause, colour in CAUSE_COLOURS.items():
        width = np.array([float(_causes(layer).get(cause, 0)) for layer in layers])
        axis.barh(y, width, left=left, color=colour, label=cause, height=0.74)
        left += width
    model = [layer.get("model") for layer in layers]
    if any(m is not None for m in model):
        x = [float(m) if isinstance(m, int | float) else np.nan for m in model]
        axis.plot(x, y, "|", color="#111", markersize=11, markeredgewidth=1.6, label="model")
    axis.set_yticks(y, [str(layer["name"]) for layer in layers], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("cycles", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.legend(fontsize=7, ncols=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 1))
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    return svg(figure)


@plain_style()
def widths_picture(bits: Mapping[str, npt.NDArray[np.int8]], channel_weights: Mapping[str, int]) -> str:
    """Share of weights and of channels at each width. channel_weights: layer -> weights of one output channel."""
    shares = np.zeros((2, 9))
    for name, widths in bits.items():
        counts = np.bincount(widths, minlength=9)
        shares += np.stack([counts * channel_weights[name], counts])
    shares *= 100.0 / np.maximum(shares.sum(axis=1, keepdims=True), 1)
    figure, axis = _axes(9, 1.15)
    left = np.zeros(2)
    for width in WIDTHS:
        if not shares[:, width].any():
            continue
        axis.barh([0, 1], shares[:, width], left=left, color=WIDTH_COLOURS[width], height=0.72, edgecolor="white")
        for row in (0, 1):
            if shares[row, width] >= 4:
                dark = width in (0, 4, 5, 7, 8)
                text = f"{width} bits\n{shares[row, width]:.0f} %"
                middle = left[row] + shares[row, width] / 2
                colour = "white" if dark else "#222"
                axis.text(middle, row, text, ha="center", va="center", fontsize=6.5, color=colour, linespacing=1.1)
        left += shares[:, width]
    axis.set_yticks([0, 1], ["weights", "channels"], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    _bare(axis)
    return svg(figure)


@plain_style()
def percent_picture(rows: Mapping[str, float]) -> str:
    """Figures in percent as horizontal bars."""
    figure, axis = _axes(5, 0.5 + 0.35 * len(rows))
    y = np.arange(len(rows))
    axis.barh(y, list(rows.values()), color="#2f6db5", height=0.6)
    for i, value in enumerate(rows.values()):
        axis.text(value + 1.5, i, f"{value:.2f} %", va="center", fontsize=8)
    axis.set_yticks(y, list(rows), fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 122)
    _bare(axis)
    return svg(figure)


@plain_style()
def parts_picture(parts: Mapping[str, float], unit: str) -> str:
    """Parts of a sum as horizontal bars, largest first."""
    rows = sorted(parts.items(), key=lambda item: -item[1])
    total = sum(parts.values())
    figure, axis = _axes(5, 0.5 + 0.35 * len(rows))
    y = np.arange(len(rows))
    values = [v for _, v in rows]
    axis.barh(y, values, color="#7a5195", height=0.6)
    for i, value in enumerate(values):
        share = 100.0 * value / total if total else 0.0
        axis.text(value + 0.02 * max(values), i, f"{value:.3g} {unit}, {share:.0f} %", va="center", fontsize=8)
    axis.set_yticks(y, [name.replace("_", " ") for name, _ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.45 * max(values))
    _bare(axis)
    return svg(figure)


@plain_style()
def resources_picture(used: Mapping[str, float], available: Mapping[str, int]) -> str:
    """Resources of the build as shares of the device."""
    names = [n for n in used if available.get(n)]
    share = [100.0 * used[n] / available[n] for n in names]
    figure, axis = _axes(5, 0.5 + 0.35 * len(names))
    y = np.arange(len(names))
    axis.barh(y, [100.0] * len(names), color="#e6eaee", height=0.6)
    axis.barh(y, share, color=["#b3412f" if s > 100 else "#4c9f70" for s in share], height=0.6)
    for i, n in enumerate(names):
        axis.text(102, i, f"{used[n]:,.1f}".removesuffix(".0") + f" of {available[n]:,}", va="center", fontsize=8)
    axis.set_yticks(y, names, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, 190)
    _bare(axis)
    return svg(figure)


def _bare(axis: Axes) -> None:
    """No frame and no scale: the figures stand at the bars."""
    axis.set_xticks([])
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom", "left"):
        axis.spines[side].set_visible(False)


def _causes(layer: Mapping[str, object]) -> Mapping[str, float]:
    causes = layer["causes"]
    return causes if isinstance(causes, Mapping) else {}
