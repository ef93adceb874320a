"""Rounding and saturation: the only place that does either (docs/spec/arithmetic.md, "Requantization")."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


def rshift(x: npt.ArrayLike, n: npt.ArrayLike) -> Int64Array:
    """`(x + 2^(n-1)) >> n`, arithmetic; ties go towards +infinity; n = 0 leaves x.

    x: integers with |x| < 2^62; n: 0..62, broadcast against x. Result int64.
    """
    x64 = np.asarray(x, dtype=np.int64)
    n64 = np.asarray(n, dtype=np.int64)
    half = (np.int64(1) << n64) >> np.int64(1)
    return np.asarray((x64 + half) >> n64, dtype=np.int64)


def clamp(x: npt.ArrayLike, lo: int, hi: int) -> Int64Array:
    """`min(max(x, lo), hi)` in int64, lo <= hi."""
    return np.asarray(np.clip(np.asarray(x, dtype=np.int64), lo, hi), dtype=np.int64)


def round_half_up(x: npt.ArrayLike) -> Int64Array:
    """`floor(x + 1/2)` of real numbers: the compile-time twin of `rshift`."""
    return np.floor(np.asarray(x, dtype=np.float64) + 0.5).astype(np.int64)
