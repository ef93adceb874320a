"""Tiles: cycles of every vector under a tile size, and the size that a command takes fewest cycles with.

`overlap` is the one place where array and drain meet; the tile choice and the whole model both use it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bitloom.explore.layers import IntArray
from bitloom.explore.loops import Nest
from bitloom.explore.schedule import Workload
from bitloom.explore.timing import Timing

MAX_GROUPS = 64
POOL_CREDITS = 4  #: results of a pool that may wait for the drain
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tiling:
    """Cycles per vector for K variants, all arrays (K, V).

    tile: groups per tile.  work: unstalled cycles of the vector's steps, its border to the vector before included.
    first, last: of its first and last tile.  drain: of all its tiles; drain_first, drain_last: of one.  tiles: number.
    lag_first, lag_last: from the end of the first (last) tile's steps to the start of its drain, negative when the
    drain begins before.  fill: header and first planes of a command's first vector.
    """

    tile: IntArray
    work: IntArray
    first: IntArray
    last: IntArray
    drain: IntArray
    drain_first: IntArray
    drain_last: IntArray
    tiles: IntArray
    lag_first: IntArray
    lag_last: IntArray
    fill: IntArray

    def rows(self, index: IntArray) -> Tiling:
        """The variants `index`."""
        return Tiling(*(getattr(self, f.name)[index] for f in fields(self)))


def overlap(
    tiles: Tiling, v: int, ready: FloatArray, drained: FloatArray, before: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One vector of array and drain: (end of its steps, end of its drain, end of the drain of its last tile but one).

    ready: when its steps would end without waiting for the drain.  drained, before: end of the drain of the last tile
    so far, and of the one before it, whose accumulators the next tile takes. The drain's chain starts behind the first
    tile; the array may be two tiles ahead of it.
    """
    work, head, tail = tiles.work[:, v], tiles.first[:, v], tiles.last[:, v]
    several = tiles.tiles[:, v] > 1
    chain = np.maximum(drained, ready - work + head + tiles.lag_first[:, v]) + tiles.drain[:, v]
    done = np.maximum(ready, before + work)
    behind = chain - tiles.drain_last[:, v] - tiles.drain_first[:, v] + tail
    late = np.maximum(done, np.maximum(behind, drained + work - head))
    done = np.where(several, late, done)
    inner = done - tail + tiles.lag_first[:, v] + tiles.drain_first[:, v]
    before = np.where(several, np.maximum(chain - tiles.drain_last[:, v], inner), drained)
    drained = np.maximum(chain, done + tiles.lag_last[:, v] + tiles.drain_last[:, v])
    return done, drained, before


def _step_cycles(nest: Nest, lo: IntArray, hi: IntArray, groups: IntArray) -> IntArray:
    """Cycles of one (tap, chunk) with all its passes: groups, or planes of the next pass where those take longer."""
    one = np.maximum(groups, lo)
    if nest.chunks == 1 and nest.taps > 1:
        one = np.maximum(one, np.where(hi > 0, 0, 2))  # the next tap is read one cycle after the last was taken
    return np.where(hi > 0, np.maximum(groups, lo) + np.maximum(groups, hi), one)


def _border(nest: Nest, planes: IntArray, rest: IntArray, learn: int) -> IntArray:
    """Extra cycles between two vectors of a command: the next header is read behind the last planes of this vector."""
    step = np.maximum(rest, planes)
    late = np.maximum(0, planes + nest.shape.header_words + learn - step)
    return np.asarray(np.maximum(0, late + planes - step), dtype=np.int64)


def _drain_cycles(nest: Nest, slices: IntArray, chunks: IntArray) -> IntArray:
    """Cycles to drain all groups of a vector (of a pool: of all chunks)."""
    factor = 2 if nest.residual_by_b else 1
    return np.asarray(factor * (nest.rounds * slices * chunks + nest.empty), dtype=np.int64)


