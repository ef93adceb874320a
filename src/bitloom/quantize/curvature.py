"""How the divergence answers to a layer's error maps: draws of its curvature, and what the mean of a map counts.

The Kullback-Leibler divergence of small logit shifts d is d^T H d / 2 with H = diag(p) - p p^T. With u standard normal
and s = sqrt(p), v = s*u - p (s·u) has the covariance H, so the squared gradient of v·logits by a channel's output is an
unbiased draw of the curvature that the channel sees (Gauss-Newton, as in K-FAC, Martens and Grosse, arXiv:1503.05671).

An error map d of a channel causes E[(Σ g·d)^2] / 2, g the gradient map. Split into means over the positions and the
variation about them, only mean meets mean: with power Pc of the summed gradient and Pv of the varying one that is
Pc * (square of the mean error) + Pv * (mean square of the rest). Behind a layer that averages or strides, gradients of
neighbours agree and Pc is ten or a hundred times Pv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.errors import DataError
from bitloom.quantize.lower import Lowered
from bitloom.quantize.teacher import FloatNetwork

LIMIT = 1000.0  #: of a coherence: gradients that are the same all over a map
TEMPERATURE = 2.0  #: of the logits: at 1 a few images that the network is unsure of are most of every mean
#: Of the divergence where images choose between networks: a mean over a hundred images is nearer to the order of the
#: networks' own divergences than the mean of these is (docs/decisions/0016-images-choose-at-temperature-4.md).
CHOICE_TEMPERATURE = 4.0


def curvature_draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Random (N, classes) of mean 0 and covariance diag(p) - p p^T, p the softmax of the logits."""
    p = F.softmax(logits, dim=1)
    s = p.sqrt()
    u = torch.randn(p.shape, generator=generator)
    return s * u - p * (s * u).sum(dim=1, keepdim=True)


def gradient_maps(
    run: Callable[[Tensor, dict[str, Tensor]], Tensor],
    images: Tensor,
    batch: int,
    seed: int,
    temperature: float = TEMPERATURE,
    draws: int = 1,
) -> Iterator[tuple[str, Tensor]]:
    """Layer and gradient map (N, C, H, W) of its output by a draw of the curvature; all layers for every batch.

    run(images, outputs): logits, and in `outputs` every layer's output as a variable to differentiate by. temperature:
    divides the logits. draws: backward passes an image.
    """
    generator = torch.Generator().manual_seed(seed)
    for part in torch.split(images, batch):
        outputs: dict[str, Tensor] = {}
        logits = run(part, outputs) / temperature
        for draw in range(draws):
            loss = (logits * curvature_draw(logits.detach(), generator)).sum()
            kept = draw + 1 < draws
            yield from zip(outputs, torch.autograd.grad(loss, list(outputs.values()), retain_graph=kept), strict=True)


def map_powers(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Of gradient maps (N, C, H, W), float64 (N, C) each: squared sum of a map; summed squares about its mean."""
    squared = gradient.sum(dim=(2, 3)).square()
    rest = gradient.square().sum(dim=(2, 3)) - squared / (gradient.shape[2] * gradient.shape[3])
    return squared.double(), rest.clamp(min=0).double()


def coherence(lowered: Lowered, images: Tensor, batch: int = 8, seed: int = 0) -> dict[str, float]:
    """Of every layer Pc / Pv over all its channels: how much more an error counts where it is the same all over a map.

    From 1 (also where maps have one position or no gradient) to LIMIT. images: float (N, C, H, W). Cost: a forward and
    a backward pass of the float network. Raises DataError when a gradient is not finite.
    """
    if not lowered.convs:
        return {}
    sums = {step.name: torch.zeros(2, dtype=torch.float64) for step in lowered.convs}
    positions: dict[str, int] = {}
    for name, gradient in gradient_maps(FloatNetwork(lowered), images, batch, seed):
        positions[name] = gradient.shape[2] * gradient.shape[3]
        sums[name] += torch.stack([power.sum() for power in map_powers(gradient)])
    found = {}
    for name, (common, varying) in sums.items():
        if not bool(torch.isfinite(common + varying)):
            raise DataError(f"{name}: a gradient is NaN or infinite; check the weights and the images")
        flat = positions[name] > 1 and common > varying
        found[name] = float((common / varying).clamp(max=LIMIT)) if flat else 1.0
    return found
