"""GPTQ, compensated and learned rounding of chosen bits: `make bench-rounding`.

The networks, their calibration images and the bits are those of `make bench-accuracy`, whose steps are used again, and
as there held-out pictures choose the measure of rounding errors. Then they choose the stage; `val` only measures.
Writes rows of benchmarks/results/accuracy.json (methods `hbp+compensated`, `hbp+learned` and the same of the other
allocations), with the divergence on the held-out pictures, whether they chose the stage, and the pairing with HBP at
the same stage.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path

import journey
import torch
import torch.nn.functional as F
from accuracy_networks import NETWORKS, measured, prepare_measures, rounding_images
from bench_accuracy import MEASURES, record, stamped

from bitloom.allocate.probe import divergence_judge
from bitloom.compare.compare import row_of
from bitloom.compare.lineup import Lineup
from bitloom.compare.methods import Method, choice_of
from bitloom.compare.outcome import Outcome, float_logits, outcome_of
from bitloom.graph.allocation import BitAllocation
from bitloom.quantize.coded import coded_network
from bitloom.quantize.quantize import quantize
from bitloom.quantize.refine import Refinement, best, refine

ROOT = Path(__file__).resolve().parents[1]
Judges = Mapping[str, Callable[[BitAllocation], float]]  #: by measure of rounding errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18"], choices=list(NETWORKS))
    parser.add_argument("--budgets", type=float, nargs="+", default=[4.0, 3.0, 2.5, 2.0], help="mean bits per weight")
    parser.add_argument("--allocations", nargs="+", default=["hbp"], help="of bench_accuracy; hbp first pairs the rest")
    parser.add_argument("--how", type=Refinement, default=Refinement.LEARNED, help="gptq, compensated, learned or both")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "accuracy")
    parser.add_argument("--result", type=Path, default=ROOT / "benchmarks" / "results" / "accuracy.json")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    for network in args.networks:
        measures = prepare_measures(network, journey.DATA, args.out, MEASURES)
        first = measures[0]
        images = rounding_images(network, journey.DATA)
        keep = first.journal.step
        judges = {
            p.measure: cache(divergence_judge(p.graph, p.calibration, p.tables["gptq"], p.choice)) for p in measures
        }
        data = NETWORKS[network].measures[0]
        found = measured(network, data, journey.DATA)
        assert found.labels is not None
        key = f"{first.key} {data} {len(found.labels)}"  # bench_accuracy's, which keeps them too
        target = F.log_softmax(keep("float", key, partial(float_logits, first.graph, found.images)), 1)

        def judge(prepared: Lineup, _: str, bits: BitAllocation, of: Judges = judges) -> float:
            return of[prepared.measure](bits)

        for budget in args.budgets:
            hbp: dict[Refinement, Outcome] = {}
            for name in args.allocations:
                taken = choice_of(Method(name, "gptq"), budget, measures, judge)
                if taken is None:
                    continue
                prepared, bits = taken
                lowered = prepared.calibration.lowered
                start = quantize(prepared.graph, bits, prepared.calibration, rounded=prepared.tables["gptq"])
                fit = partial(refine, prepared.graph, lowered, start, images, prepared.choice, args.how)
                stages = keep("refine", f"{prepared.key} {budget} {name} {args.how}", fit)
                for stage in stages:
                    student = coded_network(lowered, stage.qgraph)
                    logits = torch.cat([student.logits(x) for x in torch.split(found.images, 16)])
                    judgement = outcome_of(F.log_softmax(logits, dim=1), target, found.labels)
                    if name == "hbp":
                        hbp[stage.stage] = judgement
                    method = Method(name, stage.stage.value)
                    made = row_of(network, method, budget, prepared.measure, bits, judgement, hbp.get(stage.stage))
                    line = stamped(made, data) | {"held_out_kl": stage.divergence, "chosen": stage is best(stages)}
                    if stage.stage is not Refinement.GPTQ:  # bench_accuracy measures that one
                        record(args.result, line)
                    shown = ("network", "method", "budget", "top1", "kl", "held_out_kl", "chosen")
                    print({k: line[k] for k in shown}, flush=True)


if __name__ == "__main__":
    main()
