"""ResNet-18, -34, -50 and VGG-16 at 224x224 on one full-size RTL build, every tensor compared: `make bench-speed`.

Needs the images and weights of BITLOOM_DATA. Writes benchmarks/results/speed.json, network by network, so that an
interrupted run keeps its rows; `--networks` runs some of them, `--stalls` one network under seeds of AXI stalls,
`--accuracy` the allocations' accuracy.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import journey
import speed_page
from speed_networks import NETWORKS, Prepared, accuracy, images_of, prepare

from bitloom.explore.performance import Performance
from bitloom.explore.planned import planned_performance
from bitloom.graph.qgraph import QConv
from bitloom.program.commands import CAUSES
from bitloom.program.lower import input_image, lower
from bitloom.program.ordering import choose_order, reorder
from bitloom.program.plan import plan
from bitloom.reference.fast import quantize_input
from bitloom.simulate.build import build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.results import RunResult
from bitloom.simulate.run import run_workload, workload_of
from bitloom.target.arch import ArchConfig, named_arch
from bitloom.target.device import load_device

ROOT = Path(__file__).resolve().parents[1]
STALLS = 0.02  #: per AXI channel and cycle
RESULT = ROOT / "benchmarks" / "results" / "speed.json"


def measure(
    prepared: Prepared, name: str, arch: ArchConfig, data: Path, batch: int, cluster: str | None
) -> dict[str, Any]:
    """One row: the network on RTL, images of `val`, all tensors against the integer reference."""
    qgraph = reorder(prepared.qgraph, choose_order(prepared.qgraph, arch))
    planned = plan(qgraph, arch, batch)
    model = planned_performance(planned, load_device("xczu15eg"))
    program = lower(qgraph, planned)
    codes = quantize_input(qgraph, images_of(name, data, batch, "val"))
    images = [input_image(program, codes)]
    result = run_workload(workload_of(program), images, build(arch), SimOptions(dump=True), cluster)
    run = result.runs[0]
    comparison = compare_run(program, run, reference_tensors(qgraph, codes))
    print(comparison.text())
    dense = {n.name for n in qgraph.nodes if isinstance(n, QConv) and qgraph.tensors[n.output].shape[1:] == (1, 1)}
    layers = _layers(program.layers, run, model, dense)
    conv = [r for r in layers if r["macs"]]
    spatial = [r for r in conv if not r["fc"]]
    row: dict[str, Any] = {
        "network": name,
        "allocation": prepared.origin,
        "mean_bits": prepared.allocation.mean_bits,
        "dsps": arch.array_dsps,
        "array": f"{arch.pixels} pixels x {arch.channels} channels x {arch.vector} outputs",
        "architecture_hash": f"{arch.hash:08x}",
        "batch": batch,
        "cycles": run.cycles,
        "model_cycles": model.cycles,
        "cycles_by_cause": {c: run.registers[f"CYCLES_{c.upper()}"] for c in CAUSES},
        "mac_efficiency": _efficiency(spatial, arch),
        "mac_efficiency_with_fc": _efficiency(conv, arch),
        "ddr_bytes": 16 * sum(run.registers[r] for r in ("BEATS_WEIGHTS", "BEATS_READ", "BEATS_WRITE")),
        "bit_exact": comparison.exact,
        "layers_compared": len(comparison.tensors),
        "wall_s": round(result.wall_s, 1),
        "peak_rss_mib": round(result.peak_rss_mib, 1),
        "layers": layers,
    }
    return row


def _layers(names: tuple[str, ...], run: RunResult, model: Performance, dense: set[str]) -> list[dict[str, Any]]:
    """Cycles of every layer beside the model's. dense: the fully connected layers."""
    predicted = {layer.name: layer for layer in model.layers}
    rows = []
    for number, causes in run.layer_cycles().items():
        layer = predicted.get(names[number])
        if layer is None:
            continue
        cycles = sum(causes.values())
        rows.append(
            {
                "layer": layer.name,
                "cycles": cycles,
                "model": layer.cycles,
                "deviation_percent": round(100.0 * (layer.cycles / cycles - 1.0), 2),
                "macs": layer.macs,
                "fc": layer.name in dense,
                "causes": causes,
            }
        )
    return rows


