"""Rounding with a gradient: exact codes forwards, straight-through derivatives backwards.

Straight-through estimator: Bengio et al. (2013). Learned scales: after Esser et al., "Learned Step Size Quantization"
(2020), with weights held in units of their scale.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bitloom.quantize.code_range import code_range


class _Activation(torch.autograd.Function):
    """x on the levels (code - zero)*scale, codes in [lo, hi], rounded half up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, low: int, high: int) -> Tensor:
        levels = (x / scale).add_(0.5).floor_()
        ctx.save_for_backward((levels >= low) & (levels <= high))
        return levels.clamp_(low, high).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None


def quantize_activation(x: Tensor, scale: float, zero: int, lo: int, hi: int) -> Tensor:
    """x (any shape) rounded half up to codes in [lo, hi] of a tensor with `scale` and zero point `zero`.

    Returns reals. Gradient: 1 inside the range, 0 outside.
    """
    result: Tensor = _Activation.apply(x, scale, lo - zero, hi - zero)  # type: ignore[no-untyped-call]
    return result


class _Weight(torch.autograd.Function):
    """scale * the code nearest to latent, per row."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, scale: Tensor, bits: Tensor) -> Tensor:
        codes = code_range(bits).nearest(latent)
        ctx.save_for_backward(latent, scale, bits, codes)
        return codes * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        latent, scale, bits, codes = ctx.saved_tensors
        grad, legal = grads[0], code_range(bits)
        inside = (latent >= legal.low - 0.5) & (latent <= legal.top + 0.5)
        rows = tuple(range(1, latent.dim()))
        return grad * scale * inside, (grad * codes).sum(dim=rows, keepdim=True), None


def quantize_weight(latent: Tensor, scale: Tensor, bits: Tensor) -> Tensor:
    """Real weights of latent codes (Cout, Cin, KH, KW), scale and integer widths bits (Cout, 1, 1, 1).

    Latents are in units of the scale, so that a row's codes do not change when its scale does; the gradient of the
    scale is therefore exact. Rows of width 0 (pruned) are zero and get no gradient.
    """
    result: Tensor = _Weight.apply(latent, scale, bits)  # type: ignore[no-untyped-call]
    return result
