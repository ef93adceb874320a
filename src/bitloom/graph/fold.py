"""Batch-normalization folding: y = scale*(conv(x)) + shift becomes one convolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bitloom.errors import WeightsError
from bitloom.graph.ir import Conv, FloatArray, Linear
from bitloom.graph.verify import check_finite

Float64Array = npt.NDArray[np.float64]


def batch_norm_affine(
    name: str, gamma: FloatArray | None, beta: FloatArray | None, mean: FloatArray, var: FloatArray, eps: float
) -> tuple[Float64Array, Float64Array]:
    """(scale, shift), float64 (C,), of an inference batch normalization: y = x*scale + shift.

    gamma None counts as ones, beta None as zeros. Raises WeightsError when a parameter is not finite or var + eps is
    not positive.
    """
    given = {"weight": gamma, "bias": beta, "running mean": mean, "running variance": var}
    for what, values in given.items():
        if values is not None:
            check_finite(name, what, values)
    spread = var.astype(np.float64) + eps
    if spread.min() <= 0:
        worst = int(spread.argmin())
        raise WeightsError(
            f"'{name}': running variance {var[worst]} + eps {eps} of channel {worst} is not positive; the checkpoint "
            "is damaged or the statistics were never computed"
        )
    scale = (1.0 if gamma is None else gamma.astype(np.float64)) / np.sqrt(spread)
    shift = (0.0 if beta is None else beta.astype(np.float64)) - mean.astype(np.float64) * scale
    return scale, shift


def fold_affine(op: Conv | Linear, scale: Float64Array, shift: Float64Array) -> Conv | Linear:
    """`op` followed by y*scale + shift (one value each per output channel), as one op; computed in float64."""
    column = scale.reshape(-1, *[1] * (op.weight.ndim - 1))
    weight = (op.weight.astype(np.float64) * column).astype(np.float32)
    bias = (op.bias.astype(np.float64) * scale + shift).astype(np.float32)
    return replace(op, weight=weight, bias=bias)
