"""GPTQ: weights rounded input by input, each rounding error spread over the inputs that are not rounded yet.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2023), Algorithm 1,
with their `act_order`. One factor of the covariance serves every row, width and scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitloom.errors import WeightsError
from bitloom.quantize.code_range import CodeRange


@dataclass(frozen=True, eq=False)
class Feedback:
    """order: inputs (K,) in rounding order; factor (K, K): upper Cholesky factor of the inverse covariance, so ordered.

    block: inputs updated lazily together.
    """

    order: Tensor
    factor: Tensor
    block: int


def feedback(cov: Tensor, damping: float, act_order: bool, block: int) -> Feedback:
    """What `gptq_codes` needs of a covariance (K, K); act_order: inputs of large variance first."""
    order = torch.argsort(cov.diagonal(), descending=True) if act_order else torch.arange(cov.shape[0])
    return Feedback(order, _inverse_factor(cov[order][:, order], damping), block)


def gptq_codes(weight: Tensor, scale: Tensor, legal: CodeRange, parts: Feedback) -> Tensor:
    """Codes (rows, K) of weight (rows, K) at scale (rows,), within `legal` (rows,)."""
    inputs = weight.shape[1]
    work = weight.T[parts.order]  # (K, rows): an input of the layer is contiguous
    codes = torch.empty_like(work)
    for begin in range(0, inputs, parts.block):
        end = min(begin + parts.block, inputs)
        block, errors = work[begin:end], torch.empty_like(work[begin:end])
        local = parts.factor[begin:end, begin:end]
        for i in range(end - begin):
            column = block[i]
            rounded = legal.nearest(column / scale)
            codes[begin + i] = rounded
            errors[i] = (column - rounded * scale) / local[i, i]
            if i + 1 < end - begin:
                block[i + 1 :].addr_(local[i, i + 1 :], errors[i], alpha=-1.0)
        work[end:] -= parts.factor[begin:end, end:].T @ errors
    return codes[torch.argsort(parts.order)].T.contiguous()


def _inverse_factor(cov: Tensor, damping: float) -> Tensor:
    """Upper Cholesky factor of the inverse of the damped covariance; more damping when it is singular."""
    mean = float(cov.diagonal().mean().clamp(min=1e-20))
    for _ in range(6):
        damped = cov.clone()
        damped.diagonal().add_(damping * mean)
        lower, info = torch.linalg.cholesky_ex(damped)
        if int(info) == 0:
            upper: Tensor
            upper, info = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if int(info) == 0 and bool(torch.isfinite(upper).all()):
                return upper
        damping *= 10
    raise WeightsError(f"covariance of size {cov.shape[0]} stays singular at damping {damping:g}; give more images")
