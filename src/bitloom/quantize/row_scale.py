"""The scale of a row: of least error for its weights or its codes, and that of gain one; what an error counts."""

from __future__ import annotations

import torch
from torch import Tensor

from bitloom.quantize.code_range import highest, lowest

GAIN_LIMIT = 1.5  #: largest ratio of the gain-one scale to the scale of least error


def output_error(d: Tensor, cov: Tensor) -> Tensor:
    """d C d^T per row of d (..., rows, K), never negative: (..., rows) float64."""
    product = d * cov if cov.dim() == 1 else d @ cov
    return (product.double() * d.double()).sum(dim=-1).clamp(min=0)


def weight_scale(weight: Tensor, importance: Tensor, bits: int, candidates: int, full: bool) -> Tensor:
    """Per row the scale of least importance-weighted squared error; rows of zeros get scale 1. full: all codes."""
    if bits == 1:
        best = (weight.abs() @ importance) / importance.sum()
        return torch.where(best > 0, best, torch.ones_like(best))
    top = float(highest(bits))
    low = float(lowest(bits)) if full else -top
    peak = weight.abs().amax(dim=1)
    peak = torch.where(peak > 0, peak, torch.full_like(peak, top))
    best, least = peak / top, torch.full_like(peak, float("inf"))
    for factor in torch.linspace(1.0, 0.25 if bits <= 4 else 0.6, candidates).tolist():
        scale = peak * factor / top
        codes = torch.clamp(torch.round(weight / scale[:, None]), low, top)
        error = (codes * scale[:, None] - weight).square() @ importance
        better = error < least
        best, least = torch.where(better, scale, best), torch.where(better, error, least)
    return best


def code_scale(weight: Tensor, codes: Tensor, cov: Tensor, scale: Tensor) -> Tensor:
    """The scale of least error for the codes, (w C q) / (q C q); `scale` where that says nothing."""
    product = codes @ cov
    power, shared = (product * codes).sum(dim=1), (product * weight).sum(dim=1)
    least = shared / power.clamp(min=1e-30)
    good = (power > 1e-20) & torch.isfinite(least) & (least > 0.5 * scale) & (least < 2.0 * scale)
    return torch.where(good, least, scale)


def gain_scale(weight: Tensor, codes: Tensor, cov: Tensor, scale: Tensor) -> Tensor:
    """The scale with which the rounded row's output follows the row's own with gain one: (w C w) / (w C q).

    The scale of least error, (w C q) / (q C q), shrinks every output by the relative error; layers multiply that, which
    costs a 4-bit ResNet-18 seven times the KL. At most GAIN_LIMIT times the scale of least error, and within a factor 2
    of the one that the codes were made with.
    """
    weighted = codes * cov if cov.dim() == 1 else codes @ cov
    power = (weighted * codes).sum(dim=1)
    shared = (weighted * weight).sum(dim=1)
    own = output_error(weight, cov).float()
    least = shared / power.clamp(min=1e-30)
    fitted = torch.minimum(own / shared.clamp(min=1e-30), least * GAIN_LIMIT)
    good = (power > 1e-20) & torch.isfinite(fitted) & (fitted > 0.5 * scale) & (fitted < 2.0 * scale)
    return torch.where(good, fitted, scale)
