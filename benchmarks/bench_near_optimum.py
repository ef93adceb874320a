"""How well a few hundred images can tell one allocation from another: `make bench-near-optimum`.

Three questions, all answered on calibration images that the rounding has not seen (no validation or test image):

1. Promise: how much less divergence do the costs promise HBP than the exact program per layer, and how much is it?
2. Prediction: allocations drawn at random around HBP's (every group of channels may move by a width), their divergence
   measured; how far is it from what the costs foretell, after one common scale (an offset is what activations cost)?
3. Search: candidates from costs with lognormal noise, each measured on the images for sensitivities, the best kept and
   searched around again. What does the winner promise there, and what does it hold on the images for choice?

Writes benchmarks/results/near_optimum.json; rows of other networks and budgets stay. A call for ResNet-18 takes about
half an hour of one core.

    python benchmarks/bench_near_optimum.py [--network resnet18] [--budgets 2.5 3] [--drawn 100] [--candidates 20]
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import journey

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accuracy_networks import NETWORKS, Prepared, prepare
from scipy.optimize import least_squares
from torch import Tensor

from bitloom.allocate.grouping import curve_groups
from bitloom.allocate.hbp import LayerCosts, allocate
from bitloom.allocate.probe import Probe, divergence, log_probabilities
from bitloom.baselines.layers import best_per_layer
from bitloom.compare.outcome import float_logits
from bitloom.graph.allocation import WIDTHS, BitAllocation

FloatArray = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
SPREAD = (0.3, 0.15)  #: of the noise on the logarithm of costs, by channel and by layer


class Judge:
    """Divergence of an allocation from the float network, per image, biases corrected as `quantize` does."""

    def __init__(self, prepared: Prepared, images: Tensor) -> None:
        self.prepared, self.images = prepared, images
        self.target = F.log_softmax(float_logits(prepared.graph, images), dim=1)

    def __call__(self, bits: BitAllocation) -> FloatArray:
        """(N,) in nats."""
        probe = Probe(self.prepared.calibration, self.prepared.tables["gptq"])
        probe.place(bits.bits)
        probe.correct()
        return np.asarray(divergence(self.target, log_probabilities(probe, self.images)).double().numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18", choices=list(NETWORKS))
    parser.add_argument("--budgets", nargs="+", type=float, default=[2.25, 2.5, 3.0, 4.0], help="mean bits")
    parser.add_argument("--drawn", type=int, default=100, help="random allocations a budget")
    parser.add_argument("--candidates", type=int, default=20, help="of the search")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "accuracy")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    prepared = prepare(args.network, journey.DATA, args.out)
    unseen, choice = Judge(prepared, prepared.measuring), Judge(prepared, prepared.choice)
    path = journey.RESULTS / "near_optimum.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.is_file() else []
    for mean_bits in args.budgets:
        budget = int(prepared.total * mean_bits)
        line: dict[str, Any] = {"network": args.network, "mean_bits": mean_bits, "machine": journey.machine()}
        line |= {"drawn": args.drawn, "candidates": args.candidates}
        line |= {"unseen": len(unseen.images), "choice": len(choice.images)}
        line |= promise(prepared, budget, choice) | prediction(prepared, budget, unseen, args.drawn)
        line |= search(prepared, budget, unseen, choice, args.candidates)
        print(line, flush=True)
        rows = [r for r in rows if (r["network"], r["mean_bits"]) != (args.network, mean_bits)]
        rows = sorted([*rows, line], key=lambda r: (r["network"], r["mean_bits"]))
        journey.write_text(path, json.dumps({"command": "make bench-near-optimum", "rows": rows}, indent=1) + "\n")


def cost_of(costs: dict[str, LayerCosts], bits: BitAllocation) -> float:
    """What the costs foretell of an allocation."""
    columns = {name: np.searchsorted(WIDTHS, bits.bits[name]) for name in costs}
    return float(sum(c.cost[np.arange(len(c.cost)), columns[name]].sum() for name, c in costs.items()))


def promise(prepared: Prepared, budget: int, choice: Judge) -> dict[str, float]:
    """HBP over the exact program per layer: promised and measured, and the standard error of the measured ratio."""
    costs = dict(prepared.costs)
    ours = allocate(costs, WIDTHS, budget).allocation
    theirs = best_per_layer(costs, WIDTHS, budget, lambda bits: float(choice(bits).mean()))
    a, b = choice(ours), choice(theirs)
    return {
        "promised_ratio": cost_of(costs, ours) / cost_of(costs, theirs),
        "measured_ratio": float(a.mean() / b.mean()),
        "ratio_error": float((a - b).std() / len(a) ** 0.5 / b.mean()),
    }


def prediction(prepared: Prepared, budget: int, unseen: Judge, drawn: int) -> dict[str, float]:
    """Root mean square of log(measured / foretold) over random allocations, and the spread of the measured ones."""
    costs, rng = dict(prepared.costs), np.random.default_rng(0)
    base = allocate({n: c.at_least(2, WIDTHS) for n, c in costs.items()}, WIDTHS, budget).allocation
    groups = {name: curve_groups(c.cost[:, 2:], 3) for name, c in costs.items()}
    foretold, found = np.empty(drawn), np.empty(drawn)
    for i in range(drawn):
        bits = {}
        for name, group in groups.items():
            moves = rng.choice([-1, 0, 1], p=[0.25, 0.5, 0.25], size=int(group.max()) + 1)
            moves = moves + rng.choice([-1, 0, 1], p=[0.15, 0.7, 0.15])
            bits[name] = np.clip(base.bits[name] + moves[group], 2, 8).astype(np.int8)
        drawn_bits = BitAllocation(bits, base.inputs)
        foretold[i], found[i] = cost_of(costs, drawn_bits), float(unseen(drawn_bits).mean())

    def miss(x: FloatArray) -> FloatArray:
        return np.asarray(np.log(np.exp(x[0]) * foretold + np.exp(x[1])) - np.log(found))

    start = np.log([found.mean() / foretold.mean(), 1e-2 * found.min()])
    rest = miss(least_squares(miss, start).x)
    return {"prediction_rms": float(np.sqrt(np.mean(rest**2))), "drawn_spread": float(np.log(found).std())}


def search(prepared: Prepared, budget: int, unseen: Judge, choice: Judge, candidates: int) -> dict[str, float]:
    """The best of many allocations near the optimum by `unseen`, relative to HBP's there and on `choice`."""
    costs, rng = dict(prepared.costs), np.random.default_rng(1)
    start = allocate(costs, WIDTHS, budget).allocation
    best, first = start, unseen(start)
    lowest, errors = first, []
    noise = {name: np.zeros(len(c.cost)) for name, c in costs.items()}
    for _ in range(candidates):
        moved = {n: x + rng.normal(0, SPREAD[0], len(x)) + rng.normal(0, SPREAD[1]) for n, x in noise.items()}
        other = {n: replace(c, cost=c.cost * np.exp(moved[n])[:, None]) for n, c in costs.items()}
        bits = allocate(other, WIDTHS, budget).allocation
        found = unseen(bits)
        errors.append(float((found - lowest).std() / len(found) ** 0.5 / first.mean()))
        if found.mean() < lowest.mean():
            best, lowest, noise = bits, found, moved
    a, b = choice(best), choice(start)
    return {
        "search_ratio_where_chosen": float(lowest.mean() / first.mean()),
        "search_ratio_elsewhere": float(a.mean() / b.mean()),
        "error_of_a_comparison": float(np.mean(errors)),
    }


if __name__ == "__main__":
    main()
