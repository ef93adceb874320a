"""How far a quantized network's outputs shrink, and the one factor that undoes it.

Rounding errors ride on every layer's outputs as noise. A ReLU of a noisy signal follows the clean one with a slope
below one, and layers multiply that: the logits of a ResNet-18 at 3 mean bits follow the float ones with a slope of
0.92, at 2.25 with 0.88 to 0.94, although every row was rounded to a gain of one. It is the slope of a regression on a
noisy variable (attenuation: Spearman, 1904), the same for all images, so one factor on the last layer's scales takes it
out, known from a few dozen images to a fraction of a per cent. A factor for every layer or channel was no better
(docs/quantization.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

POSITIONS = 49  #: of an image's output map that are kept
GAIN_LIMIT = 1.5  #: a network that shrinks more is lost, and a factor would raise its noise


def output_samples(outputs: Tensor) -> Tensor:
    """Of outputs (N, Cout) or (N, Cout, H, W) at most POSITIONS evenly spread positions: (N, Cout, S), a copy."""
    flat = outputs.flatten(2) if outputs.dim() == 4 else outputs[:, :, None]
    count = flat.shape[2]
    kept = torch.linspace(0, count - 1, min(count, POSITIONS)).round().long()
    return flat[:, :, kept].clone()


def restoring_gain(reference: Tensor, found: Tensor) -> float:
    """What `found` has to be multiplied by to follow `reference` with a slope of one, both (N, Cout, S) samples.

    One factor for all channels; constants of a channel do not matter. At most GAIN_LIMIT and at least its inverse;
    1 where the reference is constant or `found` does not follow it.
    """
    wanted = reference.double() - reference.double().mean(dim=(0, 2), keepdim=True)
    power = float(wanted.square().sum())
    shared = float((wanted * found.double()).sum())
    if not (math.isfinite(shared) and power > 0 and shared > 0):
        return 1.0
    return min(max(power / shared, 1 / GAIN_LIMIT), GAIN_LIMIT)
