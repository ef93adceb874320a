"""Coordinate descent on codes: each code in turn takes its best value under the covariance, all others held.

It starts where GPTQ ends and only lowers the (damped) error: GPTQ cannot take an early rounding back. The objective
and the move are those of Behdin et al., "QuantEase" (2023).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bitloom.quantize.code_range import CodeRange

BLOCK = 128  #: inputs whose effect on the others is added together


def descend(weight: Tensor, codes: Tensor, cov: Tensor, scale: Tensor, legal: CodeRange, damping: float) -> Tensor:
    """One sweep over the inputs, those of large variance first; weight and codes (rows, K), scale and legal (rows,).

    Lowers (w - s q) (C + damping*mean(diag C)*I) (w - s q)^T of every row, or leaves it. Returns codes (rows, K).
    """
    diagonal = cov.diagonal()
    ridge = damping * diagonal.mean()
    order = torch.argsort(diagonal, descending=True)
    q = codes.T[order]  # (K, rows)
    gap = weight.T[order] - q * scale
    matrix = cov[order].T[order].T.contiguous()
    matrix.diagonal().add_(ridge + 1e-30)
    slope = matrix @ gap  # (K, rows): half the negative gradient by s*q
    for begin in range(0, q.shape[0], BLOCK):
        end = min(begin + BLOCK, q.shape[0])
        local, part = matrix[begin:end, begin:end], slope[begin:end]
        moved = torch.zeros_like(part)
        for i in range(end - begin):
            old = q[begin + i]
            new = legal.nearest(old + part[i] / (scale * local[i, i]))
            step = (new - old) * scale
            q[begin + i], moved[i] = new, step
            part.addr_(local[:, i], step, alpha=-1.0)
        slope[:begin] -= matrix[:begin, begin:end] @ moved
        slope[end:] -= matrix[end:, begin:end] @ moved
    return q[torch.argsort(order)].T.contiguous()
