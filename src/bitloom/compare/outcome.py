"""What an allocation does to a network, image by image, and two of them paired by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor

from bitloom.allocate.probe import Probe, divergence, log_probabilities
from bitloom.compare.lineup import Lineup
from bitloom.graph.allocation import BitAllocation
from bitloom.graph.execute import execute
from bitloom.graph.ir import Graph

_BATCH, _DRAWS = 16, 2000


@dataclass(frozen=True, eq=False)
class Outcome:
    """Per image (N,): hit (bool), kl to the float network in nats, cross entropy, agreement with the float top-1."""

    hit: npt.NDArray[np.bool_]
    kl: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    agree: npt.NDArray[np.bool_]

    def figures(self) -> dict[str, Any]:
        """top1 and agreement in per cent, kl and loss in nats, n images, ci95: of top1 (normal)."""
        n, top1 = len(self.hit), 100 * float(self.hit.mean())
        half = 196 * float(self.hit.std()) / n**0.5
        return {
            "top1": top1,
            "kl": float(self.kl.mean()),
            "loss": float(self.loss.mean()),
            "agreement": 100 * float(self.agree.mean()),
            "n": n,
            "ci95": [top1 - half, top1 + half],
        }


def float_logits(graph: Graph, images: Tensor) -> Tensor:
    """(N, classes) of the float network."""
    return torch.cat([execute(graph, x)[graph.output].flatten(1) for x in torch.split(images, _BATCH)])


def outcome_of(found: Tensor, target: Tensor, labels: npt.NDArray[np.int64]) -> Outcome:
    """found, target: log-probabilities (N, classes) of a network and of the float one; labels (N,)."""
    top = found.argmax(dim=1).numpy()
    loss = F.nll_loss(found, torch.from_numpy(labels), reduction="none")
    return Outcome(top == labels, divergence(target, found).numpy(), loss.numpy(), top == target.argmax(dim=1).numpy())


def measure(
    lineup: Lineup,
    bits: BitAllocation | None,
    rounding: str,
    images: Tensor,
    labels: npt.NDArray[np.int64],
    target: Tensor,
    temperature: float = 1.0,
) -> Outcome:
    """Weights of `bits` (None: float) and 8-bit activations, float32 on their levels; biases corrected with gptq.

    target: log-probabilities of the float network, at the same temperature.
    """
    probe = Probe(lineup.calibration, lineup.table(rounding))
    if bits is not None:
        probe.place(bits.bits)
        if rounding == "gptq":
            probe.correct()
    return outcome_of(log_probabilities(probe, images, _BATCH, temperature), target, labels)


def paired(a: Outcome, b: Outcome) -> dict[str, Any]:
    """a minus b on the same images: top-1 points with a bootstrap interval, McNemar's exact test, ratio of KL."""
    rng, n = np.random.default_rng(0), len(a.hit)
    difference = a.hit.astype(np.int64) - b.hit.astype(np.int64)
    picks = (rng.integers(0, n, n) for _ in range(_DRAWS))
    draws = [(difference[p].mean(), a.kl[p].mean(), b.kl[p].mean()) for p in picks]
    points, kl_a, kl_b = np.array(draws).T
    low, high = np.percentile(100 * points, [2.5, 97.5])
    kl_low, kl_high = np.percentile(kl_a / np.maximum(kl_b, 1e-12), [2.5, 97.5])
    only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
    p = 1.0 if only_a + only_b == 0 else float(binomtest(only_a, only_a + only_b).pvalue)
    return {
        "top1_points": 100 * float(difference.mean()),
        "top1_ci95": [float(low), float(high)],
        "mcnemar_p": p,
        "kl_ratio": float(a.kl.mean() / max(float(b.kl.mean()), 1e-12)),
        "kl_ratio_ci95": [float(kl_low), float(kl_high)],
    }
