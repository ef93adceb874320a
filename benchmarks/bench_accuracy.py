"""Allocations and methods side by side at equal weight bytes: `make bench-accuracy`.

Weights and 8-bit activations are quantized in every row but the float one. Rows are measured in the order of what they
tell, each is kept under out/accuracy as soon as it is measured, and the next call goes on where the last one ended.
Where the rounding is ours, every allocation is made for each measure of rounding errors and takes the one that the
pictures kept for choice find better, as `bitloom compile` does. Writes benchmarks/results/accuracy.json: every row with
a paired test against HBP's row of the same network, images and budget. Nothing is chosen on the measuring images.

    python benchmarks/bench_accuracy.py [--networks resnet18 resnet20 ...] [--minutes M] [--budgets 2 2.5 ...]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import journey

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from accuracy_networks import NETWORKS, Prepared, measured, prepare_measures
from accuracy_rows import BUDGETS, cached, identity, integer_agreement, rows

from bitloom.compare.compare import reference_row, row_of
from bitloom.compare.lineup import Lineup
from bitloom.compare.methods import choice_of
from bitloom.compare.outcome import Outcome, float_logits, measure, outcome_of
from bitloom.graph.allocation import BitAllocation
from bitloom.journal import sources_digest
from bitloom.quantize.curvature import CHOICE_TEMPERATURE

ROOT = Path(__file__).resolve().parents[1]
MEASURES = ("plain", "coherent")  #: of rounding errors, as in `bitloom.candidates`


@dataclass(frozen=True)
class Limits:
    """When to stop: seconds since the epoch."""

    end: float

    @property
    def over(self) -> bool:
        """No time is left for another row."""
        return time.time() > self.end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--data", nargs="+", help="measuring sets (default: all of the network)")
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS), help="mean bits")
    parser.add_argument("--allocations", nargs="+", help="only these beside hbp (default: all)")
    parser.add_argument("--images", type=int, help="of a measuring set, spread evenly over it (default: all)")
    parser.add_argument("--integer", type=int, default=0, help="images on which HBP's integer network is run too")
    parser.add_argument(
        "--measures", nargs="+", default=list(MEASURES), choices=MEASURES, help="of rounding errors, to choose from"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no row after so many minutes")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "accuracy")
    parser.add_argument("--result", type=Path, default=ROOT / "benchmarks" / "results" / "accuracy.json")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder = journey.DATA
    limits = Limits(time.time() + 60 * args.minutes)
    for network in args.networks:
        if limits.over:
            break
        if not NETWORKS[network].file(folder).is_file():
            print(f"{network}: {NETWORKS[network].file(folder)} is not there; run make train-cifar", file=sys.stderr)
            continue
        for data in NETWORKS[network].measures if args.data is None else args.data:
            prepared = prepare_measures(network, folder, args.out, args.measures, data)
            run(network, data, tuple(args.budgets), prepared, folder, args, limits)


def run(
    network: str,
    data: str,
    budgets: tuple[float, ...],
    measures: Sequence[Prepared],
    folder: Path,
    args: argparse.Namespace,
    limits: Limits,
) -> None:
    """Measures the rows of one network and measuring set and writes the result after each."""
    images = measured(network, data, folder, args.images)
    assert images.labels is not None
    labels = images.labels
    first = measures[0]
    keep, key = first.journal.step, f"{first.key} {data} {len(labels)}"
    target = F.log_softmax(keep("float", key, lambda: float_logits(first.graph, images.images)), dim=1)
    choice_logits = keep("choice", first.key, lambda: float_logits(first.graph, first.choice))
    choice_target = F.log_softmax(choice_logits / CHOICE_TEMPERATURE, dim=1)

    def judge(prepared: Lineup, rounding: str, bits: BitAllocation) -> float:
        blank = np.zeros(len(prepared.choice), np.int64)
        key = identity(network, f"choice at {CHOICE_TEMPERATURE}", rounding, prepared, bits)
        images = prepared.choice
        work = lambda: measure(prepared, bits, rounding, images, blank, choice_target, CHOICE_TEMPERATURE)  # noqa: E731
        return float(cached(args.out / "rows", key, work).kl.mean())

    made = reference_row(network, outcome_of(target, target, labels)) | {"weight_bytes": 4 * first.total}
    record(args.result, stamped(made, data))
    hbp: dict[float, Outcome] = {}
    for row in rows(network, data, budgets):
        if limits.over:
            return
        method = row.method
        if args.allocations is not None and method.allocation not in ("hbp", *args.allocations):
            continue
        start = time.time()
        taken = choice_of(method, row.budget, measures, judge)
        if taken is None:
            continue
        prepared, bits = taken
        same = identity(network, data, method.rounding, prepared, bits)
        found = cached(
            args.out / "rows",
            f"{same}{'' if args.images is None else f' {len(labels)}'}",
            partial(measure, prepared, bits, method.rounding, images.images, labels, target),
        )
        if method.allocation == "hbp":
            hbp[row.budget] = found
        made = row_of(network, method, row.budget, prepared.measure, bits, found, hbp.get(row.budget))
        line = stamped(made, data)
        if args.integer and method.allocation == "hbp":
            some = images.images[:: max(1, len(labels) // args.integer)]
            work = partial(integer_agreement, prepared, bits, method.rounding, some)
            line["integer_agreement"] = keep("integer", f"{same} {len(some)}", work)
            line["integer_images"] = len(some)
        record(args.result, line)
        shown = {k: line[k] for k in ("network", "data", "allocation", "rounding", "mean_bits", "top1", "kl")}
        print(f"{time.time() - start:6.1f} s", shown, flush=True)


def stamped(row: dict[str, Any], data: str) -> dict[str, Any]:
    """A row of accuracy.json. data: the measuring set; sources: the package's, hashed; measured: when."""
    now = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime())
    return {"network": row["network"], "data": data} | row | {"sources": sources_digest()[:12], "measured": now}


def record(path: Path, line: dict[str, Any]) -> None:
    """Puts a row into the result file, in place of an older one of the same measurement."""
    keys = ("network", "data", "method", "budget")
    found: dict[str, Any] = {"command": "make bench-accuracy", "rows": []}
    if path.is_file():
        found = json.loads(path.read_text())
    rest = found["rows"]
    old: dict[str, Any] = next((r for r in rest if all(r[k] == line[k] for k in keys)), {})
    if old.get("top1") == line["top1"] and old.get("kl") == line["kl"]:
        line = {k: v for k, v in old.items() if k.startswith("integer_")} | line  # measured by an earlier call
    kept = [r for r in rest if r is not old]
    kept.append(line)
    kept.sort(key=lambda r: (r["network"], r["data"], -r["budget"], r["comparison"], r["method"]))
    if line["sources"] not in found.get("equal_sources", []):  # else a person has found these equal
        found["equal_sources"] = [line["sources"]]
    found["rows"] = kept
    journey.write_text(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
