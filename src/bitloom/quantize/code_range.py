"""Which codes a width has: -1 and 1 at 1 bit, two's complement from 2 to 4 bits, symmetric from 5 on.

The lowest code -2^(b-1) costs the accelerator nothing while a digit stays within [-15, 15] (docs/spec/arithmetic.md),
and it is worth most where codes are few: for Gaussian weights and the best scale a fifth of the squared error at
2 bits, an eighth at 3 and a twelfth at 4. At 5 bits it would be the digit -16; above, it gains less than a twentieth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitloom.graph.allocation import WIDTHS

FULL_RANGE = 4  #: widest codes that use -2^(b-1)


def highest(bits: int) -> int:
    """Largest code of a width: 1 at 1 bit, else 2^(b-1) - 1; 0 for a pruned channel."""
    return max((1 << (bits - 1)) - 1, 1) if bits else 0


def lowest(bits: int) -> int:
    """Smallest code of a width."""
    return -highest(bits) - int(1 < bits <= FULL_RANGE)


@dataclass(frozen=True, eq=False)
class CodeRange:
    """Smallest and largest codes, float32 of any shape; binary: where 0 is no code (None: nowhere)."""

    low: Tensor
    top: Tensor
    binary: Tensor | None = None

    def nearest(self, values: Tensor) -> Tensor:
        """The code nearest to each value; values and ranges broadcast."""
        codes = torch.clamp(torch.round(values), self.low, self.top)
        return codes if self.binary is None else torch.where(self.binary, _signs(values), codes)

    def __getitem__(self, rows: Tensor) -> CodeRange:
        """The ranges of some rows."""
        return CodeRange(self.low[rows], self.top[rows], None if self.binary is None else self.binary[rows])

    def columns(self) -> CodeRange:
        """Ranges (rows,) as (rows, 1)."""
        return CodeRange(self.low[:, None], self.top[:, None], None if self.binary is None else self.binary[:, None])


def code_range(bits: Tensor, symmetric: bool = False) -> CodeRange:
    """The ranges of widths 0..8 (integers of any shape); symmetric: without the codes -2^(b-1)."""
    tops, lows = (torch.tensor([float(f(b)) for b in WIDTHS], device=bits.device) for f in (highest, lowest))
    index = bits.long()
    binary = index == 1
    low = -tops[index] if symmetric else lows[index]
    return CodeRange(low, tops[index], binary if bool(binary.any()) else None)


def _signs(values: Tensor) -> Tensor:
    return torch.where(values < 0, -1.0, 1.0).to(values.dtype)
