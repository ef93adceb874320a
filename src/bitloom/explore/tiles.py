"""Tiles: cycles of every vector under a tile size, and the size that a command takes fewest cycles with."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from bitloom.explore.layers import IntArray
from bitloom.explore.loops import Nest
from bitloom.explore.overlap import DRAINED, FREE, Path, advance, conv_path, pool_path
from bitloom.explore.schedule import Workload
from bitloom.explore.stream import FloatArray
from bitloom.explore.timing import Timing

MAX_GROUPS = 64


@dataclass(frozen=True, eq=False)
class Tiling:
    """Cycles per vector for K variants, all arrays (K, V) but path.

    tile: groups per tile.  planes: of the first pass.  path: (K, V, 4, 4) and all others: as in `Path`.
    """

    tile: IntArray
    planes: IntArray
    path: IntArray
    work: IntArray
    first: IntArray
    last: IntArray
    drain_last: IntArray
    flush: IntArray

    def rows(self, index: IntArray) -> Tiling:
        """The variants `index`."""
        return Tiling(*(getattr(self, f.name)[index] for f in fields(self)))


def _vectors(n: Nest, size: IntArray, slices: IntArray, timing: Timing) -> Tiling:
    """Tables of a command for K tile sizes and drain widths; vectors that are alike are worked out once."""
    if not n.layer.conv:
        paths, which = [pool_path(n, slices, timing)], np.zeros(1, np.int64)
        size = np.ones_like(size)
    else:
        _, first, which = np.unique(
            np.stack([n.lo, n.hi, n.out_chunks]), axis=1, return_index=True, return_inverse=True
        )
        paths = [conv_path(n, int(v), size, slices, timing) for v in first]
    parts = [np.stack([getattr(p, f.name) for p in paths], axis=1)[:, which.ravel()] for f in fields(Path)]
    tile = np.repeat(size[:, None], which.size, axis=1)
    planes = np.where(n.hi > 0, n.hi, n.lo)[None].repeat(size.size, axis=0)
    return Tiling(tile, planes, *parts)


def clocks_at(begun: FloatArray, n: Nest, timing: Timing) -> FloatArray:
    """The clocks (4, ...) of `overlap.py` where the engines of a command start at `begun`."""
    header = n.shape.header_words + timing.learn if n.layer.conv else 0
    return np.stack([begun, begun + header, begun + timing.address, begun])


def _alone(n: Nest, tiles: Tiling, timing: Timing) -> FloatArray:
    """(K,) cycles of a command whose weights and inputs are all there: what the tile choice minimises."""
    clocks = clocks_at(np.zeros(tiles.work.shape[0]), n, timing)
    for v in range(tiles.work.shape[1]):
        clocks = advance(tiles.path[:, v], clocks)
    return np.asarray(np.maximum(clocks[FREE], clocks[DRAINED]), dtype=np.float64)


def _command(n: Nest, acc_groups: IntArray, slices: IntArray, timing: Timing) -> Tiling:
    """Tables of one command for every pair (acc_groups, slices), row by row; ties go to the larger tile."""
    pairs = acc_groups.size
    if not n.layer.conv or n.tile_groups is not None:
        column = np.tile(slices, pairs)
        return _vectors(n, np.full_like(column, n.tile_groups or 1), column, timing)
    most = int(min(MAX_GROUPS, n.groups, int(acc_groups.max())))
    size = np.repeat(np.arange(1, most + 1), slices.size)
    table = _vectors(n, size, np.tile(slices, most), timing)
    cost = _alone(n, table, timing).reshape(most, slices.size)
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
