"""Requantization of docs/spec/arithmetic.md, and the choice of its integer parameters from real ratios."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitloom.errors import GraphError
from bitloom.numerics.fixed import Int64Array, clamp, round_half_up, rshift

Int8Array = npt.NDArray[np.int8]
SHIFTS = (4, 10, 16, 22)  #: legal S
FRACTION_BITS = 12  #: of t, u, post and mr
A_LIMIT = 1 << 26  #: |A| stays below
T_LIMIT = 1 << 31  #: |t| and |u| stay below
MULT_LIMIT = 1 << 17  #: |m| stays below
RES_MULT_LIMIT = 1 << 16  #: mr stays below
#: The largest ratio s_a*s_c/s_y that a multiplier can hold (exclusive): m = 2^17 at the smallest shift.
RATIO_LIMIT = MULT_LIMIT / 2 ** (SHIFTS[0] + FRACTION_BITS)


@dataclass(frozen=True, eq=False)
class Requant:
    """Per-channel requantization: arrays of length Cout (length 1 for pools)."""

    mult: npt.NDArray[np.int32]  #: m, |m| <= 131071
    s_sel: Int8Array  #: index into SHIFTS
    pre: Int8Array  #: 0 or 1
    post: int  #: 12 fractional bits: z_y*4096 - z_r*res_mult
    lo: int
    hi: int
    res_mult: int = 0  #: 12 fractional bits; 0 without residual


#: Codes pass unchanged (docs/spec/arithmetic.md, "Pooling").
IDENTITY = Requant(np.array([1 << 16], np.int32), np.zeros(1, np.int8), np.zeros(1, np.int8), 0, -127, 127)


def requantize(acc: npt.ArrayLike, requant: Requant, residual: npt.ArrayLike | None = None) -> Int8Array:
    """Codes of accumulators: acc (..., C, H, W) integers, residual codes of the same shape or None; int8 result.

    `requant` has arrays of length C, or 1 (pools).
    """
    wide = np.asarray(acc, dtype=np.int64)
    mult = requant.mult.astype(np.int64)[:, None, None]
    shift = np.asarray(SHIFTS, dtype=np.int64)[requant.s_sel][:, None, None]
    pre = (4 * requant.pre.astype(np.int64))[:, None, None]
    total = rshift((wide >> pre) * mult, shift) + requant.post
    if residual is not None:
        total += np.asarray(residual, dtype=np.int64) * requant.res_mult
    return clamp(rshift(total, FRACTION_BITS), requant.lo, requant.hi).astype(np.int8)


def residual_multiplier(ratio: float, name: str) -> int:
    """mr = round(ratio * 2^12) for ratio = s_r/s_y; GraphError when it exceeds 16 bits."""
    mult = int(round_half_up(ratio * 2**FRACTION_BITS))
    if not 0 <= mult < RES_MULT_LIMIT:
        raise GraphError(
            f"{name}: residual scale ratio {ratio:.6g} needs a multiplier of {mult}, legal: 0..{RES_MULT_LIMIT - 1}; "
            "give the sum a larger activation scale"
        )
    return mult


def choose_requant(
    ratio: npt.NDArray[np.float64], bound: Int64Array, post: int, lo: int, hi: int, res_mult: int, name: str
) -> Requant:
    """The integer parameters of `ratio` = s_a*s_c/s_y per channel, with every bound of the specification checked.

    ratio: of either sign; bound: per channel the largest possible |acc| (|bias| + 127*sum|w|). Raises GraphError naming
    layer and channel when the ratio cannot be expressed or A, t or u could overflow.
    """
    bad = ~(np.isfinite(ratio) & (np.abs(ratio) < RATIO_LIMIT))
    _refuse(bad, name, "scale ratio", ratio, f"below {RATIO_LIMIT:g}; give the output a larger activation scale")
    pre = (bound >= A_LIMIT).astype(np.int64)
    a_bound = (bound >> (4 * pre)) + pre
    _refuse(a_bound >= A_LIMIT, name, "accumulator bound", bound, f"below {16 * A_LIMIT}; use fewer bits or inputs")
    mult, s_sel = _largest_shift(np.abs(ratio) * 2.0 ** (FRACTION_BITS + 4 * pre))
    shift = np.asarray(SHIFTS, dtype=np.int64)[s_sel]
    t_bound = rshift(a_bound * mult, shift) + 1
    _refuse(t_bound >= T_LIMIT, name, "t bound", t_bound, f"below {T_LIMIT}; give the output a larger activation scale")
    u_bound = t_bound + 127 * res_mult + abs(post) + (1 << FRACTION_BITS)
    _refuse(u_bound >= T_LIMIT, name, "u bound", u_bound, f"below {T_LIMIT}; give the output a larger activation scale")
    mult = np.where(ratio < 0, -mult, mult)
    return Requant(mult.astype(np.int32), s_sel.astype(np.int8), pre.astype(np.int8), post, lo, hi, res_mult)


def effective_ratio(requant: Requant) -> npt.NDArray[np.float64]:
    """The real ratio that the integer parameters stand for: m * 2^-(S + 12 + 4*pre), per channel."""
    shift = np.asarray(SHIFTS, dtype=np.int64)[requant.s_sel] + FRACTION_BITS + 4 * requant.pre.astype(np.int64)
    return np.asarray(requant.mult * 2.0**-shift)


def largest_scale(source: float, target: float) -> float:
    """Of a row of weights between activations of scales `source` and `target`: what no multiplier can hold any more."""
    return float(RATIO_LIMIT * target / source)


def representable_ratio(ratio: float) -> float:
    """The nearest ratio that some (m, S) with pre = 0 stands for exactly; 0 <= ratio < RATIO_LIMIT."""
    mult, s_sel = _largest_shift(np.array([ratio * 2.0**FRACTION_BITS]))
    return float(mult[0] * 2.0 ** -(SHIFTS[int(s_sel[0])] + FRACTION_BITS))


def accumulator_bound(weight: Int8Array, bias: npt.NDArray[np.integer]) -> Int64Array:
    """Per output channel |bias| + 127 * sum|w|: the largest |acc|. weight (Cout, ...), bias (Cout,)."""
    flat = np.abs(weight.reshape(weight.shape[0], -1)).sum(axis=1, dtype=np.int64)
    return np.asarray(np.abs(bias.astype(np.int64)) + 127 * flat, dtype=np.int64)


def _largest_shift(scaled: npt.NDArray[np.float64]) -> tuple[Int64Array, Int64Array]:
    """m and the index of the largest shift with round(scaled * 2^S) < 2^17, per channel."""
    mult = np.full(scaled.shape, MULT_LIMIT - 1, dtype=np.int64)
    s_sel = np.zeros(scaled.shape, dtype=np.int64)
    for index, shift in enumerate(SHIFTS):
        candidate = round_half_up(scaled * 2.0**shift)
        fits = candidate < MULT_LIMIT
        mult = np.where(fits, candidate, mult)
        s_sel = np.where(fits, index, s_sel)
    return mult, s_sel


def _refuse(bad: npt.NDArray[np.bool_], name: str, what: str, values: npt.NDArray[np.generic], fix: str) -> None:
    if bad.any():
        channel = int(np.argmax(bad))
        raise GraphError(f"{name}: channel {channel}: {what} is {values[channel]}, must be {fix}")
