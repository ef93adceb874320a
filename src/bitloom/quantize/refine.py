"""What may follow the choice of widths: compensated rounding, learned rounding; held-out images keep the best network.

Learned rounding trains scales and biases of the whole network at once towards the float network's outputs on the
calibration images. Codes stay: with a few hundred images, training them too lowers the loss on those images and not on
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QuantGraph
from bitloom.quantize.coded import coded_network
from bitloom.quantize.compensate import CompensateOptions, compensate
from bitloom.quantize.curvature import CHOICE_TEMPERATURE
from bitloom.quantize.finetune import FinetuneOptions, finetune
from bitloom.quantize.lower import Lowered
from bitloom.quantize.teacher import FloatNetwork


class Refinement(Enum):
    """What follows GPTQ once the widths are known: nothing, one of two, or both (learned after compensated)."""

    GPTQ = "gptq"
    COMPENSATED = "compensated"
    LEARNED = "learned"
    BOTH = "both"


@dataclass(frozen=True)
class RefinedNetwork:
    """A network and its `divergence` on held-out images, in nats per image."""

    stage: Refinement
    qgraph: QuantGraph
    divergence: float


def refine(
    graph: Graph,
    lowered: Lowered,
    start: QuantGraph,
    images: Tensor,
    held_out: Tensor,
    how: Refinement,
    learning: FinetuneOptions | None = None,
) -> tuple[RefinedNetwork, ...]:
    """`start` (GPTQ's) and the network after every stage of `how`; take `best` of them.

    images: for fitting, float (N, C, H, W), views of one picture next to each other; held_out: others, that only
    compare. learning: of the last stage (default: `learning_options`). Raises DataError when there are too few images.
    """
    if not len(held_out):
        raise DataError("no held-out images to compare roundings; give more calibration images")
    found = [RefinedNetwork(Refinement.GPTQ, start, divergence(lowered, start, held_out))]
    if how in (Refinement.COMPENSATED, Refinement.BOTH):
        options = CompensateOptions(strengths=(1.0,), rows=max(20480, 40 * len(images)))
        fitted, _ = compensate(lowered, start, images, options)
        found.append(RefinedNetwork(Refinement.COMPENSATED, fitted, divergence(lowered, fitted, held_out)))
    if how in (Refinement.LEARNED, Refinement.BOTH):
        training = learning_options(images) if learning is None else learning
        learned = finetune(graph, lowered, best(found).qgraph, images, options=training).qgraph
        found.append(RefinedNetwork(how, learned, divergence(lowered, learned, held_out)))
    return tuple(found)


class Judged(Protocol):
    """Something with a divergence from the float network."""

    @property
    def divergence(self) -> float:
        """In nats an image."""
        ...


J = TypeVar("J", bound=Judged)


def best(candidates: Sequence[J]) -> J:
    """The one closest to the float network; of equals the earliest."""
    return min(candidates, key=lambda c: c.divergence)


def learning_options(images: Tensor) -> FinetuneOptions:
    """Short training for a few hundred images: 150 batches of 16 at most, codes fixed, both networks at temperature 2.

    At temperature 1 the few images that the network is unsure of are most of the loss. On a GPU where there is one.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = min(16, len(images))
    return FinetuneOptions(150, batch, latent_rate=0.0, scale_rate=1e-3, temperature=2.0, device=device, every=50)


def divergence(lowered: Lowered, qgraph: QuantGraph, images: Tensor, batch: int = 16) -> float:
    """Mean KL(float || quantized) in nats per image at CHOICE_TEMPERATURE, activations quantized too.

    images: float (N, C, H, W).
    """
    student, teacher, total = coded_network(lowered, qgraph), FloatNetwork(lowered), 0.0
    with torch.no_grad():
        for part in torch.split(images, batch):
            target = F.log_softmax(teacher(part).double() / CHOICE_TEMPERATURE, dim=1)
            logits = F.log_softmax(student.logits(part).double() / CHOICE_TEMPERATURE, dim=1)
            total += float(F.kl_div(logits, target, reduction="sum", log_target=True))
    return total / len(images)
