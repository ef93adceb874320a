"""Output error times gradient power: what a channel's rounding does, times how much the network listens to it.

A channel's error under the covariance of the layer's inputs is known almost exactly, since every position of every
image is a sample; the gradient power is one number a channel, from one backward pass an image. Their product is the
curvature of the divergence along the channel's error when error and gradient are independent. The full product (the
Fisher information along each error) has no such assumption, but a noise in every cell of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.allocate.gradients import GradientOptions, gradient_power
from bitloom.allocate.probe import Probe
from bitloom.quantize.qgraph import Int8Array

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GradientShare:
    """pooled: one power for the whole layer. around: widths at which the power is measured (None: float network)."""

    gradient: GradientOptions = field(default_factory=GradientOptions)
    pooled: bool = False
    around: Mapping[str, Int8Array] | None = None

    def passes(self, layers: int) -> int:
        """One forward pass and one backward pass a draw, whatever the network."""
        return 1 + 2 * self.gradient.draws

    def costs(self, probe: Probe, images: Tensor) -> dict[str, FloatArray]:
        """error[c, b] times the power of c, shrunk towards the layer's mean by its noise."""
        probe.place(self.around)
        probe.correct(probe.correction_images)
        result = {}
        for name, power in gradient_power(probe, images, self.gradient).items():
            shrunk = np.full_like(power.mean, power.mean.mean()) if self.pooled else power.shrunk()
            result[name] = output_error(probe, name) * shrunk[:, None]
        return result


def output_error(probe: Probe, name: str) -> FloatArray:
    """(Cout, widths): squared output error of every choice under the covariance of the layer's inputs, 0 or more."""
    return np.asarray(np.maximum(np.nan_to_num(probe.rounded[name].error, nan=np.inf), 0.0))
