"""A comparison on the terminal and as a picture: every row stands there, under its name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from bitloom.errors import OutputError
from bitloom.report.comparison import draw_curves, print_comparison, title, write_comparison


def row(method: str, budget: float, top1: float, kl: float) -> dict[str, Any]:
    allocation, _, rounding = method.partition("+")
    return {
        "network": "net",
        "method": method,
        "allocation": allocation,
        "comparison": "reference" if method == "float" else "method" if rounding == "nearest" else "allocation",
        "budget": budget,
        "mean_bits": budget - 0.001,
        "weight_bytes": int(1e6 * budget),
        "top1": top1,
        "kl": kl,
        "n": 500,
        "vs_hbp": {"top1_points": 80.0 - top1, "top1_ci95": [70.0 - top1, 90.0 - top1], "kl_ratio": 0.01 / kl},
    }


ROWS = [
    {k: v for k, v in row("float", 32.0, 82.0, 1.0).items() if k != "vs_hbp"},
    row("hbp+gptq", 2.0, 80.0, 0.01),
    row("per_layer+gptq", 2.0, 79.5, 0.02),
    row("uniform+nearest", 2.0, 40.0, 0.5),
    row("hbp+gptq", 3.0, 81.0, 0.01),
    row("uniform+nearest", 3.0, 60.0, 0.1),
]


def test_the_table_says_what_every_method_reaches() -> None:
    console = Console(file=io.StringIO(), width=160)
    print_comparison(ROWS, console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "net: 500 images, float 82.00 %" in text
    assert "1.999 per layer, exact 2,000,000 79.50 +0.50 [-9.50, +10.50] 0.02 -50 %" in lines
    assert "1.999 uniform, to nearest 2,000,000 40.00 +40.00 [+30.00, +50.00] 0.5 -98 %" in lines
    assert "1.999 HBP, per channel 2,000,000 80.00 0.01" in lines  # no lead over itself
    assert sum("HBP," in line for line in lines) == 2


def test_a_method_with_its_own_rounding_says_so() -> None:
    assert [title(r) for r in ROWS[1:4]] == ["HBP, per channel", "per layer, exact", "uniform, to nearest"]


def test_the_picture_has_a_line_a_method_and_the_float_networks_top1(tmp_path: Path) -> None:
    divergence, top1 = Figure().subplots(1, 2)
    draw_curves(divergence, top1, ROWS)
    assert {str(line.get_label()) for line in divergence.lines} == {title(r) for r in ROWS[1:]}
    assert [round(x, 3) for x in divergence.lines[0].get_xdata()] == [1.999, 2.999]
    assert top1.lines[-1].get_ydata()[0] == 82.0
    with Image.open(write_comparison(ROWS, tmp_path)) as image:
        assert image.size[0] > 1000


def test_a_folder_that_is_gone_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"gone/compare.png: cannot be written"):
        write_comparison(ROWS, tmp_path / "gone")
