"""Fine-tuning at 1.25 mean bits: a digits network is allocated, compensated, trained towards its float self.

Also under `torchrun --nproc-per-node 2 examples/02_finetune_digits.py`; run again after an interruption, it continues
from out/finetune_digits.pt.
"""

from pathlib import Path

import numpy as np
import torch

from bitloom import zoo
from bitloom.allocate.hbp import allocate
from bitloom.allocate.sensitivity import layer_costs
from bitloom.data.digits import digits, train
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.allocation import WIDTHS
from bitloom.graph.execute import execute
from bitloom.graph.qgraph import QuantGraph
from bitloom.quantize.augment import Augment
from bitloom.quantize.compensate import compensate
from bitloom.quantize.finetune import FinetuneOptions, finetune, print_progress
from bitloom.quantize.observe import calibrate
from bitloom.quantize.quantize import quantize
from bitloom.quantize.tables import round_network
from bitloom.reference.fast import quantize_input, run_fast


def main() -> None:
    images, labels, test_images, test_labels = digits()
    torch.manual_seed(0)
    network = zoo.build("digits")
    train(network, images, labels)
    graph = from_torch(network, (1, 8, 8), "digits")

    def accuracy(qgraph: QuantGraph) -> float:
        codes = run_fast(qgraph, quantize_input(qgraph, test_images))[qgraph.output]
        return 100.0 * float((codes.reshape(len(codes), -1).argmax(1) == test_labels).mean())

    calibration = calibrate(graph, images[:400])
    rounded = round_network(calibration)
    costs = layer_costs(calibration, rounded, images[400:600])
    weights = sum(c.weights * len(c.cost) for c in costs.values())
    allocation = allocate(costs, WIDTHS, int(1.25 * weights)).allocation
    start = quantize(graph, allocation, calibration, rounded=rounded)
    fitted, _ = compensate(calibration.lowered, start, images[:400])
    result = finetune(
        graph,
        calibration.lowered,
        fitted,
        images,
        options=FinetuneOptions(steps=150, batch=64, latent_rate=0.01, augment=Augment(1, flip=False), every=50),
        checkpoint=Path("out/finetune_digits.pt"),
        report=print_progress,
    )
    logits = execute(graph, test_images)[graph.output]
    print(f"float        {100.0 * float(np.mean(logits.argmax(1).numpy() == test_labels)):.1f} %")
    for name, qgraph in (("GPTQ", start), ("compensated", fitted), ("fine-tuned", result.qgraph)):
        print(f"{name:12s} {accuracy(qgraph):.1f} % at {allocation.mean_bits:.2f} mean bits, integers")


if __name__ == "__main__":
    main()
