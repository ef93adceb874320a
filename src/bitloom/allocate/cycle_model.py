"""What the allocation asks of the accelerator: cycles at an allocation and their slopes (`explore.pricing`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Bits = Mapping[str, npt.NDArray[np.int8]]


@dataclass(frozen=True)
class CyclePrices:
    """The cycle model at an allocation: cycles; by layer, cycles per weight bit more, cycles per vector that takes a
    second pass, and the vectors that take one."""

    cycles: int
    per_bit: dict[str, float]
    per_pass: dict[str, float]
    wide_vectors: dict[str, int]


class CycleModel(Protocol):
    """What the allocation asks of the accelerator (`explore.pricing.NetworkCycles`)."""

    @property
    def vector(self) -> int:
        """Output channels that share passes."""
        ...

    def ties(self, bits: Bits) -> dict[str, str | None]:
        """Layer -> class of layers whose output channels are ordered together; None: channels keep their order."""
        ...

    def prices(self, bits: Bits) -> CyclePrices:
        """The model and its slopes at `bits`."""
        ...
