"""Plots and tables of the pages on allocation, from the results of the benchmarks and one measurement of its own.

    python benchmarks/plot_accuracy.py measure [--network resnet20]  errors seen and unseen, the optimizer's curse
    python benchmarks/plot_accuracy.py draw                           docs/*.png and docs/accuracy.md

`measure` writes benchmarks/results/curse.json: for one network the ratio of the output error on unseen images to the
one that the rounding reports, per layer and width; and, for estimators fitted to n images, what the solver promises
(the objective by its own costs) and what the same estimator says of that allocation when it is fitted to other images.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import journey

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib
import numpy as np
import torch
from accuracy_networks import NETWORKS, prepare

from bitloom.allocate.estimators.fisher import ChannelFisher
from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.hbp import LayerCosts, allocate, binary_only_in
from bitloom.allocate.output_errors import output_errors
from bitloom.allocate.probe import Probe
from bitloom.allocate.sensitivity import Estimator, layer_costs
from bitloom.compare.methods import NAMES
from bitloom.graph.allocation import WIDTHS
from bitloom.report.comparison import draw_curves

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
ESTIMATORS: dict[str, Estimator] = {
    "Fisher per channel and width": ChannelFisher(),
    "gradient share": GradientShare(),
    "gradient pooled over the layer": GradientShare(exponent=0.0),
}
TITLES = {"allocation": "only the allocation differs", "method": "methods with their own rounding"}
PLOTTED = tuple(name for name in NAMES if name not in ("random1", "random2", "hawq_v3"))


HEADER = """# Accuracy of allocations and methods

Written by `benchmarks/plot_accuracy.py draw` from `benchmarks/results/accuracy.json` (`make bench-accuracy`). Cells:
top-1 in per cent, KL to the float network in nats, and in brackets HBP's lead in top-1 points on the same images with
its 95 % interval (paired bootstrap). Weights and 8-bit activations are quantized, biases corrected with GPTQ. Equal
weight bytes in a column; what each baseline is: [hbp.md](hbp.md). Missing rows were not measured yet. An asterisk is
for rows of other sources than the newest and those that give equal rows (`equal_sources` in the file), their leads over
HBP as it was then.

![KL and top-1 over mean bits](accuracy.png)"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "draw"))
    parser.add_argument("--network", default="resnet20", choices=list(NETWORKS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[16, 64, 256], help="images of the estimates")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "accuracy")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if args.action == "measure":
        curse(args.network, args.out, args.sizes)
    else:
        draw()


def curse(network: str, out: Path, sizes: list[int]) -> None:
    """Measures what `draw` shows of overfitting and puts it under the network's name."""
    folder = journey.DATA
    prepared = prepare(network, folder, out)
    table = prepared.tables["gptq"]
    probe = Probe(prepared.calibration, table)
    probe.correct()
    unseen = output_errors(probe, prepared.measuring[:64])
    ratios = {
        name: [
            float((e.common + e.varying)[:, i].sum() / max(float(table[name].error[:, i].sum()), 1e-30))
            for i in map(WIDTHS.index, (2, 3, 4))
        ]
        for name, e in unseen.items()
    }
    half = len(prepared.measuring) // 2
    budget = int(prepared.total * 2.5)
    promises = []
    for n in [n for n in sizes if n <= half]:
        for label, estimator in ESTIMATORS.items():
            parts = (prepared.measuring[:n], prepared.measuring[half : half + n])
            halves = [
                binary_only_in(layer_costs(prepared.calibration, table, part, estimator), WIDTHS, prepared.binary)
                for part in parts
            ]
            # Both ways round, so that a difference in scale between the halves cancels.
            ratio = 1.0
            for own, other in (halves, halves[::-1]):
                chosen = allocate(own, WIDTHS, budget).allocation.bits
                ratio *= (_price(other, chosen) / _price(own, chosen)) ** 0.5
            promises.append({"images": n, "estimator": label, "ratio": ratio})
            print(promises[-1], flush=True)
    path = RESULTS / "curse.json"
    known = json.loads(path.read_text()) if path.is_file() else {}
    known[network] = {"widths": [2, 3, 4], "unseen_over_seen": ratios, "promises": promises}
    journey.write_text(path, json.dumps(known, indent=1) + "\n")


def _price(costs: dict[str, LayerCosts], bits: dict[str, np.ndarray]) -> float:
    """The objective of an allocation by given costs."""
    rows = {name: np.arange(len(b)) for name, b in bits.items()}
    return sum(float(costs[n].cost[rows[n], np.searchsorted(WIDTHS, b)].sum()) for n, b in bits.items())


def draw() -> None:
    """All plots that the results at hand allow, and the tables."""
    if (RESULTS / "curse.json").is_file():
        _draw_curse(json.loads((RESULTS / "curse.json").read_text()))
    results = json.loads((RESULTS / "accuracy.json").read_text())
    rows = results["rows"]
    _draw_accuracy(rows)
    parts = [HEADER]
    for key in sorted({(r["network"], r["data"]) for r in rows}):
        kinds = {r["comparison"] for r in rows if (r["network"], r["data"]) == key}
        parts += [
            table(rows, results["equal_sources"], *key, comparison)
            for comparison in TITLES
            if comparison == "allocation" or comparison in kinds
        ]
    journey.write_text(DOCS / "accuracy.md", "\n\n".join(parts) + "\n")


