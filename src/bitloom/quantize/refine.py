"""What may follow the choice of widths: compensated rounding, learned rounding; held-out images keep the best network.

Learned rounding trains codes (straight through), scales and biases of the whole network at once towards the float
network's outputs on shifted and mirrored calibration images; it begins where compensation ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.ir import Graph
from bitloom.quantize.augment import Augment
from bitloom.quantize.compensate import CompensateOptions, compensate
from bitloom.quantize.finetune import FinetuneOptions, finetune
from bitloom.quantize.lower import Lowered
from bitloom.quantize.qgraph import QuantGraph
from bitloom.quantize.teacher import FloatNetwork
from bitloom.quantize.trainable import TrainableNetwork


class Refinement(Enum):
    """How far rounding goes once the widths are known; each includes those before it."""

    GPTQ = "gptq"
    COMPENSATED = "compensated"
    LEARNED = "learned"


@dataclass(frozen=True)
class Candidate:
    """A network and its mean KL(float || network) on held-out images, in nats per image."""

    stage: Refinement
    qgraph: QuantGraph
    divergence: float


def refine(
    graph: Graph,
    lowered: Lowered,
    start: QuantGraph,
    images: Tensor,
    held_out: Tensor,
    until: Refinement,
    learning: FinetuneOptions | None = None,
) -> tuple[Candidate, ...]:
    """The network of every stage up to `until`; take `best` of them.

    images: for fitting, float (N, C, H, W), views of one picture next to each other; held_out: others, that only
    compare. learning: of the last stage (default: `learning_options`). Raises DataError when there are too few images.
    """
    if not len(held_out):
        raise DataError("no held-out images to compare roundings; give more calibration images")
    found = [Candidate(Refinement.GPTQ, start, divergence(lowered, start, held_out))]
    if until is not Refinement.GPTQ:
        options = CompensateOptions(strengths=(1.0,), rows=max(20480, 40 * len(images)))
        fitted, _ = compensate(lowered, start, images, options)
        found.append(Candidate(Refinement.COMPENSATED, fitted, divergence(lowered, fitted, held_out)))
    if until is Refinement.LEARNED:
        training = learning_options(images) if learning is None else learning
        learned = finetune(graph, lowered, best(found).qgraph, images, options=training).qgraph
        found.append(Candidate(Refinement.LEARNED, learned, divergence(lowered, learned, held_out)))
    return tuple(found)


def best(candidates: Sequence[Candidate]) -> Candidate:
    """The one closest to the float network; of equals the earliest."""
    return min(candidates, key=lambda c: c.divergence)


def learning_options(images: Tensor) -> FinetuneOptions:
    """Short training for a few hundred images: 150 batches of 16 at most, low rates, shifts of 1/14 of the image.

    On a GPU where there is one.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = min(16, len(images))
    shift = max(1, int(images.shape[-1]) // 14)
    return FinetuneOptions(steps=150, batch=batch, latent_rate=0.004, augment=Augment(shift), device=device, every=50)


def divergence(lowered: Lowered, qgraph: QuantGraph, images: Tensor, batch: int = 16) -> float:
    """Mean KL(float || quantized) in nats per image, activations quantized too. images: float (N, C, H, W)."""
    student, teacher, total = TrainableNetwork(lowered, qgraph), FloatNetwork(lowered), 0.0
    with torch.no_grad():
        for part in torch.split(images, batch):
            target = F.log_softmax(teacher(part).double(), dim=1)
            logits = F.log_softmax(student(part).double(), dim=1)
            total += float(F.kl_div(logits, target, reduction="sum", log_target=True))
    return total / len(images)
