"""A comparison of allocations as a table for a terminal and as a picture: divergence and top-1 by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from bitloom.compare.methods import NAMES
from bitloom.errors import OutputError
from bitloom.report.style import plain_style

Row = Mapping[str, Any]

#: What follows the name of an allocation where its rounding is not ours.
_ROUNDINGS = {"gptq": "", "nearest": ", to nearest", "plain": ", GPTQ as published"}


def title(row: Row) -> str:
    """What a row is called: the allocation, and its rounding where it is not ours."""
    name, _, rounding = str(row["method"]).partition("+")
    return f"{NAMES[name]}{_ROUNDINGS.get(rounding, f', {rounding}')}"


def print_comparison(rows: Sequence[Row], console: Console) -> None:
    """A line a method, one budget after the other. rows: of `compare.compare`."""
    reference = next(r for r in rows if r["comparison"] == "reference")
    console.print(
        f"[bold]{reference['network']}[/]: {reference['n']} images, float {reference['top1']:.2f} %; the lead is HBP's "
        "on the same images, with its 95 % interval",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("mean bits", justify="right")
    table.add_column("method")
    for name in ("bytes", "top-1 %", "lead, points", "KL to float", "HBP's is"):
        table.add_column(name, justify="right")
    budget = None
    for row in (r for r in rows if r["comparison"] != "reference"):
        if budget not in (None, row["budget"]):
            table.add_row()
        budget = row["budget"]
        lead, ratio = _against(row)
        style = "bold" if row["allocation"] == "hbp" else None
        figures = (f"{row['weight_bytes']:,}", f"{row['top1']:.2f}", lead, f"{row['kl']:.3g}", ratio)
        table.add_row(f"{row['mean_bits']:.3f}", title(row), *figures, style=style)
    console.print(table)


@plain_style()
def write_comparison(rows: Sequence[Row], out: Path) -> Path:
    """Draws out/compare.png; solid lines have our rounding, dashed ones that of the related method. OutputError."""
    figure = Figure(figsize=(12, 4.4), layout="constrained")
    divergence, top1 = figure.subplots(1, 2)
    draw_curves(divergence, top1, rows)
    figure.legend(*divergence.get_legend_handles_labels(), loc="outside right center", fontsize=9, frameon=False)
    path = out / "compare.png"
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
    return path


def draw_curves(divergence: Axes, top1: Axes, rows: Sequence[Row]) -> None:
    """KL to float (logarithmic) on one axis, top-1 on the other, a line a method; rows: of one network and images."""
    names = list(NAMES)
    for method in dict.fromkeys(str(r["method"]) for r in rows if r["comparison"] != "reference"):
        mine = sorted((r for r in rows if r["method"] == method), key=lambda r: float(r["mean_bits"]))
        name, _, rounding = method.partition("+")
        style: dict[str, Any] = {
            "color": f"C{names.index(name) % 10}",
            "marker": "o" if rounding == "gptq" else "s",
            "linestyle": {"gptq": "-", "nearest": "--"}.get(rounding, ":"),
            "linewidth": 2.5 if name == "hbp" else 1.2,
            "markersize": 4,
            "zorder": 3 if name == "hbp" else 2,
            "label": title(mine[0]),
        }
        bits = [r["mean_bits"] for r in mine]
        divergence.plot(bits, [r["kl"] for r in mine], **style)
        top1.plot(bits, [r["top1"] for r in mine], **style)
    for row in (r for r in rows if r["comparison"] == "reference"):
        top1.axhline(row["top1"], color="black", linewidth=0.8, linestyle=":")
        divergence.set_title(row["network"])
    divergence.set_yscale("log")
    divergence.set_ylabel("KL to float, nats")
    top1.set_ylabel("top-1, %")
    for axis in (divergence, top1):
        axis.set_xlabel("mean weight bits")
        axis.spines[["top", "right"]].set_visible(False)


def _against(row: Row) -> tuple[str, str]:
    """HBP's lead in top-1 and its divergence over this row's; empty for HBP itself and without it."""
    if row["allocation"] == "hbp" or "vs_hbp" not in row:
        return "", ""
    versus = row["vs_hbp"]
    low, high = versus["top1_ci95"]
    return f"{versus['top1_points']:+.2f} [{low:+.2f}, {high:+.2f}]", f"{100 * (versus['kl_ratio'] - 1):+.0f} %"