def _draw_curse(results: dict[str, Any]) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    network = "resnet18" if "resnet18" in results else next(iter(results))
    ratios = results[network]["unseen_over_seen"]
    at = np.arange(len(ratios))
    for i, (width, colour) in enumerate(zip(results[network]["widths"], ("#88a", "#4a7", "#c64"), strict=True)):
        axes[0].bar(at + 0.27 * (i - 1), [r[i] for r in ratios.values()], 0.27, label=f"{width} bits", color=colour)
    axes[0].axhline(1.0, color="black", linewidth=0.8)
    axes[0].set_xticks(at, list(ratios), rotation=90, fontsize=7)
    axes[0].set_ylabel("output error, unseen / reported")
    axes[0].set_title(f"The rounding flatters itself ({network})")
    axes[0].legend(loc="upper left")
    network = next(n for n, r in results.items() if r["promises"])
    curves = defaultdict(list)
    for line in results[network]["promises"]:
        curves[line["estimator"]].append((line["images"], line["ratio"]))
    for (label, points), mark in zip(curves.items(), "os^", strict=True):
        axes[1].plot(*zip(*points, strict=True), marker=mark, label=label)
    axes[1].axhline(1.0, color="black", linewidth=0.8)
    axes[1].set_xscale("log", base=2)
    axes[1].set_xticks(*2 * [sorted({line["images"] for line in results[network]["promises"]})])
    axes[1].set_xlabel("images of the estimate")
    axes[1].set_ylabel("cost on other images / promise")
    axes[1].set_title(f"The optimizer's curse ({network}, 2.5 bits)")
    axes[1].legend()
    figure.savefig(DOCS / "hbp_curse.png", dpi=110)
    plt.close(figure)


def _draw_accuracy(rows: list[dict[str, Any]]) -> None:
    """Four networks beside each other: divergence above, top-1 below; rows with our rounding."""
    plotted = {f"{name}+gptq" for name in PLOTTED} | {"float"}
    sets: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["method"] in plotted:
            sets.setdefault((row["network"], row["data"]), []).append(row)
    columns = min(4, len(sets))
    bands = -(-len(sets) // columns)
    size = (4.6 * columns, 6.4 * bands)
    figure, axes = plt.subplots(2 * bands, columns, figsize=size, layout="constrained", squeeze=False)
    for index, ((network, data), mine) in enumerate(sets.items()):
        band, column = divmod(index, columns)
        above, below = axes[2 * band][column], axes[2 * band + 1][column]
        draw_curves(above, below, mine)
        above.set_title(f"{network}, {data}")
        above.legend(fontsize=8)
    for spare in range(len(sets), bands * columns):
        band, column = divmod(spare, columns)
        axes[2 * band][column].set_visible(False)
        axes[2 * band + 1][column].set_visible(False)
    figure.savefig(DOCS / "accuracy.png", dpi=90)
    plt.close(figure)


def table(rows: list[dict[str, Any]], current: list[str], network: str, data: str, comparison: str) -> str:
    """Markdown: a line an allocation, a column a budget; top-1, KL, and HBP's paired lead with its interval.

    current: sources that give equal rows; others get an asterisk.
    """
    mine = [r for r in rows if (r["network"], r["data"]) == (network, data)]
    reference = next(r for r in mine if r["method"] == "float")
    used = [r for r in mine if r["comparison"] == comparison or r["allocation"] == "hbp"]
    budgets = sorted({r["budget"] for r in used})
    lines = [
        f"## {network}, {data}: {TITLES[comparison]}",
        "",
        f"{reference['n']} images, float {reference['top1']:.2f} %.",
        "",
        "| | " + " | ".join(f"{b:g} bits" for b in budgets) + " |",
        "|---" * (len(budgets) + 1) + "|",
    ]
    for name, rounding in dict.fromkeys((n, r["rounding"]) for n in NAMES for r in used if _name(r) == n):
        cells = []
        for budget in budgets:
            row = next((r for r in used if (_name(r), r["rounding"], r["budget"]) == (name, rounding, budget)), None)
            cells.append("" if row is None else _cell(row) + ("" if row.get("sources") in current else "*"))
        lines.append(f"| {NAMES[name]}, {rounding} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _name(row: dict[str, Any]) -> str:
    return str(row["method"]).partition("+")[0]


def _cell(row: dict[str, Any]) -> str:
    text = f"{row['top1']:.1f}, {row['kl']:.3g}"
    if row["allocation"] == "hbp" or "vs_hbp" not in row:
        return text
    low, high = row["vs_hbp"]["top1_ci95"]
    return f"{text} ({row['vs_hbp']['top1_points']:+.1f} [{low:+.1f}, {high:+.1f}])"


if __name__ == "__main__":
    main()