def _efficiency(rows: list[dict[str, Any]], arch: ArchConfig) -> float:
    return float(sum(r["macs"] for r in rows) / (4 * arch.array_dsps * sum(r["cycles"] for r in rows)))


def under_stalls(prepared: Prepared, name: str, arch: ArchConfig, data: Path, seeds: int) -> dict[str, Any]:
    """Cycles of one image under `seeds` seeds, which draw the stalls and shift the refresh; outputs must be equal."""
    qgraph = reorder(prepared.qgraph, choose_order(prepared.qgraph, arch))
    program = lower(qgraph, plan(qgraph, arch))
    image = input_image(program, quantize_input(qgraph, images_of(name, data, 1, "val"))[0])
    free = run_workload(workload_of(program), [image], build(arch)).runs[0]
    cycles, equal = [], True
    for seed in range(seeds):
        options = SimOptions(stall_probability=STALLS, seed=seed)
        run = run_workload(workload_of(program), [image], build(arch), options).runs[0]
        cycles.append(run.cycles)
        equal = equal and run.output == free.output
    return {
        "network": name,
        "architecture_hash": f"{arch.hash:08x}",
        "stall_probability": STALLS,
        "seeds": seeds,
        "cycles_without": free.cycles,
        "cycles": cycles,
        "largest_deviation_percent": round(100.0 * max(abs(c / free.cycles - 1.0) for c in cycles), 2),
        "outputs_equal": equal,
    }


def _load() -> dict[str, Any]:
    empty: dict[str, Any] = {"command": "make bench-speed", "rows": []}
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else empty
    return found


def _save(row: dict[str, Any]) -> None:
    result = _load()
    rows = (r for r in result["rows"] if r["architecture_hash"] == row["architecture_hash"])
    kept = {(r["network"], r["batch"]): r for r in rows}
    kept[row["network"], row["batch"]] = row
    _write(result | {"rows": sorted(kept.values(), key=lambda r: (NETWORKS.index(r["network"]), r["batch"]))})


def _write(result: dict[str, Any]) -> None:
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    journey.write_text(RESULT, json.dumps(result, indent=1) + "\n")
    speed_page.write(RESULT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="full", help="named build (default: full, 3072 array DSPs)")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="images that share a run (default: 1)")
    parser.add_argument("--stalls", type=int, default=0, help="run the networks under so many seeds of stalls instead")
    parser.add_argument("--accuracy", type=int, default=0, help="classify so many images of val instead")
    parser.add_argument("--cluster", help="address of a dask scheduler whose workers simulate")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "speed")
    args = parser.parse_args()
    data = journey.DATA / "imagenet"
    if not data.is_dir():
        print(f"{data}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    arch = named_arch(args.arch)
    if args.stalls:
        for name in args.networks:
            found = under_stalls(prepare(name, data, args.out), name, arch, data, args.stalls)
            _write(_load() | {"stalls": found})
            print(json.dumps(found, indent=1))
        return 0 if found["outputs_equal"] else 1
    if args.accuracy:
        for name in args.networks:
            measured = _load().get("accuracy", {})
            measured[name] = accuracy(name, data, args.out, args.accuracy)
            _write(_load() | {"accuracy": measured})
            print(name, measured[name], flush=True)
        return 0
    exact = True
    for name, batch in ((n, b) for n in args.networks for b in args.batch):
        row = measure(prepare(name, data, args.out), name, arch, data, batch, args.cluster)
        _save(row)
        print(json.dumps({k: v for k, v in row.items() if k != "layers"}, indent=1), flush=True)
        exact = exact and bool(row["bit_exact"])
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
