"""How far a quantized network's outputs shrink or grow, and the factors on the scales that undo it.

**The deviation of every channel.** A row has its gain for float inputs, but it gets rounded ones. What a layer adds or
takes of its outputs' spread is a per cent or two, and layers multiply that: a ResNet-50 at 3 bits throughout shrinks
its logits to 0.42, at 2 bits it raises them to 1.75, where the 8-bit ranges clip. So every channel keeps the standard
deviation that its output has in the float network, as it keeps the mean: what measuring the statistics of batch
normalization again does for networks that still have it (Banner et al., arXiv:1810.05723, keep those of the weights).

**The slope of the last layer.** Rounding errors ride on every layer's outputs as noise. A ReLU of a noisy signal
follows the clean one with a slope below one, and layers multiply that. It is the slope of a regression on a noisy
variable (attenuation: Spearman, 1904), the same for all images, so one factor on the last layer's scales takes it out,
known from a few dozen images to a fraction of a per cent (docs/quantization.md).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

POSITIONS = 49  #: of an image's output map that are kept
POOLED = 256  #: values of a channel that count as much as what the other channels of its layer say
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


def deviation_factors(
    wanted: npt.NDArray[np.float64], found: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.float64]:
    """What each channel's output has to be multiplied by to have its standard deviation, (Cout,) float64.

    wanted, found: standard deviations (Cout,), 0 or more; count: values that each was measured on. Few values are drawn
    to the layer's mean factor (of logarithms, by count / (count + POOLED)). Within GAIN_LIMIT; 1 where a channel is
    constant or not finite.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(wanted / found)
    known = np.isfinite(logs)
    if not known.any():
        return np.ones(len(wanted))
    logs = logs.clip(-math.log(GAIN_LIMIT), math.log(GAIN_LIMIT))
    centre, trust = logs[known].mean(), count / (count + POOLED)
    return np.where(known, np.exp(centre + trust * (logs - centre)), 1.0)
