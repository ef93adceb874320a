"""Throughput per watt of the full build, estimated, beside this machine's CPU: writes benchmarks/results/energy.json.

Accelerator: cycles of the performance model at the device's clock and the energy estimate of explore/energy.py,
uniform 4-bit weights. CPU: measured latency at batch 1 on one and two threads, the best runtime of those installed;
power from RAPL where it can be read, else a data sheet's, named so. Weights are random: neither side depends on them.
GPUs: published figures of ResNet-50 (gpu_published.py), beside the same estimate.
Usage: python benchmarks/bench_energy.py [--networks NAME ...]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gpu_published
import journey
from cpu_baseline import DATASHEET, DATASHEET_WATTS_PER_CORE, latencies

from bitloom.explore.energy import ENERGY
from bitloom.explore.explorer import explore
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import uniform
from bitloom.target.arch import NAMED

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "energy.json"
NETWORKS = ("resnet18", "resnet34", "resnet50", "vgg16")


def accelerator(name: str) -> dict[str, Any]:
    """The estimate for one image at batch 1."""
    graph = load_model(name)
    found = explore(graph, "xczu15eg", uniform(graph, 4).bits, arch=NAMED["full"])
    energy = found.energy
    return {
        "estimate": True, "device": found.device.name, "architecture": found.arch.name,
        "clock_mhz": found.run.clock_mhz,
        "model_cycles": found.run.cycles, "milliseconds": found.run.milliseconds, "millijoules": energy.millijoules,
        "watts": energy.watts, "images_per_second": 1e3 / found.run.milliseconds,
        "images_per_joule": energy.images_per_joule, "parts_mj": energy.parts_mj,
    }  # fmt: skip


def measure(name: str) -> dict[str, Any]:
    """One network on both sides, and the ratios."""
    rows = []
    for threads in (1, 2):
        for latency in latencies(name, threads):
            watts = DATASHEET_WATTS_PER_CORE * threads if latency.watts is None else latency.watts
            per_joule = 1e3 / latency.best_ms / watts
            rows.append(
                {
                    **asdict(latency),
                    "watts": watts,
                    "power": DATASHEET if latency.watts is None else "measured: RAPL, all packages",
                    "images_per_second": 1e3 / latency.best_ms,
                    "images_per_joule": per_joule,
                }
            )
            print(f"{name} {latency}", file=sys.stderr, flush=True)
    chip = accelerator(name)
    fastest = min(rows, key=lambda r: r["best_ms"])
    thriftiest = max(rows, key=lambda r: r["images_per_joule"])
    return {
        "network": name, "accelerator": chip, "cpu": rows, "cpu_fastest": _label(fastest),
        "cpu_thriftiest": _label(thriftiest),
        "speed_over_cpu": chip["images_per_second"] / fastest["images_per_second"],
        "images_per_joule_over_cpu": chip["images_per_joule"] / thriftiest["images_per_joule"],
    }  # fmt: skip


def _label(row: dict[str, Any]) -> str:
    return f"{row['runtime']} {row['precision']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def main() -> int:
    """Measures the networks asked for, keeps the rows of the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    chosen = parser.parse_args()
    old = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows = {row["network"]: row for row in old}
    for name in chosen.networks:
        load_before = os.getloadavg()[0]
        row = measure(name)
        rows[name] = {**row, "machine_load_before": load_before, "machine_load_after": os.getloadavg()[0]}
        print(f"{name}: {row['speed_over_cpu']:.1f} x speed, {row['images_per_joule_over_cpu']:.1f} x images a joule")
        result = {
            "cpu": _cpu_name(), "cpu_threads_here": os.cpu_count(),
            "energy_coefficients_pj": {k: {"picojoules": c.picojoules, "source": c.source} for k, c in ENERGY.items()},
            "rows": [rows[n] for n in NETWORKS if n in rows],
            "gpus": gpu_published.beside(rows["resnet50"]["accelerator"]) if "resnet50" in rows else [],
        }  # fmt: skip
        journey.write_text(RESULT, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
