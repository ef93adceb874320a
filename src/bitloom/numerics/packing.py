"""Digits of weights, and the model of four products in one DSP (docs/spec/arithmetic.md, "Four products per DSP")."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bitloom.numerics.fixed import Int64Array

TWO_PASS_BITS = 6  #: widths from here on have two digits and take two passes of the array
LOW_BITS = 4  #: of the low digit of two
PACK_CONSTANT = (1 << 11) * (1 + (1 << 10) + (1 << 22) + (1 << 32))


def digits(weight: npt.ArrayLike) -> tuple[Int64Array, Int64Array]:
    """(hi, lo) with `weight = 16*hi + lo`, lo in 0..15, hi signed; for widths 6..8. Any integer shape, int64."""
    wide = np.asarray(weight, dtype=np.int64)
    return np.asarray(wide >> LOW_BITS), np.asarray(wide & 15)


def pack_products(
    w0: npt.ArrayLike, w1: npt.ArrayLike, a0: npt.ArrayLike, a1: npt.ArrayLike
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """(w0*a0, w0*a1, w1*a0, w1*a1) as the DSP computes them, lane overlap removed as the fabric does.

    Exact for digits in [-15, 15] and activations in [-127, 127]. Outside (not checked here) operands leave the ports:
    a1 = -128 with a0 < 0 does not fit 18 bits, w1 = 16 with w0 >= 0 not 27 bits. Arguments broadcast; ports and the
    48-bit product wrap as the DSP does.
    """
    d0, d1 = np.asarray(w0, dtype=np.int64), np.asarray(w1, dtype=np.int64)
    b0, b1 = np.asarray(a0, dtype=np.int64), np.asarray(a1, dtype=np.int64)
    operand_a, operand_b = _wrap(d0 + (d1 << 22), 27), _wrap(b0 + (b1 << 10), 18)
    product = (operand_a * operand_b + PACK_CONSTANT) & ((1 << 48) - 1)
    lane0, lane1 = _lanes(product, d0, b1)
    lane2, lane3 = _lanes(product >> 22, d1, b1)
    return lane0, lane1, lane2, lane3


def _wrap(x: Int64Array, bits: int) -> Int64Array:
    """Two's complement of a port of that many bits."""
    return np.asarray(((x + (1 << (bits - 1))) & ((1 << bits) - 1)) - (1 << (bits - 1)))


def _lanes(product: Int64Array, weight: Int64Array, a1: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Two lanes at bits 0 and 10 of `product`, both made with `weight`; they overlap by two bits."""
    hi = (((product >> 10) & 3) - ((weight & 3) * (a1 & 3)) % 4) % 4
    return (product & 1023) + 1024 * hi - 2048, ((product >> 10) & 4095) - hi - 2048
