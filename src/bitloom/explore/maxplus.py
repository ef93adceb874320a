"""Max-plus matrices: how clocks that wait for one another go on. Addition is a delay, the maximum is the wait.

A matrix has shape (n, m, N): N independent ones, entry [i, j] the cycles from clock j before to clock i after, NEVER
where i does not wait for j. Clocks go on by `out[i] = max over j of matrix[i, j] + clocks[j]`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

#: No wait at all, as every sum near it; far below any cycle count, far enough from the limits of int64 for sums.
NEVER = -(1 << 40)


def unity(size: int, count: int) -> IntArray:
    """(size, size, count) matrices that leave all clocks as they are."""
    one = np.where(np.eye(size, dtype=np.bool_), np.int64(0), np.int64(NEVER))
    return np.repeat(one[:, :, None], count, axis=2)


def then(before: IntArray, after: IntArray) -> IntArray:
    """`before` and `after` one behind the other: (m, k, N) and (n, m, N) give (n, k, N)."""
    out = after[:, 0, None] + before[None, 0]
    for k in range(1, after.shape[1]):
        np.maximum(out, after[:, k, None] + before[None, k], out=out)
    return np.asarray(np.maximum(out, NEVER), dtype=np.int64)


def power(matrix: IntArray, times: IntArray) -> IntArray:
    """Every (n, n) matrix behind itself `times` times (N,); 0: unity."""
    done = unity(matrix.shape[0], matrix.shape[2])
    left = times.copy()
    while left.any():
        done = np.where(left & 1, then(done, matrix), done)
        left >>= 1
        if left.any():
            matrix = then(matrix, matrix)
    return done


def chain(matrices: IntArray, counts: IntArray) -> IntArray:
    """Products of consecutive runs: the first counts[0] of `matrices` one behind the other, then counts[1], and so on.

    matrices: (n, n, sum of counts).  Returns (n, n, len(counts)); unity for a run of none.
    """
    counts = np.asarray(counts, np.int64)
    while counts.max(initial=0) > 1:
        # Neighbours in pairs; the last one of an odd run goes on alone.
        begin, halves = np.cumsum(counts) - counts, (counts + 1) // 2
        within = np.arange(halves.sum()) - np.repeat(np.cumsum(halves) - halves, halves)
        left = np.repeat(begin, halves) + 2 * within
        alone = 2 * within + 1 >= np.repeat(counts, halves)
        joined = matrices[:, :, left]
        pairs = ~alone
        joined[:, :, pairs] = then(joined[:, :, pairs], matrices[:, :, left[pairs] + 1])
        matrices, counts = joined, halves
    out = unity(matrices.shape[0], counts.size)
    out[:, :, counts == 1] = matrices
    return out
