"""Output error times gradient power: what a channel's rounding does, times how much the network listens to it.

The divergence that an error map d causes is E[(Σ g·d)^2] / 2 over positions, g the gradient map of a curvature draw.
With g and d split into their means over the map and the variation about it, and error and gradient independent, that is
(power of the summed gradient) x (variance of the mean error) + (power of the varying gradient) x (variance inside).
Each factor is one number a channel and is averaged over all images, so that it is known far better than the product
measured in every cell of the table (the Fisher information along each error, `fisher.py`). Both are measured on images
that the rounding has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.allocate.gradients import Curvature, GradientOptions, gradient_power
from bitloom.allocate.output_errors import output_errors
from bitloom.allocate.probe import Probe
from bitloom.graph.qgraph import Int8Array

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GradientShare:
    """exponent: of a channel's power relative to its layer's mean (0 pools the layer). images: for the errors, at most.

    around: widths of the network in which both are measured (None: float weights). power: of gradients measured there
    before, which rounding does not touch (None: measured on the images given).
    """

    gradient: GradientOptions = field(default_factory=GradientOptions)
    exponent: float = 0.5
    images: int = 64
    around: Mapping[str, Int8Array] | None = None
    power: Mapping[str, Curvature] | None = None

    def passes(self, layers: int) -> int:
        """A forward pass and a backward pass a draw, and seven widths on at most `images`."""
        return (1 + 2 * self.gradient.draws if self.power is None else 0) + 7

    def costs(self, probe: Probe, images: Tensor) -> dict[str, FloatArray]:
        """(Cout, widths) of every layer."""
        probe.place(self.around)
        probe.correct()
        errors = output_errors(probe, images[: self.images])
        powers = gradient_power(probe, images, self.gradient) if self.power is None else self.power
        result = {}
        for name, error in errors.items():
            power = powers[name]
            common, varying = power.common.shrunk(self.exponent), power.varying.shrunk(self.exponent)
            result[name] = error.common * common[:, None] + error.varying * varying[:, None]
        return result
