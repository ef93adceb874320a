"""Roundings of one HBP allocation on ResNet-18, ImageNet `val`: `python benchmarks/bench_rounding.py --bits 3 2.5 2`.

Needs BITLOOM_DATA. 400 calibration images fit, 100 others measure sensitivities and compare stages; `val` is measured
once for each stage, on the float32 twin of the integer network. Writes benchmarks/results/rounding.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import journey
import torch
import torch.nn.functional as F

from bitloom import zoo
from bitloom.allocate.allocation import WIDTHS
from bitloom.allocate.hbp import allocate
from bitloom.allocate.sensitivity import layer_costs
from bitloom.data.images import ImageSet, Preprocess, load_images
from bitloom.frontends.load import load_model
from bitloom.journal import Journal
from bitloom.quantize.lower import Lowered
from bitloom.quantize.observe import calibrate
from bitloom.quantize.qgraph import QuantGraph
from bitloom.quantize.quantize import quantize
from bitloom.quantize.refine import Refinement, best, refine
from bitloom.quantize.statistics import round_network
from bitloom.quantize.teacher import FloatNetwork
from bitloom.quantize.trainable import TrainableNetwork

ROOT = Path(__file__).resolve().parents[1]
DATA = journey.DATA / "imagenet"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=float, nargs="+", default=[4.0, 3.0, 2.5, 2.0], help="mean bits per weight")
    parser.add_argument("--until", type=Refinement, default=Refinement.LEARNED, help="gptq, compensated or learned")
    parser.add_argument("--calibration", type=int, default=500, help="images; a fifth of them is held out")
    parser.add_argument("--limit", type=int, default=600, help="images of val")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "rounding")
    args = parser.parse_args()
    if not DATA.is_dir():
        print(f"{DATA}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    info = zoo.info("resnet18")
    graph = load_model("resnet18", str(DATA / "weights" / "resnet18_hybrid.npz"))
    images = load_images(
        DATA / "calibration", Preprocess(info.image_shape, info.mean, info.std, 256), args.calibration
    ).images
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    fit, held = images[: len(images) * 4 // 5].contiguous(), images[len(images) * 4 // 5 :].contiguous()
    journal, key = Journal(args.out / "steps"), f"resnet18 {args.calibration}"
    calibration = journal.step("calibrate", key, lambda: calibrate(graph, fit))
    rounded = journal.step("round", key, lambda: round_network(calibration))
    costs = journal.step("sensitivity", key, lambda: layer_costs(calibration, rounded, held))
    val = load_images(DATA / "val", Preprocess(info.image_shape, info.mean, info.std), args.limit)
    total = sum(c.weights * len(c.cost) for c in costs.values())
    rows: list[dict[str, Any]] = []
    for bits in args.bits:
        allocation = allocate(costs, WIDTHS, int(total * bits)).allocation
        start = quantize(graph, allocation, calibration, rounded=rounded)
        lowered = calibration.lowered
        stages = journal.step(
            "refine",
            f"{key} {bits} {args.until}",
            partial(refine, graph, calibration.lowered, start, fit, held, args.until),
        )
        for stage in stages:
            row = {"mean_bits": allocation.mean_bits, "rounding": stage.stage.value, "held_out_kl": stage.divergence}
            row["chosen"] = stage is best(stages)
            rows.append(row | measure(lowered, stage.qgraph, val))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        write(rows, args)
    return 0


def measure(lowered: Lowered, qgraph: QuantGraph, images: ImageSet) -> dict[str, float]:
    """Top-1 and agreement in per cent, KL to float and cross-entropy in nats, and the float network's top-1."""
    assert images.labels is not None
    student, teacher = TrainableNetwork(lowered, qgraph), FloatNetwork(lowered)
    with torch.no_grad():
        parts = [(student(x), teacher(x)) for x in torch.split(images.images, 10)]
    ours, floats = (torch.cat(p).double() for p in zip(*parts, strict=True))
    labels = torch.from_numpy(images.labels)
    logs = F.log_softmax(ours, 1)
    return {
        "top1": 100.0 * float((ours.argmax(1) == labels).double().mean()),
        "top1_float": 100.0 * float((floats.argmax(1) == labels).double().mean()),
        "agreement": 100.0 * float((ours.argmax(1) == floats.argmax(1)).double().mean()),
        "kl": float(F.kl_div(logs, F.log_softmax(floats, 1), log_target=True, reduction="batchmean")),
        "loss": float(F.nll_loss(logs, labels)),
        "n": len(labels),
    }


def write(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Writes benchmarks/results/rounding.json."""
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/bench_rounding.py --until {args.until.value} --calibration {args.calibration}"
    result = {"command": command, "network": "resnet18", "data": "imagenet val", "rows": rows}
    (folder / "rounding.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
