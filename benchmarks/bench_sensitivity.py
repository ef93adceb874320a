"""Estimators of sensitivity against the truth, and by what their allocations reach: `make bench-sensitivity`.

Truth: the divergence of the float network with one group of channels really rounded (four groups a layer, 2 and 3
bits), on calibration images that neither the rounding nor the estimators have seen. Every estimate of the same group is
compared with it: Spearman's rank correlation, slope of log truth on log estimate (1: calibrated), and the median of
the slopes inside the layers. Then the divergence on the same images of the allocation that each estimate leads to. No
validation or test image is used: this is what the default estimator is chosen on. Writes
benchmarks/results/sensitivity.json.

    python benchmarks/bench_sensitivity.py [--network resnet20] [--images 128] [--views N] [--more 1464]

With --more the costs are measured on so many calibration images beyond the benchmark's own; rows with another number
of images stand beside each other.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import journey

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from accuracy_networks import NETWORKS, Prepared, prepare
from accuracy_rows import cached, identity
from scipy.stats import spearmanr

from bitloom.allocate.estimators.blend import FisherBlend
from bitloom.allocate.estimators.fisher import ChannelFisher
from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.estimators.groups import GroupTruth, cut
from bitloom.allocate.estimators.truth import Alone, LayerTruth
from bitloom.allocate.hbp import allocate, binary_only_in
from bitloom.allocate.probe import Probe
from bitloom.allocate.sensitivity import Estimator, layer_costs
from bitloom.baselines.layers import best_per_layer
from bitloom.compare.outcome import float_logits, measure
from bitloom.graph.allocation import WIDTHS, BitAllocation

ROOT = Path(__file__).resolve().parents[1]
BUDGETS = (2.0, 2.25, 2.5, 3.0, 3.5, 4.0)
TRUE_WIDTHS = (1, 2, 3)
ESTIMATORS: dict[str, Estimator] = {
    "gradient share": GradientShare(),
    "gradient share, errors of 512 images": GradientShare(images=512),
    "gradient share, exponent 1": GradientShare(exponent=1.0),
    "pooled gradient": GradientShare(exponent=0.0),
    "channel Fisher": ChannelFisher(),
    "channel Fisher, temperature 1": ChannelFisher(temperature=1.0, together=1),
    "Fisher blend": FisherBlend(),
    "layer truth": LayerTruth(),
    "layer truth, pooled": LayerTruth(share=GradientShare(exponent=0.0)),
    "group truth": GroupTruth(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20", choices=list(NETWORKS))
    parser.add_argument("--images", type=int, default=128, help="for the truth")
    parser.add_argument("--more", type=int, default=0, help="calibration images for the costs, beyond the usual ones")
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS), choices=list(ESTIMATORS))
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "accuracy")
    parser.add_argument("--result", type=Path, default=ROOT / "benchmarks" / "results" / "sensitivity.json")
    parser.add_argument("--views", type=int, help="of each picture in rounding (default: as bench_accuracy.py)")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    folder = journey.DATA
    prepared = prepare(args.network, folder, args.out, args.views)
    target = F.log_softmax(float_logits(prepared.graph, prepared.choice), dim=1)
    blank = np.zeros(len(prepared.choice), np.int64)

    def judge(bits: BitAllocation) -> float:
        key = identity(args.network, "choice", "gptq", prepared, bits)
        work = lambda: measure(prepared, bits, "gptq", prepared.choice, blank, target)  # noqa: E731
        return float(cached(args.out / "rows", key, work).kl.mean())

    members = {name: cut(layer.cost[:, 2:], 4) for name, layer in prepared.costs.items()}
    truth = true_changes(prepared, members, prepared.choice[: args.images])
    measuring = torch.cat([prepared.measuring, prepared.spare[: args.more]])
    for name in args.estimators:
        estimator = ESTIMATORS[name]
        start = time.process_time()
        found = layer_costs(prepared.calibration, prepared.tables["gptq"], measuring, estimator)
        costs = binary_only_in(found, WIDTHS, prepared.binary)
        spent = time.process_time() - start
        line: dict[str, Any] = {"network": args.network, "estimator": name, "images": len(measuring), "cpu_s": spent}
        line["passes"] = estimator.passes(len(prepared.costs))
        line |= agreement(truth, {n: c.cost for n, c in costs.items()}, members)
        line["kl"] = {str(b): judge(allocate(costs, WIDTHS, int(prepared.total * b)).allocation) for b in BUDGETS}
        line["kl_per_layer"] = {
            str(b): judge(best_per_layer(costs, WIDTHS, int(prepared.total * b), judge)) for b in BUDGETS
        }
        print(line, flush=True)
        record(args.result, line)


def record(path: Path, line: dict[str, Any]) -> None:
    """Puts a row into the result file, in place of an older one of the same estimator and images."""
    keys = ("network", "estimator", "images")
    known = json.loads(path.read_text())["rows"] if path.is_file() else []
    rows = [*(r for r in known if any(r[k] != line[k] for k in keys)), line]
    journey.write_text(path, json.dumps({"command": "make bench-sensitivity", "rows": rows}, indent=1) + "\n")


def true_changes(
    prepared: Prepared, members: dict[str, np.ndarray], images: torch.Tensor
) -> dict[tuple[str, int, int], float]:
    """(layer, group, width) -> divergence with that group alone rounded, in nats."""
    probe = Probe(prepared.calibration, prepared.tables["gptq"])
    probe.correct()
    alone = Alone(probe, images, 64, 1.0)
    return {
        (name, g, b): alone.of(name, np.full(len(group), b, np.int8), group == g)
        for name, group in members.items()
        for g in range(int(group.max()) + 1)
        for b in TRUE_WIDTHS
        if b > 1 or name in prepared.binary
    }


def agreement(
    truth: dict[tuple[str, int, int], float], costs: dict[str, np.ndarray], members: dict[str, np.ndarray]
) -> dict[str, float]:
    """Spearman, slope over all groups, and median slope inside a layer and width; groups without harm are left out."""
    keys = [k for k, v in truth.items() if v > 1e-6]
    true = np.log([truth[k] for k in keys])
    guess = np.log([max(float(costs[n][members[n] == g, WIDTHS.index(b)].sum()), 1e-12) for n, g, b in keys])
    inside = []
    for name in members:
        for b in TRUE_WIDTHS:
            at = [i for i, k in enumerate(keys) if k[0] == name and k[2] == b]
            if len(at) > 2 and guess[at].std() > 0:
                inside.append(np.polyfit(guess[at], true[at], 1)[0])
    return {
        "spearman": float(spearmanr(guess, true).statistic),
        "slope": float(np.polyfit(guess, true, 1)[0]),
        "slope_inside_layers": float(np.median(inside)),
    }


if __name__ == "__main__":
    main()
