"""What the cells of a synthesized netlist occupy on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bitloom.errors import TargetError

#: LUTs that one cell of logic occupies. No two cells share a LUT: the vendor's placer can only do better.
LOGIC_CELLS = {**{f"LUT{n}": 1 for n in range(1, 7)}, "LUT6_2": 1, "INV": 1}
#: LUTs that one cell of LUT memory or shift register occupies (UG574, table of distributed RAM configurations).
MEMORY_CELLS = {
    "SRL16E": 1, "SRLC32E": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4,
    "RAM256X1D": 8, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8,
}  # fmt: skip
FF_CELLS = ("FDRE", "FDSE", "FDCE", "FDPE")
#: Cells that lie beside the LUTs: carry chains and wide multiplexers.
FREE_CELLS = ("CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9")
BLOCK_CELLS = ("DSP48E2", "RAMB36E2", "RAMB18E2", "URAM288")


@dataclass(frozen=True)
class Counts:
    """Occupied resources; bram18 are halves of a BRAM36; lutram is the part of `lut` that stores."""

    dsp: int = 0
    lut: int = 0
    ff: int = 0
    bram18: int = 0
    uram: int = 0
    lutram: int = 0

    @property
    def bram36(self) -> float:
        """Blocks of 36 Kb: a half one counts 0.5."""
        return self.bram18 / 2

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.dsp + other.dsp, self.lut + other.lut, self.ff + other.ff, self.bram18 + other.bram18,
            self.uram + other.uram, self.lutram + other.lutram,
        )  # fmt: skip

    def __mul__(self, times: int) -> Counts:
        return Counts(
            self.dsp * times, self.lut * times, self.ff * times, self.bram18 * times, self.uram * times,
            self.lutram * times,
        )  # fmt: skip

    def as_dict(self) -> dict[str, float]:
        """The counts by the names of benchmarks/results/resources.json."""
        return {
            "dsp": self.dsp, "lut": self.lut, "ff": self.ff, "bram36": self.bram36, "uram": self.uram,
            "lutram": self.lutram,
        }  # fmt: skip


def count(cells: Mapping[str, int]) -> Counts:
    """Counts of a flat netlist given as cell type -> number. Raises TargetError on a cell that has no cost here."""
    known = {*LOGIC_CELLS, *MEMORY_CELLS, *FF_CELLS, *FREE_CELLS, *BLOCK_CELLS}
    if unknown := sorted(set(cells) - known):
        raise TargetError(
            f"synthesis gave cells without a known cost: {', '.join(unknown)}; add them to synthesize/cells.py"
        )
    memory = sum(cells.get(name, 0) * luts for name, luts in MEMORY_CELLS.items())
    return Counts(
        dsp=cells.get("DSP48E2", 0),
        lut=sum(cells.get(name, 0) * luts for name, luts in LOGIC_CELLS.items()) + memory,
        ff=sum(cells.get(name, 0) for name in FF_CELLS),
        bram18=2 * cells.get("RAMB36E2", 0) + cells.get("RAMB18E2", 0),
        uram=cells.get("URAM288", 0),
        lutram=memory,
    )
