"""Squared output error of every channel at every width, on images that the rounding has not seen.

The error that the rounding itself reports is of the images that it was fitted to. Where a layer has more inputs than it
has seen samples (the last layer sees one sample an image) that is several times too small, and a solver would spend the
bits elsewhere: on a ResNet-18 with 240 images the true error of the last layer is nine times the reported one.

The error map of a channel splits into its mean over the positions and the variation about it, as the gradient map does
(`gradients.py`). The mean over all images and positions is taken out, because bias correction does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.errors import DataError
from bitloom.quantize.lower import ConvStep

FloatArray = npt.NDArray[np.float64]
LARGEST = 6  #: wider errors follow the rounding's own ratios: too small to overfit, and four times less a bit


@dataclass(frozen=True, eq=False)
class ErrorPower:
    """common (Cout, widths): variance over images of the map's mean error; varying: mean variance inside the maps."""

    common: FloatArray
    varying: FloatArray


class _Sums:
    """Running sums of one layer, (widths * Cout,) each."""

    def __init__(self, size: int) -> None:
        self.mean, self.square, self.inside = (torch.zeros(size, dtype=torch.float64) for _ in range(3))
        self.count = 0

    def add(self, error: Tensor) -> None:
        """error (N, widths * Cout, H, W)."""
        mean = error.mean(dim=(2, 3)).double()
        self.mean += mean.sum(dim=0)
        self.square += mean.square().sum(dim=0)
        self.inside += (error.square().mean(dim=(2, 3)).double() - mean.square()).clamp(min=0).sum(dim=0)
        self.count += len(error)


def output_errors(probe: Probe, images: Tensor, batch: int = 8) -> dict[str, ErrorPower]:
    """Of every layer, its input as the probe's present weights make it. images: float (N, C, H, W).

    Cost: a forward pass for each width up to LARGEST, all in one run. Raises DataError when an error is not finite.
    """
    narrow = tuple(b for b in probe.widths if b <= LARGEST)
    lost = {name: probe.lost(name, narrow).reshape(-1, *s.weight.shape[1:]) for name, s in probe.steps.items()}
    sums = {name: _Sums(len(weight)) for name, weight in lost.items()}

    def visit(step: ConvStep, x: Tensor) -> None:
        sums[step.name].add(F.conv2d(x, lost[step.name], None, step.stride))

    with torch.no_grad():
        for part in torch.split(images, batch):
            probe.logits(part, visit)
    return {name: _finish(probe, name, total, narrow) for name, total in sums.items()}


def _finish(probe: Probe, name: str, sums: _Sums, narrow: tuple[int, ...]) -> ErrorPower:
    common = (sums.square / sums.count - (sums.mean / sums.count).square()).clamp(min=0)
    parts = [np.asarray(x.reshape(len(narrow), -1).T.numpy()) for x in (common, sums.inside / sums.count)]
    if not all(np.isfinite(part).all() for part in parts):
        raise DataError(f"{name}: an output error is not finite; check the weights and the images")
    wide = [i for i, b in enumerate(probe.widths) if b > LARGEST]
    if wide:
        own = np.maximum(probe.rounded[name].error, 0.0)
        last = probe.widths.index(narrow[-1])
        ratio = own[:, wide] / np.maximum(own[:, [last]], 1e-300)
        parts = [np.hstack([part, part[:, [-1]] * np.minimum(ratio, 1.0)]) for part in parts]
    return ErrorPower(*parts)
