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
from accuracy_rows import (
    BUDGETS,
    Measured,
    Row,
    cached,
    choice_of,
    float_logits,
    identity,
    integer_agreement,
    judged,
    measure,
    rows,
)
from scipy.stats import binomtest

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
        prepared = prepare_measures(network, folder, args.out, args.measures)
        for data in NETWORKS[network].measures if args.data is None else args.data:
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
    target = F.log_softmax(keep("float", key, lambda: float_logits(first, images.images)), dim=1)
    choice_logits = keep("choice", first.key, lambda: float_logits(first, first.choice))
    choice_target = F.log_softmax(choice_logits / CHOICE_TEMPERATURE, dim=1)

    def judge(prepared: Prepared, rounding: str, bits: BitAllocation) -> float:
        blank = np.zeros(len(prepared.choice), np.int64)
        key = identity(Row(network, f"choice at {CHOICE_TEMPERATURE}", "", rounding, 0.0), prepared, bits)
        images = prepared.choice
        work = lambda: measure(prepared, bits, rounding, images, blank, choice_target, CHOICE_TEMPERATURE)  # noqa: E731
        return float(cached(args.out / "rows", key, work).kl.mean())

    float_row = Row(network, data, "float", "float", 32.0)
    record(args.result, entry(float_row, None, first, judged(target, target, labels), None))
    hbp: dict[float, Measured] = {}
    for row in rows(network, data, budgets):
        if limits.over:
            return
        if args.allocations is not None and row.allocation not in ("hbp", *args.allocations):
            continue
        start = time.time()
        taken = choice_of(row, measures, judge)
        if taken is None:
            continue
        prepared, bits = taken
        found = cached(
            args.out / "rows",
            f"{identity(row, prepared, bits)}{'' if args.images is None else f' {len(labels)}'}",
            partial(measure, prepared, bits, row.rounding, images.images, labels, target),
        )
        if row.allocation == "hbp" and row.rounding == "gptq":
            hbp[row.budget] = found
        line = entry(row, bits, prepared, found, hbp.get(row.budget))
        if args.integer and row.allocation == "hbp":
            some = images.images[:: max(1, len(labels) // args.integer)]
            work = partial(integer_agreement, prepared, bits, row.rounding, some)
            line["integer_agreement"] = keep("integer", f"{identity(row, prepared, bits)} {len(some)}", work)
            line["integer_images"] = len(some)
        record(args.result, line)
        shown = {k: line[k] for k in ("network", "data", "allocation", "rounding", "mean_bits", "top1", "kl")}
        print(f"{time.time() - start:6.1f} s", shown, flush=True)


def entry(
    row: Row, bits: BitAllocation | None, prepared: Prepared, found: Measured, hbp: Measured | None
) -> dict[str, Any]:
    """One row of accuracy.json; percentages, nats. ci95: of top1. measure: of rounding errors. sources: the package's,
    hashed; measured: when.
    vs_hbp: HBP minus this row, paired by image."""
    n, top1 = len(found.hit), 100 * float(found.hit.mean())
    half = 196 * float(found.hit.std()) / n**0.5
    result: dict[str, Any] = {
        "network": row.network,
        "data": row.data,
        "method": row.allocation if row.allocation == "float" else f"{row.allocation}+{row.rounding}",
        "allocation": "random" if row.allocation.startswith("random") else row.allocation,
        "rounding": row.rounding,
        "comparison": row.comparison if row.allocation != "float" else "reference",
        "budget": row.budget,
        "mean_bits": 32.0 if bits is None else bits.mean_bits,
        "weight_bytes": 4 * prepared.total if bits is None else bits.bytes,
        "top1": top1,
        "kl": float(found.kl.mean()),
        "loss": float(found.loss.mean()),
        "agreement": 100 * float(found.agree.mean()),
        "n": n,
        "ci95": [top1 - half, top1 + half],
        "measure": prepared.measure,
        "sources": sources_digest()[:12],
        "measured": time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime()),
    }
    if hbp is not None:
        result["vs_hbp"] = paired(hbp, found)
    return result


def paired(a: Measured, b: Measured) -> dict[str, Any]:
    """a minus b on the same images: top-1 points with a bootstrap interval, McNemar's exact test, ratio of KL."""
    rng = np.random.default_rng(0)
    difference = a.hit.astype(np.int64) - b.hit.astype(np.int64)
    picks = rng.integers(0, len(difference), (2000, len(difference)))
    low, high = np.percentile(100 * difference[picks].mean(axis=1), [2.5, 97.5])
    ratio = a.kl[picks].mean(axis=1) / np.maximum(b.kl[picks].mean(axis=1), 1e-12)
    kl_low, kl_high = np.percentile(ratio, [2.5, 97.5])
    only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
    p = 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)
    return {
        "top1_points": 100 * float(difference.mean()),
        "top1_ci95": [float(low), float(high)],
        "mcnemar_p": p,
        "kl_ratio": float(a.kl.mean() / max(float(b.kl.mean()), 1e-12)),
        "kl_ratio_ci95": [float(kl_low), float(kl_high)],
    }


def record(path: Path, line: dict[str, Any]) -> None:
    """Puts a row into the result file, in place of an older one of the same measurement."""
    keys = ("network", "data", "method", "budget")
    rest = json.loads(path.read_text())["rows"] if path.is_file() else []
    old: dict[str, Any] = next((r for r in rest if all(r[k] == line[k] for k in keys)), {})
    if old.get("top1") == line["top1"] and old.get("kl") == line["kl"]:
        line = {k: v for k, v in old.items() if k.startswith("integer_")} | line  # measured by an earlier call
    kept = [r for r in rest if r is not old]
    kept.append(line)
    kept.sort(key=lambda r: (r["network"], r["data"], -r["budget"], r["comparison"], r["method"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"command": "make bench-accuracy", "rows": kept}, indent=1) + "\n")


if __name__ == "__main__":
    main()
