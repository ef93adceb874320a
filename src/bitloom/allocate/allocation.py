"""The bit allocation: one width per output channel of every layer with weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitloom.errors import BudgetError
from bitloom.graph.ir import Conv, Graph, Linear

WIDTHS = (0, 2, 3, 4, 5, 6, 7, 8)  #: legal widths; 0 is a pruned channel


@dataclass(frozen=True, eq=False)
class BitAllocation:
    """bits: node name -> int8 (Cout,) in WIDTHS; inputs: node name -> weights per output channel (Cin*KH*KW)."""

    bits: dict[str, npt.NDArray[np.int8]]
    inputs: dict[str, int]

    def __post_init__(self) -> None:
        for name, widths in self.bits.items():
            bad = ~np.isin(widths, WIDTHS)
            if bad.any():
                channel = int(np.argmax(bad))
                raise BudgetError(f"{name}: channel {channel} has {widths[channel]} bits; legal: {WIDTHS}")
            if name not in self.inputs:
                raise BudgetError(f"{name}: the allocation lacks its number of weights per channel")

    @property
    def weights(self) -> int:
        """Weights of all layers."""
        return sum(int(b.size) * self.inputs[name] for name, b in self.bits.items())

    @property
    def total_bits(self) -> int:
        """Weight bits of all layers."""
        return sum(int(b.sum(dtype=np.int64)) * self.inputs[name] for name, b in self.bits.items())

    @property
    def mean_bits(self) -> float:
        """Mean width over all weights."""
        return self.total_bits / self.weights

    @property
    def bytes(self) -> int:
        """Weight bytes, rounded up."""
        return -(-self.total_bits // 8)


def uniform(graph: Graph, bits: int) -> BitAllocation:
    """Every channel of every Conv and Linear at one width."""
    layers = {n.name: n.op.weight for n in graph.nodes if isinstance(n.op, Conv | Linear)}
    widths = {name: np.full(w.shape[0], bits, dtype=np.int8) for name, w in layers.items()}
    return BitAllocation(widths, {name: int(np.prod(w.shape[1:])) for name, w in layers.items()})
