"""What a user may ask of an allocation: mean bits, bytes, cycles or milliseconds, and any of them together.

Figures count as they are written: 0.023 ms at 300 MHz are 6900 cycles, where the product of floats falls short.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from bitloom.errors import BudgetError
from bitloom.graph.allocation import WIDTHS

_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_MILLISECONDS = {"ns": Fraction(1, 10**6), "us": Fraction(1, 10**3), "ms": Fraction(1), "s": Fraction(10**3)}
LARGEST = 1e18  #: of the numbers that are understood
_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([A-Za-z]*)\s*")


@dataclass(frozen=True)
class Budget:
    """Limits of an allocation; None: not limited. Those given hold together.

    mean_bits: mean width over all weights, above 0, up to 8.  bytes: of all weights, headers and tags of the stream not
    counted.  cycles, milliseconds: of one image by the cycle model.  least: smallest width that may be chosen (0 lets
    channels be pruned).  tolerance: share of the least estimated loss that may be given up for fewer cycles where no
    cycles are limited, 0 to 1; not a limit, and not shown as one.
    """

    mean_bits: float | None = None
    bytes: int | None = None
    cycles: int | None = None
    milliseconds: float | None = None
    least: int = 0
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if self.mean_bits is not None and not 0 < self.mean_bits <= 8:
            raise BudgetError(f"budget = {self.mean_bits:g} mean bits; legal: above 0, up to 8")
        for name, value in (("bytes", self.bytes), ("cycles", self.cycles), ("milliseconds", self.milliseconds)):
            if value is not None and not 0 < value <= LARGEST:
                raise BudgetError(f"budget: {name} = {value:g}; must be above 0, at most {LARGEST:g}")
        if not 0 <= self.tolerance <= 1:
            raise BudgetError(f"budget: tolerance = {100 * self.tolerance:g} per cent of the loss; legal: 0 to 100")
        if self.least not in WIDTHS:
            raise BudgetError(f"budget: smallest width = {self.least}; legal: 0 to 8")

    def weight_bits(self, weights: int) -> int:
        """The tightest limit in bits for a network of `weights` weights; 8 bits each where nothing else is asked."""
        limits = [8 * weights]
        if self.mean_bits is not None:
            limits.append(int(self.mean_bits * weights))
        if self.bytes is not None:
            limits.append(8 * self.bytes)
        limit = min(limits)
        if limit < self.least * weights:
            nearest = self.least * weights
            raise BudgetError(
                f"a budget of {limit / weights:.3f} mean bits ({-(-limit // 8)} bytes) cannot be met with {self.least} "
                f"bits or more in every channel; nearest feasible: {self.least} mean bits ({-(-nearest // 8)} bytes)"
            )
        return limit

    def cycle_limit(self, clock_mhz: float) -> int | None:
        """The tightest limit in cycles at a clock; None without one."""
        limits = [] if self.cycles is None else [self.cycles]
        if self.milliseconds is not None:
            limits.append(math.floor(_written(self.milliseconds) * _cycles_per_ms(clock_mhz)))
        return min(limits, default=None)

    def __str__(self) -> str:
        parts = [
            None if self.mean_bits is None else f"{self.mean_bits:g} mean bits",
            None if self.bytes is None else f"{self.bytes} bytes",
            None if self.cycles is None else f"{self.cycles} cycles",
            None if self.milliseconds is None else f"{self.milliseconds:g} ms",
            f"at least {self.least} bits a channel" if self.least else None,
        ]
        return ", ".join(p for p in parts if p) or "no limit"


def parse_budget(
    size: str | None,
    latency: str | None = None,
    cycles: int | None = None,
    least: int = 0,
    tolerance: float = Budget.tolerance,
) -> Budget:
    """A budget from text: size '4.0' (mean bits), '5.8MB' or '5800kB'; latency '0.6ms' or '600us'.

    MB is 10^6 bytes, MiB is 2^20. Raises BudgetError that shows the text and the legal forms.
    """
    budget = Budget(cycles=cycles, least=least, tolerance=tolerance)
    if size is not None:
        number, unit = _split(size, "budget", "mean bits (4.0) or bytes (5.8MB, 5800kB, 5.5MiB)")
        if unit == "":
            budget = replace(budget, mean_bits=float(number))
        elif unit in _BYTES:
            budget = replace(budget, bytes=int(number * _BYTES[unit]))
        else:
            raise BudgetError(f"budget '{size}': unknown unit; legal: none (mean bits), B, kB, MB, GB, KiB, MiB, GiB")
    if latency is not None:
        number, unit = _split(latency, "latency", "a time (0.6ms, 600us)")
        if unit not in _MILLISECONDS:
            raise BudgetError(f"latency '{latency}': needs a unit; legal: ns, us, ms, s")
        budget = replace(budget, milliseconds=float(number * _MILLISECONDS[unit]))
    return budget


def parse_mean_bits(text: str) -> tuple[float, ...]:
    """Several budgets in mean bits from text, '2,2.5,4'. Raises BudgetError that shows what is none."""
    found = []
    for part in text.split(","):
        mean_bits = parse_budget(part).mean_bits
        if mean_bits is None:
            raise BudgetError(f"budgets '{text}': '{part}' is a size; give mean bits with commas between (2,2.5,4)")
        found.append(mean_bits)
    return tuple(found)


def enough_milliseconds(cycles: int, clock_mhz: float) -> str:
    """Milliseconds, rounded up to four digits, whose `Budget` at the clock allows so many cycles."""
    if cycles < 1:
        return "0"
    exact = cycles / _cycles_per_ms(clock_mhz)
    step = Fraction(10) ** (math.floor(math.log10(exact)) - 3)
    return f"{float(math.ceil(exact / step) * step):.4g}"


def _written(figure: float) -> Fraction:
    """The decimal figure that a float was written as."""
    return Fraction(str(figure))


def _cycles_per_ms(clock_mhz: float) -> Fraction:
    return 1000 * _written(clock_mhz)


def _split(text: str, what: str, legal: str) -> tuple[Fraction, str]:
    """Number and unit."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise BudgetError(f"{what} '{text}' is not understood; legal: {legal}")
    size = float(found.group(1))
    if size > LARGEST:
        raise BudgetError(f"{what} '{text}' is too large a number; legal: {legal}")
    return Fraction(found.group(1)) if size else Fraction(0), found.group(2).lower()
