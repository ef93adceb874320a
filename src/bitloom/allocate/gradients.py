"""How strongly the network's answer depends on each channel's output: gradient power, from one backward pass an image.

The draws of the curvature are those of `quantize/curvature.py`.

Labels are not used, and the softmax is taken at a temperature: a network is certain of most images that it was trained
on, so that at temperature 1 a few ambiguous ones make up the whole mean and the estimate is mostly noise.

A gradient map has a mean over its positions and a variation about it, and so has an error map; only mean meets mean and
variation meets variation, so that the two powers are kept apart (`output_errors.py` has the other half).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.errors import DataError
from bitloom.quantize.curvature import TEMPERATURE, gradient_maps, map_powers

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GradientOptions:
    """temperature: divides the logits; draws: backward passes an image; seed: of the draws."""

    temperature: float = TEMPERATURE
    draws: int = 1
    batch: int = 16
    seed: int = 0


@dataclass(frozen=True, eq=False)
class GradientPower:
    """mean (Cout,): mean of half a squared gradient over the images, 0 or more; error (Cout,): its standard error."""

    mean: FloatArray
    error: FloatArray

    def shrunk(self, exponent: float = 1.0) -> FloatArray:
        """Empirical Bayes: each channel drawn towards the layer's mean by the share of noise in its estimate.

        exponent: of the ratio to the layer's mean afterwards; 0 pools the layer, a channel without gradient stays 0.
        """
        centre = float(self.mean.mean())
        noise = self.error**2
        spread = max(float(self.mean.var() - noise.mean()), 0.0)
        trust = spread / np.maximum(spread + noise, 1e-300)
        ratio = (centre + trust * (self.mean - centre)) / max(centre, 1e-300)
        return np.asarray(np.where(self.mean > 0, centre * np.maximum(ratio, 0.0) ** exponent, 0.0))


@dataclass(frozen=True, eq=False)
class Curvature:
    """common: of the squared sum of a gradient map; varying: of the summed squares about the map's mean."""

    common: GradientPower
    varying: GradientPower


def gradient_power(probe: Probe, images: Tensor, options: GradientOptions | None = None) -> dict[str, Curvature]:
    """Of every layer, at the weights and biases that the probe has now. images: float (N, C, H, W).

    Cost: one forward and `draws` backward passes (to the activations only). Raises DataError when a gradient is not
    finite or there are fewer than two images.
    """
    opts = options or GradientOptions()
    if len(images) < 2:
        raise DataError(f"{len(images)} images for gradients, need at least 2; give more calibration images")
    common: dict[str, list[Tensor]] = {name: [] for name in probe.steps}
    varying: dict[str, list[Tensor]] = {name: [] for name in probe.steps}

    def run(part: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        return probe.logits(part, outputs=outputs)

    for name, gradient in gradient_maps(run, images, opts.batch, opts.seed, opts.temperature, opts.draws):
        squared, rest = map_powers(gradient)
        common[name].append(squared)
        varying[name].append(rest)
    return {
        n: Curvature(_summary(n, torch.cat(common[n]) / 2), _summary(n, torch.cat(varying[n]) / 2)) for n in probe.steps
    }


def _summary(name: str, values: Tensor) -> GradientPower:
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"{name}: a gradient is NaN or infinite; check the weights and the images")
    error = values.std(dim=0) / len(values) ** 0.5
    return GradientPower(values.mean(dim=0).numpy(), error.numpy())
