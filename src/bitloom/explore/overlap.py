"""Where array, bit planes and drain wait for one another, tile by tile and, in a pool, group by group.

Two buffers of accumulators go round: the array fills one while the drain empties the other, and a tile begins when the
tile two before it has been drained. So a run of tiles takes as long as its slowest circle: the array's own steps, the
drain's, or the way of one buffer through both, pipelines included, over two tiles. Four results of a pool go round
likewise. All of that is one max-plus matrix for every vector (`maxplus.py`), for the tile choice and the whole model.

The clocks in front of a vector and behind it:
free: the array may take a pass.  open: the planes of the next vector may be shifted in.  drained, before: the drain of
the last tile so far has ended, and that of the one before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bitloom.explore.layers import IntArray
from bitloom.explore.loops import Nest
from bitloom.explore.maxplus import NEVER, chain, power, then
from bitloom.explore.stream import FloatArray
from bitloom.explore.timing import Timing

FREE, OPEN, DRAINED, BEFORE = range(4)
POOL_CREDITS = 4  #: results of a pool that may wait for the drain (bl_pool_issue)
LEAST_JOB = 2  #: cycles from one job of the drain to the next (bl_drain); tiles are longer anyway


@dataclass(frozen=True, eq=False)
class Path:
    """K variants of one vector. path: (K, 4, 4) the clocks behind it from those in front.  first: of its first tile.

    work, first, last: (K,) cycles of all its steps, of its first and of its last tile, when nothing is waited for.
    drain_last: (K,) cycles to drain the last tile.  flush: (K,) cycles from the end of its steps to that of its drain.
    """

    path: IntArray
    work: IntArray
    first: IntArray
    last: IntArray
    drain_last: IntArray
    flush: IntArray


def advance(path: IntArray, clocks: FloatArray) -> FloatArray:
    """Clocks (4, ..., K) behind a vector with `path` (K, 4, 4)."""
    steps = np.moveaxis(path, 0, -1).reshape(4, 4, *[1] * (clocks.ndim - 2), -1)
    return np.asarray((steps + clocks[None]).max(axis=1), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class _Drain:
    """What a nest gives the drain to do."""

    nest: Nest

    def cycles(self, begin: IntArray, end: IntArray, slices: IntArray, chunks: int) -> IntArray:
        """Of a job of groups begin .. end-1; slices: of a chunk; chunks: output chunks."""
        rounds, empty = self._sums
        # A residual that port B reads takes every second cycle (bl_drain); a group without results takes one cycle.
        every = 2 if self.nest.residual_by_b else 1
        found = every * ((rounds[end] - rounds[begin]) * slices * chunks + empty[end] - empty[begin])
        return np.asarray(found, dtype=np.int64)

    @cached_property
    def _sums(self) -> tuple[IntArray, IntArray]:
        rounds = self.nest.rounds
        return np.append(0, np.cumsum(rounds)), np.append(0, np.cumsum(rounds == 0))

    @property
    def even(self) -> bool:
        """Every group takes as long."""
        rounds = self.nest.rounds
        return bool((rounds == rounds[0]).all())


def _tile(enter: list[IntArray | int], width: int, steps: IntArray, lag: int, drain: IntArray) -> IntArray:
    """(3, width, K) clocks (taken, drained, before) behind a tile; taken: when the array took its last pass.

    enter: from each clock in front to the tile's first pass.  width: 4 for a vector's first tile, else 3; the last two
    clocks in front are drained and before.
    """
    out = np.full((3, width, steps.size), NEVER, np.int64)
    for j, wait in enumerate(enter):
        out[0, j] = wait + steps
    out[1] = out[0] + lag + drain
    out[1, width - 2] = np.maximum(out[1, width - 2], drain)
    out[2, width - 2] = 0
    return np.maximum(out, NEVER)


def conv_path(nest: Nest, v: int, size: IntArray, slices: IntArray, timing: Timing) -> Path:
    """Vector `v` of a convolution. size, slices: (K,) groups of a tile, drain slices of a chunk."""
    lo, hi, chunks = int(nest.lo[v]), int(nest.hi[v]), int(nest.out_chunks[v])
    planes, header = hi or lo, nest.shape.header_words + timing.learn
    tap_waits = nest.chunks == 1 and nest.taps > 1  # the next tap is read one cycle after the last was taken
    lag, drain = timing.lag(nest.shape.channels) + 1, _Drain(nest)

    def steps(groups: IntArray) -> tuple[IntArray, IntArray]:
        """From a tile's first pass to its last one; from that to the next pass, its planes aside."""
        leave = np.maximum(groups, 2) if tap_waits else groups
        two = np.maximum(groups, lo) if hi else np.zeros_like(groups)
        return (nest.steps - 1) * (two + np.maximum(leave, planes)) + two, leave

    size = np.minimum(size, nest.groups)
    tiles = -(-nest.groups // size)
    several, rest = tiles > 1, nest.groups - (tiles - 1) * size
    inside, leave = steps(size)
    inside_last, leave_last = steps(rest)
    inner = np.maximum(leave, planes)  # from a tile's last pass to the next tile's first

    # The first tile: its planes may come late, its buffer is that of the last tile but one.
    head = np.where(several, inside, inside_last)
    zero = np.zeros_like(size)
    first_drain = drain.cycles(zero, np.minimum(size, nest.groups), slices, chunks)
    enter: list[IntArray | int] = [0, planes, NEVER, 0]
    path = _tile(enter, 4, head, lag, first_drain)
    # All but the last tile.
    middle = np.maximum(tiles - 2, 0)
    if drain.even:
        step = _tile([inner, NEVER, 0], 3, inside, lag, first_drain)
        path = then(path, power(step, middle))
    else:
        row = np.repeat(np.arange(size.size), middle)
        at = (np.arange(row.size) - np.repeat(np.cumsum(middle) - middle, middle) + 1) * size[row]
        each = drain.cycles(at, at + size[row], slices[row], chunks)
        path = then(path, chain(_tile([inner[row], NEVER, 0], 3, inside[row], lag, each), middle))
    # The last tile, and when the next header may be read: once the planes of the last pass have been shifted in.
    drain_last = drain.cycles(nest.groups - rest, zero + nest.groups, slices, chunks)
    tail = then(path, _tile([inner, NEVER, 0], 3, inside_last, lag, drain_last))
    end = np.where(several, tail, path)
    opened = end[0]
    if nest.steps > 1 or hi:
        shifted = lo - np.maximum(rest if hi else leave_last, lo)  # they began with the pass before
        opened = opened + np.maximum(0, shifted + header)
    else:
        begun = np.where(several, path[0] + planes, np.array([NEVER, planes, NEVER, NEVER])[:, None])
        opened = np.maximum(opened, begun + header)
    out = np.stack([end[0] + leave_last, opened, end[1], end[2]])
    work = np.where(several, inside + inner + middle * (inside + inner), 0) + inside_last + leave_last
    first = np.where(several, inside + inner, inside_last + leave_last)
    return Path(
        np.moveaxis(np.maximum(out, NEVER), -1, 0), work, first, inside_last + leave_last, drain_last,
        lag + drain_last - leave_last,
    )  # fmt: skip


def pool_path(nest: Nest, slices: IntArray, timing: Timing) -> Path:
    """A pool: one drain job for every group of every chunk, of which four may be under way. slices: (K,)."""
    taps, kinds = nest.taps, slices.size
    groups = np.arange(nest.groups)
    row, group = np.repeat(np.arange(kinds), nest.groups), np.tile(groups, kinds)
    cycles = _Drain(nest).cycles(group, group + 1, slices[row], 1)
    # Clocks: the first tap of the last group; the drain is free; the last four results were used, the latest first.
    size = 2 + POOL_CREDITS
    job = np.full((size, size, row.size), NEVER, np.int64)
    job[0, 0], job[0, size - 1] = taps, timing.pool_back
    start = job[0] + taps + timing.read + 3
    start[1] = np.maximum(start[1], 0)
    job[1], job[2] = start + np.maximum(cycles, LEAST_JOB), start + cycles
    for k in range(2, size - 1):
        job[k + 1, k] = 0
    every = power(chain(np.maximum(job, NEVER), np.full(kinds, nest.groups)), np.full(kinds, nest.chunks))
    path = np.full((kinds, 4, 4), NEVER, np.int64)
    path[:, FREE, FREE], path[:, FREE, DRAINED] = every[0, 0], every[0, 1] + taps  # free: a group behind the last one
    path[:, DRAINED, FREE], path[:, DRAINED, DRAINED] = every[2, 0] - taps, every[2, 1]
    path[:, OPEN], path[:, BEFORE] = path[:, FREE], path[:, DRAINED]
    work = np.full(kinds, nest.groups * nest.chunks * taps)
    last = cycles.reshape(kinds, -1)[:, -1]
    return Path(path, work, work, work, last, timing.read + 3 + last)
