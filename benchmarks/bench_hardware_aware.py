"""Bits under a cycle bound on real sensitivities: fronts of loss, cycles and bytes: `make bench-hardware-aware`.

Beside them what a compile without a bound takes: the fewest cycles within its tolerance of loss.

Needs the images and weights of BITLOOM_DATA. Writes benchmarks/results/hardware_aware.json and
docs/hardware-aware-*.png; steps that are done are not repeated. `--measure N` measures top-1 of some allocations on N
images of `val`, which take no part in any choice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import journey
import numpy as np
from real_costs import DATA, WEIGHTS, real_costs

from bitloom import zoo
from bitloom.allocate.budget import Budget
from bitloom.allocate.hbp import LayerCosts, allocate
from bitloom.allocate.latency import LatencyAllocator, LatencySolution
from bitloom.data.images import Preprocess, load_images
from bitloom.evaluate import Evaluation, evaluate
from bitloom.explore.pricing import NetworkCycles
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import WIDTHS, BitAllocation, uniform
from bitloom.graph.ir import Graph
from bitloom.quantize.quantize import quantize
from bitloom.report.hardware import hardware_figure
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "hardware_aware.json"
#: Cycle limits of the front, loosest first; the shown one stands in the picture of the bits.
LIMITS = {
    "resnet18": (230_000, 210_000, 200_000, 190_000, 180_000, 175_000),
    "resnet34": (450_000, 400_000, 370_000, 360_000, 350_000),
    "resnet50": (520_000, 480_000, 450_000, 430_000, 420_000, 410_000, 400_000),
    "vgg16": (2_600_000, 2_400_000, 2_300_000, 2_200_000),
}
SHOWN = {"resnet18": 175_000, "resnet34": 360_000, "resnet50": 420_000, "vgg16": 2_300_000}
BUDGETS = (3.0, 3.5, 4.0)


def drawn_costs(graph: Graph) -> dict[str, LayerCosts]:
    """Costs without data: they fall fourfold a bit, channels and layers have lognormal weight; for speed only."""
    rng, widths = np.random.default_rng(0), np.array(WIDTHS)
    found = {}
    for name, bits in uniform(graph, 4).bits.items():
        inputs = uniform(graph, 4).inputs[name]
        scale = np.exp(rng.normal(0, 1.0, bits.size) + rng.normal(0, 0.7))[:, None]
        curve = np.where(widths > 0, 10 * 4.0**-widths, 1.0) * np.sqrt(inputs)
        found[name] = LayerCosts(scale * curve, inputs)
    return found


def row_of(
    name: str, kind: str, budget: float, allocation: BitAllocation, model: NetworkCycles, loss: float
) -> dict[str, Any]:
    run = model.run(allocation.bits)
    return {
        "network": name,
        "allocation": kind,
        "budget_mean_bits": budget,
        "mean_bits": allocation.mean_bits,
        "weight_bytes": allocation.bytes,
        "estimated_loss": loss,
        "model_cycles": run.cycles,
        "cycles_by_cause": run.causes,
        "milliseconds": run.milliseconds,
        "histogram": {str(k): v for k, v in allocation.histogram.items()},
    }


def loss_of(costs: Mapping[str, LayerCosts], allocation: BitAllocation) -> float:
    widths = np.array(WIDTHS)
    return float(
        sum(
            layer.cost[np.arange(len(layer.cost)), np.searchsorted(widths, allocation.bits[name])].sum()
            for name, layer in costs.items()
        )
    )


def mean_bits(allocation: BitAllocation) -> dict[str, float]:
    return {name: float(bits.mean()) for name, bits in allocation.bits.items()}


def front_of(
    name: str, graph: Graph, costs: dict[str, LayerCosts]
) -> tuple[list[dict[str, Any]], dict[str, BitAllocation], NetworkCycles]:
    """Rows of all budgets and limits, and the allocations of the shown budget by label."""
    model = NetworkCycles(graph, named_arch("full"), load_device("xczu15eg"))
    solver = LatencyAllocator(costs, WIDTHS, model)
    weights = sum(c.weights * len(c.cost) for c in costs.values())
    rows, shown = [], {}
    flat = uniform(graph, 4)
    rows.append(row_of(name, "uniform", 4.0, flat, model, loss_of(costs, flat)))
    for budget in BUDGETS:
        bits = int(budget * weights)
        free = allocate(costs, WIDTHS, bits)
        rows.append(row_of(name, "no cycle limit", budget, free.allocation, model, free.objective))
        found: list[LatencySolution] = solver.front([bits], LIMITS[name])
        for one in found:
            row = row_of(name, "cycle limit", budget, one.allocation, model, one.objective)
            record = {"limit": one.limit, "bound": one.bound, "seconds": round(one.seconds, 2), "rounds": one.rounds}
            rows.append(row | record)
            print(
                json.dumps({k: v for k, v in rows[-1].items() if k not in ("histogram", "cycles_by_cause")}), flush=True
            )
            if budget == 4.0:
                shown[f"limit {one.limit}"] = one.allocation
        spared = LatencyAllocator(costs, WIDTHS, model).fewest_cycles(bits, Budget.tolerance)
        row = row_of(name, "tolerance", budget, spared.allocation, model, spared.objective)
        rows.append(row | {"tolerance": Budget.tolerance, "seconds": round(spared.seconds, 2)})
        if budget == 4.0:
            shown = {"uniform": flat, "no limit": free.allocation, "tolerance": spared.allocation} | shown
    return rows, shown, model


def draw(name: str, rows: list[dict[str, Any]], shown: dict[str, BitAllocation], model: NetworkCycles) -> None:
    free, bound = shown["no limit"], shown[f"limit {SHOWN[name]}"]
    prices = model.prices(bound.bits).per_bit
    fronts = {
        f"{b:g}": [
            (r["model_cycles"], r["estimated_loss"])
            for r in rows
            if r["budget_mean_bits"] == b and r["allocation"] in ("no cycle limit", "cycle limit")
        ]
        for b in BUDGETS
    }
    labels = (
        f"no cycle limit, {free.mean_bits:.2f} bits, {model.run(free.bits).cycles / 1e3:.0f} thousand cycles",
        f"at most {SHOWN[name] / 1e3:.0f} thousand cycles, {bound.mean_bits:.2f} bits",
    )
    figure = hardware_figure(
        name, mean_bits(free), mean_bits(bound), {k: 1e3 * v for k, v in prices.items()}, labels, fronts
    )
    figure.savefig(ROOT / "docs" / f"hardware-aware-{name}.png", dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="*", default=list(WEIGHTS), choices=WEIGHTS)
    parser.add_argument("--drawn", nargs="*", default=["resnet34", "resnet50", "vgg16"], choices=LIMITS)
    parser.add_argument("--measure", type=int, default=0, help="images of val for top-1 (0: none)")
    args = parser.parse_args()
    if args.networks and not DATA.is_dir():
        print(f"{DATA}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    for name in args.networks:
        real = real_costs(name)
        rows, shown, model = front_of(name, real.graph, real.costs)
        draw(name, rows, shown, model)
        measured = []
        if args.measure:
            info = zoo.info(name)
            images = load_images(DATA / "val", Preprocess(info.image_shape, info.mean, info.std), args.measure)
            for label in ("uniform", "no limit", "tolerance", f"limit {SHOWN[name]}"):
                qgraph = quantize(real.graph, shown[label], real.calibration, rounded=real.rounded)
                accuracy = evaluate(real.graph, qgraph, Evaluation(images.images, images.labels), 16)
                cycles = model.run(shown[label].bits).cycles
                measured.append({"network": name, "allocation": label, "model_cycles": cycles, "accuracy": accuracy})
                print(json.dumps(measured[-1]), flush=True)
        save(name, "measured", rows + measured)
    for name in args.drawn:
        graph = load_model(name)
        rows, shown, model = front_of(name, graph, drawn_costs(graph))
        save(name, "drawn", rows)
    return 0


def save(name: str, source: str, rows: list[dict[str, Any]]) -> None:
    """Writes the result file with the rows of a network replaced. source: of the sensitivities."""
    kept = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []
    others = [r for r in kept if (r["network"], r["sensitivities"]) != (name, source)]
    kept = others + [{**row, "sensitivities": source} for row in rows]
    journey.write_text(RESULT, json.dumps({"command": "make bench-hardware-aware", "rows": kept}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