def _pool(n: Nest, slices: IntArray, timing: Timing) -> Tiling:
    """A pool is one vector of one tile; its drain begins behind the first group. slices: (K, 1)."""
    jobs = np.full(slices.shape, n.groups * n.chunks, np.int64)
    work = np.maximum(jobs * n.taps, jobs * timing.pool_turn // POOL_CREDITS)
    drain = _drain_cycles(n, slices, np.asarray(n.chunks))
    lag = np.full(slices.shape, timing.read + 3, np.int64)
    return Tiling(
        np.ones_like(work), work, work, work, drain, drain, -(-drain // jobs), np.ones_like(work), lag + n.taps - work,
        lag, np.zeros_like(work),
    )  # fmt: skip


def _conv(n: Nest, tile: IntArray, slices: IntArray, timing: Timing) -> Tiling:
    """Tables of a convolution. tile, slices: (K, 1)."""
    lo, hi = n.lo[None, :], n.hi[None, :]
    size = np.broadcast_to(tile, (tile.size, n.vectors))
    tiles = -(-n.groups // size)
    rest = n.groups - (tiles - 1) * size
    planes = np.broadcast_to(np.where(hi > 0, hi, lo), size.shape)
    border = _border(n, planes, rest, timing.learn)
    border[:, 0] = 0  # in front of a command's first vector stands `fill`
    last = n.steps * _step_cycles(n, lo, hi, rest)
    full = n.steps * _step_cycles(n, lo, hi, size)
    last[:, -1] -= np.maximum(0, planes[:, -1] - rest[:, -1])  # no planes follow the very last step
    work = (tiles - 1) * full + last + border
    first = np.where(tiles > 1, full, last) + border
    fill = np.zeros_like(work)
    fill[:, 0] = n.shape.header_words + timing.learn + planes[:, 0]
    drain = _drain_cycles(n, slices, n.out_chunks[None, :])
    lag = timing.lag(n.shape.channels) + 1
    head = np.minimum(size, n.groups)
    return Tiling(
        size, work, first, last, drain, -(-drain * head // n.groups), -(-drain * rest // n.groups), tiles,
        lag - head, lag - rest, fill,
    )  # fmt: skip


def _alone(tiles: Tiling) -> FloatArray:
    """(K,) cycles of a command whose weights and inputs are all there: what the tile choice minimises."""
    done = np.asarray(tiles.fill[:, 0], dtype=np.float64)
    drained, before = done, done
    for v in range(tiles.work.shape[1]):
        done, drained, before = overlap(tiles, v, done + tiles.work[:, v], drained, before)
    return np.maximum(done, drained)


def _command(n: Nest, acc_groups: IntArray, slices: IntArray, timing: Timing) -> Tiling:
    """Tables of one command for every pair (acc_groups, slices), row by row; ties go to the larger tile."""
    pairs = acc_groups.size
    if not n.layer.conv:
        return _pool(n, np.tile(slices, pairs)[:, None], timing)
    if n.tile_groups is not None:
        column = np.tile(slices, pairs)[:, None]
        return _conv(n, np.full_like(column, n.tile_groups), column, timing)
    most = int(min(MAX_GROUPS, n.groups, int(acc_groups.max())))
    size = np.repeat(np.arange(1, most + 1), slices.size)[:, None]
    table = _conv(n, size, np.tile(slices, most)[:, None], timing)
    cost = _alone(table).reshape(most, slices.size)
    rows = []
    for limit in acc_groups:
        part = cost[: min(most, int(limit))]
        best = part.shape[0] - 1 - np.argmin(part[::-1], axis=0)
        rows.append(best * slices.size + np.arange(slices.size))
    return table.rows(np.concatenate(rows))


def tiling(load: Workload, acc_groups: IntArray, drain_channels: IntArray, timing: Timing) -> Tiling:
    """Tables for every pair (acc_groups[i], drain_channels[j]), flattened row by row to K variants, all vectors."""
    slices = load.shape.channels // drain_channels
    memo: dict[int, Tiling] = {}
    for n in load.nests:
        if id(n) not in memo:
            memo[id(n)] = _command(n, acc_groups, slices, timing)
    parts = [memo[id(n)] for n in load.nests]
    return Tiling(*(np.concatenate([getattr(p, f.name) for p in parts], axis=1) for f in fields(Tiling)))
