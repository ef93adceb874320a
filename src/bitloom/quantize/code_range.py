"""Which codes a width has: -1 and 1 at 1 bit, two's complement from 2 to 4 bits, symmetric from 5 on.

The lowest code -2^(b-1) costs the accelerator nothing while a digit stays within [-15, 15] (docs/spec/arithmetic.md),
and it is worth most where codes are few: for Gaussian weights and the best scale a fifth of the squared error at
2 bits, an eighth at 3 and a twelfth at 4. At 5 bits it would be the digit -16; above, it gains less than a twentieth.
"""

from __future__ import annotations

import torch
from torch import Tensor

FULL_RANGE = 4  #: widest codes that use -2^(b-1)


def highest(bits: int) -> int:
    """Largest code of a width: 1 at 1 bit, else 2^(b-1) - 1; 0 for a pruned channel."""
    return max((1 << (bits - 1)) - 1, 1) if bits else 0


def lowest(bits: int) -> int:
    """Smallest code of a width."""
    return -highest(bits) - int(1 < bits <= FULL_RANGE)


def lows(tops: Tensor) -> Tensor:
    """The smallest codes that belong to the largest ones `tops` (any shape)."""
    return -tops - ((tops > 0) & (tops <= highest(FULL_RANGE))).to(tops.dtype)


def within(codes: Tensor, tops: Tensor) -> Tensor:
    """codes (any shape) clamped to the range that ends at `tops` (broadcast to it)."""
    return torch.minimum(torch.maximum(codes, lows(tops)), tops)
