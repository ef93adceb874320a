"""By what measure should a hundred images choose between networks? `make bench-choice`.

Candidates are allocations such as `compile` and the benchmarks choose between at a budget: HBP's for every measure of
rounding errors and trust, the exact programs per layer for every smallest width. Trusts are those of width 0, and those
without width 1 at both ends; `compile` tries without width 1 what its choice for width 0 leads to. Images that the
rounding has not seen are drawn into two parts, many times: one part chooses by each measure, the other says what
divergence the choice has.
ResNet-20 has 5000 JPEG training images for this (some of the pictures were seen lossless), the networks on ImageNet
their 180 other calibration pictures, the plain view to choose and three views to measure. No test image is used.

Writes benchmarks/results/choice.json: mean divergence of the choices in nats; `any`: of all candidates, `best`: of the
one that is best on the part that measures.

    python benchmarks/bench_choice.py [--network resnet20] [--budgets 2 2.5 3 4] [--images 100]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import journey

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from accuracy_networks import NETWORKS, Prepared, prepare_measures, unseen_views
from torch import Tensor

from bitloom.allocate.hbp import allocate, per_layer
from bitloom.allocate.probe import Probe, divergence
from bitloom.allocate.trust import NEVER, PRUNED, Trust
from bitloom.baselines.layers import SMALLEST
from bitloom.compare.outcome import float_logits
from bitloom.data.cifar import load_jpeg
from bitloom.errors import BudgetError
from bitloom.graph.allocation import WIDTHS, BitAllocation

FloatArray = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[1]
TRUSTS = (*(Trust(pruned) for pruned in PRUNED), Trust(1.0, NEVER), Trust(NEVER, NEVER))
DRAWS = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet20", choices=["resnet20", "resnet18", "resnet50"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[1.5, 2.0, 2.5, 3.0, 4.0], help="mean bits")
    parser.add_argument("--images", type=int, default=100, help="that choose")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "accuracy")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    measures = prepare_measures(args.network, journey.DATA, args.out, ("plain", "coherent"))
    views = _images(args.network)
    target = _of_views(views, partial(float_logits, measures[0].graph))
    path = journey.RESULTS / "choice.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.is_file() else []
    for budget in args.budgets:
        for kind, found in (("hbp", _hbp), ("per_layer", _per_layer)):
            scores = [
                _scores(target, _of_views(views, partial(_run, p, bits)))
                for p in measures
                for bits in _distinct(found(p, int(p.total * budget)))
            ]
            line: dict[str, Any] = {"network": args.network, "mean_bits": budget, "allocation": kind}
            line |= {"images": args.images, "candidates": len(scores), "machine": journey.machine()}
            line |= {"divergence": choices(scores, args.images)}
            print(line, flush=True)
            keys = ("network", "mean_bits", "allocation", "images")
            rows = [r for r in rows if any(r[k] != line[k] for k in keys)]
            rows = sorted([*rows, line], key=lambda r: tuple(r[k] for k in keys))
            journey.write_text(path, json.dumps({"command": "make bench-choice", "rows": rows}, indent=1) + "\n")


def choices(scores: list[dict[str, FloatArray]], images: int) -> dict[str, float]:
    """Mean divergence at temperature 1 of what each measure chooses; scores: (views, N) a candidate and measure."""
    plain, rng = np.stack([s["temperature 1"] for s in scores]), np.random.default_rng(0)
    total = dict.fromkeys((*scores[0], "any", "best"), 0.0)
    for _ in range(DRAWS):
        order = rng.permutation(plain.shape[2])
        choosing, measuring = order[:images], order[images:]
        truth = plain[:, :, measuring].mean(axis=(1, 2))
        for name in scores[0]:
            total[name] += truth[np.argmin([s[name][0, choosing].mean() for s in scores])]
        total["any"] += truth.mean()
        total["best"] += truth.min()
    return {name: float(x) / DRAWS for name, x in total.items()}


def _scores(target: Tensor, found: Tensor) -> dict[str, FloatArray]:
    """target, found: logits (views, N, classes)."""
    scores = {"squared logit error": np.asarray((target - found).square().mean(dim=2).numpy())}
    for t in (1.0, 2.0, 4.0, 8.0):
        a, b = (F.log_softmax(x.double().flatten(0, 1) / t, dim=1) for x in (target, found))
        scores[f"temperature {t:g}"] = np.asarray(divergence(a, b).reshape(found.shape[:2]).numpy())
    return scores


def _images(network: str) -> Tensor:
    """(views, N, C, H, W) that the rounding has not seen."""
    if NETWORKS[network].images == "imagenet":
        return unseen_views(network, journey.DATA, views=3)
    return load_jpeg(journey.DATA / "cifar10" / "cifar10_jpeg.tar.gz", test=False, limit=5000).images[None]


def _of_views(views: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.stack([run(images) for images in views])


def _run(prepared: Prepared, bits: BitAllocation, images: Tensor) -> Tensor:
    """(N, classes)."""
    probe = Probe(prepared.calibration, prepared.tables["gptq"])
    probe.place(bits.bits)
    probe.correct()
    network = probe.coded()
    assert network is not None
    with torch.no_grad():
        return torch.cat([network.logits(part).float() for part in torch.split(images, 50)])


def _hbp(prepared: Prepared, budget: int) -> Iterator[BitAllocation]:
    for trust in TRUSTS:
        try:
            yield allocate(trust.weigh(prepared.costs, WIDTHS), WIDTHS, budget).allocation
        except BudgetError:
            continue


def _per_layer(prepared: Prepared, budget: int) -> Iterator[BitAllocation]:
    for least in SMALLEST:
        try:
            yield per_layer({n: c.at_least(least, WIDTHS) for n, c in prepared.costs.items()}, WIDTHS, budget)
        except BudgetError:
            continue


def _distinct(found: Iterator[BitAllocation]) -> list[BitAllocation]:
    kept: list[BitAllocation] = []
    for one in found:
        if not any(one.same_widths(other) for other in kept):
            kept.append(one)
    return kept


if __name__ == "__main__":
    main()
