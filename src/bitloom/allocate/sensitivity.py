"""What a width costs a channel: one interface for every estimator, and what all of them promise.

An estimator turns images and a table of rounded rows into a cost for each channel and width. Estimate where the data
suffice, decide where it pays: with a few hundred images and thousands of channels a solver picks the channels whose
cost was underestimated (the optimizer's curse), so the good estimators measure few numbers well and share them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.hbp import LayerCosts
from bitloom.allocate.probe import Probe
from bitloom.errors import DataError
from bitloom.quantize.observe import Calibration
from bitloom.quantize.rounding import RoundedLayer

MIN_IMAGES = 2  #: fewer have no spread; hundreds are needed for a good estimate


class Estimator(Protocol):
    """Frozen dataclass of options; costs are in nats up to a common factor."""

    def passes(self, layers: int) -> int:
        """Forward passes over the images for a network of so many layers; a backward pass counts as two."""
        ...

    def costs(self, probe: Probe, images: Tensor) -> dict[str, npt.NDArray[np.float64]]:
        """(Cout, widths) of every layer. The probe comes with float weights and is left with any."""
        ...


def layer_costs(
    calibration: Calibration,
    rounded: Mapping[str, RoundedLayer],
    images: Tensor,
    estimator: Estimator | None = None,
) -> dict[str, LayerCosts]:
    """Costs of every channel of every layer at every rounded width, never negative, never rising with the width.

    images: float (N, C, H, W), best not those that the rounding has seen. estimator: by default `GradientShare`.
    Raises DataError: too few or equal images, NaN or infinite pixels, logits, gradients or costs.
    """
    check_sensitivity_images(images)
    chosen: Estimator = GradientShare() if estimator is None else estimator
    probe = Probe(calibration, rounded)
    found = chosen.costs(probe, images)
    result = {}
    for name, cost in found.items():
        if not np.isfinite(cost).all():
            channel = int(np.argmin(np.isfinite(cost).all(axis=1)))
            raise DataError(f"{name}: the cost of channel {channel} is not finite; check the weights and the images")
        # More bits never cost more: noise in the estimate must not be rewarded.
        monotone = np.minimum.accumulate(np.maximum(cost, 0.0), axis=1)
        result[name] = LayerCosts(monotone, int(np.prod(probe.steps[name].weight.shape[1:])))
    return result


def check_sensitivity_images(images: Tensor) -> None:
    """DataError when the images cannot tell anything."""
    if images.dim() != 4 or len(images) < MIN_IMAGES:
        raise DataError(f"sensitivity images have shape {tuple(images.shape)}; give at least {MIN_IMAGES} of (C, H, W)")
    if not bool(images.isfinite().all()):
        raise DataError("sensitivity images hold NaN or infinite pixels; remove them")
    if bool((images == images[:1]).all()):
        raise DataError(f"all {len(images)} sensitivity images are equal; give different images")
