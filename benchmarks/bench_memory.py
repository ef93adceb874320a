"""Highest resident memory of every quantization step for networks of 224x224 pixels: `make bench-memory`.

ResNet-50 has its weights where BITLOOM_DATA has them, VGG-16 and without data both have He-initialised ones; the images
are noise: neither matters to memory. Every network runs in a process of its own. Block reconstruction and learned
rounding run a few steps, since no step keeps anything. Writes benchmarks/results/memory.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import journey
import torch

from bitloom import zoo
from bitloom.allocate.hbp import allocate
from bitloom.candidates import Material, candidate, priced_tables
from bitloom.flow import CompileOptions
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import WIDTHS
from bitloom.journal import Journal
from bitloom.quantize.compensate import CompensateOptions, compensate
from bitloom.quantize.finetune import finetune
from bitloom.quantize.observe import calibrate
from bitloom.quantize.quantize import quantize
from bitloom.quantize.reconstruct import ReconstructOptions, reconstruct
from bitloom.quantize.refine import best, learning_options

WEIGHTS = {"resnet50": "resnet50_pqf.npz"}
LIMIT_GIB = 12.0


def measure(name: str, images: int, steps: int) -> list[dict[str, Any]]:
    """A row a step of the journey's quantization, in order; the peak is that of the process up to then."""
    weights = journey.DATA / "imagenet" / "weights" / WEIGHTS.get(name, "none")
    graph = load_model(name, str(weights) if weights.is_file() else None)
    pixels = torch.randn(images, *zoo.info(name).image_shape, generator=torch.Generator().manual_seed(0))
    split = 2 * images // 3
    fit, held = pixels[:split], pixels[split:]
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        calibration = journal.step("calibrate", "", lambda: calibrate(graph, fit))
        material = Material(graph, calibration, fit, held)
        tables = priced_tables(material, CompileOptions().coherent, journal, "")
        bits = 4 * sum(layer.weights * len(layer.cost) for layer in tables[0].costs.values())
        solve = lambda costs: allocate(costs, WIDTHS, bits)  # noqa: E731
        taken = best([candidate(table, material, solve, journal, "") for table in tables])
        del tables
        allocation, rounded = taken.solution.allocation, taken.table.rounded
        start = journal.step("quantize", "", lambda: quantize(graph, allocation, calibration, rounded=rounded))
        lowered = calibration.lowered
        journal.step("compensate", "", lambda: compensate(lowered, start, fit, CompensateOptions(strengths=(1.0,)))[0])
        learning = ReconstructOptions(steps=steps, every=steps)
        journal.step("reconstruct", "", lambda: reconstruct(lowered, start, fit, learning)[0])
        options = replace(learning_options(fit), steps=steps, every=steps)
        journal.step("learn", "", lambda: finetune(graph, lowered, start, fit, options=options).qgraph)
        return [{"network": name, "images": images, **asdict(record)} for record in journal.records]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet50", "vgg16"], choices=zoo.NAMES)
    parser.add_argument("--images", type=int, default=200, help="calibration images, a third of them for sensitivities")
    parser.add_argument("--steps", type=int, default=4, help="of every block's reconstruction and of learned rounding")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in args.networks:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows += pool.apply(measure, (name, args.images, args.steps))
        worst = max(row["peak_rss_mib"] for row in rows if row["network"] == name) / 1024
        print(f"{name}: at most {worst:.2f} GiB", flush=True)
    journey.write_result("memory", {"command": "make bench-memory", "limit_gib": LIMIT_GIB, "rows": rows})
    return 0 if all(row["peak_rss_mib"] < 1024 * LIMIT_GIB for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
