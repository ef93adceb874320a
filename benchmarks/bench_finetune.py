"""Fine-tuning of ResNet-20 on CIFAR-10 at 2 and 3 mean bits a channel: `make bench-finetune`.

Needs BITLOOM_DATA. Calibrates on 500 lossless training images, allocates by HBP on 256 others (500 more say how far the
smallest widths are trusted), compensates, then trains on the 50 000 JPEG training images and three times the 4000
lossless ones towards the float network's outputs (no labels); with `--resolve N` the widths are solved again N times on
the way. Test images are only measured, once: the 1000 lossless and the 10 000 JPEG ones. Adds its rows to
benchmarks/results/finetune.json; an interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Container, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import journey
import numpy as np
import torch
import torch.nn.functional as F

from bitloom.allocate.hbp import HbpSolution, LayerCosts, allocate, binary_only_in
from bitloom.allocate.probe import divergence_judge
from bitloom.allocate.sensitivity import layer_costs
from bitloom.allocate.trust import choose_trust
from bitloom.data.cifar import load_jpeg, load_lossless
from bitloom.data.images import ImageSet
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import WIDTHS, BitAllocation
from bitloom.graph.execute import execute
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QuantGraph
from bitloom.journal import Journal
from bitloom.program.binary import binary_layers
from bitloom.quantize.augment import Augment
from bitloom.quantize.compensate import compensate
from bitloom.quantize.fake import FakeQuantized
from bitloom.quantize.finetune import FinetuneOptions, print_progress, steps_of
from bitloom.quantize.observe import calibrate
from bitloom.quantize.quantize import quantize
from bitloom.quantize.tables import round_network
from bitloom.reference.fast import quantize_input, run_fast
from bitloom.retrain import Training, retrain
from bitloom.target.arch import named_arch

ROOT = Path(__file__).resolve().parents[1]
DATA = journey.DATA / "cifar10"
BATCH = 125
LOSSLESS_TIMES = 3  #: so often an epoch shows the lossless images, to stay close to the float network on both kinds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bits", type=float, nargs="+", default=[3.0, 2.0], help="mean bits per weight")
    parser.add_argument("--epochs", type=float, default=6.0, help="of the 62 000 training images")
    parser.add_argument("--resolve", type=int, default=0, help="how often the widths are solved again on the way")
    parser.add_argument("--rate", type=float, default=0.01, help="latent_rate")
    parser.add_argument("--stop", type=float, default=float("inf"), help="seconds after which no new budget begins")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "finetune")
    args = parser.parse_args()
    if not DATA.is_dir():
        print(f"{DATA}: no such folder; set BITLOOM_DATA", file=sys.stderr)
        return 2
    begin = time.perf_counter()
    graph = load_model("resnet20", str(DATA / "weights" / "resnet20-12fca82f.th"))
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(1))
    clean = load_lossless(DATA, test=False).images[order].contiguous()
    journal = Journal(args.out / "steps")
    calibration = journal.step("calibrate", "resnet20", lambda: calibrate(graph, clean[:500].contiguous()))
    rounded = journal.step("round", "resnet20", lambda: round_network(calibration))
    costs = journal.step("sensitivity", "resnet20", lambda: layer_costs(calibration, rounded, clean[500:756]))
    jpeg = load_jpeg(DATA / "cifar10_jpeg.tar.gz", test=False).images
    train = torch.cat([jpeg, *[clean] * LOSSLESS_TIMES])
    tests = {
        "lossless": load_lossless(DATA, test=True),
        "jpeg": load_jpeg(DATA / "cifar10_jpeg.tar.gz", test=True),
    }
    options = FinetuneOptions(
        steps=steps_of(args.epochs, len(train), BATCH),
        batch=BATCH,
        latent_rate=args.rate,
        augment=Augment(),
        mixed=True,
        every=50,
    )
    training = Training(train, options=options, resolve=args.resolve)
    _record(_float_row(graph, tests), args)
    binary = binary_layers(graph, named_arch("full"))
    judge = divergence_judge(graph, calibration, rounded, clean[756:1256])
    for bits in args.bits:
        if time.perf_counter() - begin > args.stop:
            break
        weights = sum(c.weights * len(c.cost) for c in costs.values())
        free = partial(_solve, binary, int(weights * bits))
        solution, trust = choose_trust(costs, WIDTHS, free, judge)
        solve = lambda found, trust=trust, free=free: free(trust.weigh(found, WIDTHS))  # noqa: E731
        first = quantize(graph, solution.allocation, calibration, rounded=rounded)
        fit = partial(compensate, calibration.lowered, first, clean[:500].contiguous())
        fitted: QuantGraph = journal.step("compensate", f"resnet20 {bits}", fit)[0]
        for method, network in (("gptq", first), ("compensated", fitted)):
            work = partial(_row, method, bits, solution.allocation, graph, network, tests)
            _record(journal.step(method, f"resnet20 {bits}", work), args)
        mark = len(journal.records)
        done = retrain(
            graph, calibration, fitted, solution, solve, clean[500:756], training, journal, f"{bits}", print_progress
        )
        name = "finetuned" if not args.resolve else f"finetuned, widths solved again {args.resolve} times"
        row = _row(name, bits, done.solution.allocation, graph, done.qgraph, tests)
        row |= {"epochs": args.epochs, "rate": args.rate, "resolve": args.resolve, "widths_changed": done.changed}
        row |= {"seconds": sum(r.seconds for r in journal.records[mark:]), "loss": done.losses[-1][-1]}
        _record(row, args)
    return 0


def _solve(binary: Container[str], budget: int, costs: Mapping[str, LayerCosts]) -> HbpSolution:
    return allocate(binary_only_in(costs, WIDTHS, binary), WIDTHS, budget)


def _float_row(graph: Graph, tests: dict[str, ImageSet]) -> dict[str, Any]:
    row: dict[str, Any] = {"method": "float", "budget": 32.0, "mean_bits": 32.0}
    for name, images in tests.items():
        assert images.labels is not None
        row[f"top1_{name}"] = 100.0 * float((_float(graph, images).argmax(1).numpy() == images.labels).mean())
    return row


def _row(
    method: str,
    budget: float,
    allocation: BitAllocation,
    graph: Graph,
    qgraph: QuantGraph,
    tests: dict[str, ImageSet],
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": method,
        "budget": budget,
        "mean_bits": allocation.mean_bits,
        "weight_bytes": allocation.bytes,
        "widths": {str(k): v for k, v in allocation.histogram.items()},
    }
    output = qgraph.tensors[qgraph.output]
    for name, images in tests.items():
        assert images.labels is not None
        integer, same = [], 0
        fake = FakeQuantized(qgraph)
        for batch in torch.split(images.images, 250):
            codes = run_fast(qgraph, quantize_input(qgraph, batch))[qgraph.output].reshape(len(batch), -1)
            integer.append(torch.from_numpy(codes.astype(np.float64) - output.zero_point) * output.scale)
            if name == "lossless":
                same += int((fake(batch).argmax(1) == integer[-1].argmax(1)).sum())
        logits = torch.cat(integer)
        reference = F.log_softmax(_float(graph, images).double(), 1)
        row[f"top1_{name}"] = 100.0 * float((logits.argmax(1).numpy() == images.labels).mean())
        row[f"kl_{name}"] = float(F.kl_div(F.log_softmax(logits, 1), reference, log_target=True, reduction="batchmean"))
        if name == "lossless":
            row["fake_integer_agreement"] = 100.0 * same / len(images.images)
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _float(graph: Graph, images: ImageSet) -> torch.Tensor:
    return torch.cat([execute(graph, b)[graph.output].flatten(1) for b in torch.split(images.images, 250)])


def _record(row: dict[str, Any], args: argparse.Namespace) -> None:
    """Puts a row into the result file, in place of an older one of the same method, budget and epochs."""
    path = journey.RESULTS / "finetune.json"
    known = json.loads(path.read_text())["rows"] if path.is_file() else []
    keys = ("method", "budget", "epochs")
    rest = [r for r in known if any(r.get(k) != row.get(k) for k in keys)]
    command = f"python benchmarks/bench_finetune.py --epochs {args.epochs:g} --rate {args.rate:g}"
    row |= {"command": f"{command} --resolve {args.resolve}" if row.get("resolve") else command}
    rows = sorted([*rest, row | {"machine": journey.machine()}], key=lambda r: -float(r["budget"]))
    result = {
        "command": "make bench-finetune",
        "network": "resnet20",
        "data": "CIFAR-10: 1000 lossless and 10 000 JPEG test images; trained on 50 000 JPEG images and three times "
        "4000 lossless ones, no labels",
        "rows": rows,
    }
    journey.write_text(path, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
