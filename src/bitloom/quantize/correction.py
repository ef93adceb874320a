"""Scales and biases with which a rounded layer's outputs keep what the float layer's have, the layers before it done.

The scales keep every channel's deviation, those of the last layer its slope (`gain.py`); the biases keep the means. All
three are those of the bias-correction images. Integer sums are corrected by `quantize`, float ones by what is here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.quantize.gain import deviation_factors, output_samples, restoring_gain
from bitloom.quantize.observe import Calibration

FloatArray = npt.NDArray[np.float64]


def scale_factors(
    calibration: Calibration, layer: str, samples: Tensor, deviations: FloatArray, count: int
) -> FloatArray:
    """What the scales of a layer have to be multiplied by, (Cout,).

    Of its present outputs: samples, as `output_samples` takes them; deviations (Cout,), each of `count` values.
    """
    if layer == calibration.lowered.last.name:
        return np.full(len(deviations), restoring_gain(calibration.last_outputs, samples))
    return deviation_factors(calibration.output_deviations[layer], deviations, count)


def restore_scale(calibration: Calibration, layer: str, sums: Tensor) -> Tensor:
    """Factors (Cout,) float32 of the scales of a layer, whose outputs without bias `sums` (N, Cout, H, W) get them."""
    deviations = sums.var(dim=(0, 2, 3), correction=0).double().sqrt().numpy()
    count = sums.shape[0] * sums.shape[2] * sums.shape[3]
    found = scale_factors(calibration, layer, output_samples(sums), deviations, count)
    factors = torch.from_numpy(found).float()
    sums.mul_(factors[:, None, None])
    return factors


def restoring_bias(calibration: Calibration, layer: str, sums: Tensor) -> Tensor:
    """Biases (Cout,) float32 of a layer, from its outputs without bias (N, Cout, H, W)."""
    return torch.from_numpy(calibration.output_means[layer]).float() - sums.mean(dim=(0, 2, 3))
