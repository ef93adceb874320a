"""Work of a network on one unroll: the commands in order, the exact tile choice, and per-vector cycle tables.

`Workload` depends on (P, C, M) and the stripes; `Tiling` adds buffers (T) and drain width (DC), several at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bitloom.explore.layers import IntArray, Network
from bitloom.explore.loops import Nest, Shape, nest
from bitloom.explore.residency import Stripes
from bitloom.explore.stream import Stream
from bitloom.explore.timing import Timing

MAX_GROUPS = 64


@dataclass(frozen=True, eq=False)
class Workload:
    """Commands in order; `layer_of[i]` is the layer of command i; store_words: words of C bytes of the result."""

    shape: Shape
    nests: tuple[Nest, ...]
    layer_of: tuple[int, ...]
    store_words: int

    @cached_property
    def command_of(self) -> IntArray:
        """(V,) command of each vector (pools count as one vector)."""
        return np.repeat(np.arange(len(self.nests)), [n.vectors for n in self.nests])

    @cached_property
    def stream(self) -> Stream:
        """Weights of all vectors; pools have none."""
        words = np.concatenate([n.lane_words for n in self.nests])
        planes = np.concatenate([np.where(n.hi > 0, n.hi, n.lo) for n in self.nests])
        most = words.max(axis=1)
        share = np.where(most > 0, (self.shape.header_words + planes) / np.maximum(most, 1), 0.0)
        return Stream(self.shape.channels, words, np.minimum(share, 1.0))

    @cached_property
    def issue_cycles(self) -> int:
        """Cycles in which the array or the pool unit works."""
        return sum(n.issue_cycles for n in self.nests)


def workload(network: Network, shape: Shape, stripes: Stripes, tap_entries: int) -> Workload:
    """The commands of `network`: striped layers once per stripe, the others once."""
    full = [nest(layer, shape, tap_entries) for layer in network.layers[stripes.layers :]]
    part = [nest(network.layers[i], shape, tap_entries, rows) for i, rows in enumerate(stripes.rows)]
    nests = part * stripes.count + full
    order = list(range(stripes.layers)) * stripes.count + list(range(stripes.layers, len(network.layers)))
    out = network.tensors[network.output]
    words = out.chunks(shape.channels) * out.height * out.width
    return Workload(shape, tuple(nests), tuple(order), words)


@dataclass(frozen=True, eq=False)
class Tiling:
    """Cycles per vector for K variants of (acc_groups, drain_channels). All arrays (K, V) unless said otherwise.

    tile: (K, commands) groups per tile.  work: unstalled cycles of the vector's steps, its border to the vector before
    included.  first, last: of its first and last tile.  drain: of all its tiles; drain_first, drain_last: of one.
    tiles: number.  lag: cycles from the end of the first (and last) tile's steps to the start of its drain.
    fill: header and first planes of a command's first vector.
    """

    tile: IntArray
    work: IntArray
    first: IntArray
    last: IntArray
    drain: IntArray
    drain_first: IntArray
    drain_last: IntArray
    tiles: IntArray
    lag: IntArray
    fill: IntArray


def _step_cycles(nest: Nest, lo: IntArray, hi: IntArray, groups: IntArray) -> IntArray:
    """Cycles of one (tap, chunk) with all its passes: groups, or planes of the next pass where those take longer."""
    one = np.maximum(groups, lo)
    if nest.chunks == 1 and nest.taps > 1:
        one = np.maximum(one, np.where(hi > 0, 0, 2))  # the next tap is read one cycle after the last was taken
    return np.where(hi > 0, np.maximum(groups, lo) + np.maximum(groups, hi), one)


def _vector_cycles(
    nest: Nest, lo: IntArray, hi: IntArray, tile: IntArray, learn: int
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """(work, first tile, last tile, tiles) of a vector, border included; broadcasts lo/hi against tile."""
    tiles = -(-nest.groups // tile)
    rest = nest.groups - (tiles - 1) * tile
    last = nest.steps * _step_cycles(nest, lo, hi, rest)
    full = nest.steps * _step_cycles(nest, lo, hi, tile)
    planes = np.where(hi > 0, hi, lo)
    border = _border(nest, planes, rest, learn)
    work = (tiles - 1) * full + last + border
    return work, np.where(tiles > 1, full, last) + border, last, tiles


def _border(nest: Nest, planes: IntArray, rest: IntArray, learn: int) -> IntArray:
    """Extra cycles between two vectors of a command: the next header is read behind the last planes of this vector."""
    step = np.maximum(rest, planes)
    late = np.maximum(0, planes + nest.shape.header_words + learn - step)
    return np.asarray(np.maximum(0, late + planes - step), dtype=np.int64)


def _drain_cycles(nest: Nest, slices: IntArray, chunks: IntArray) -> IntArray:
    """Cycles to drain all groups of a vector (or of a pool's chunk)."""
    factor = 2 if nest.layer.residual else 1
    return np.asarray(factor * (nest.rounds * slices * chunks + nest.empty), dtype=np.int64)


def choose_tiles(
    nest: Nest, acc_groups: npt.NDArray[np.int64], slices: npt.NDArray[np.int64], timing: Timing
) -> IntArray:
    """(T options, DC options) groups per tile of the least unstalled cycles; exact, ties to larger tiles."""
    most = int(min(MAX_GROUPS, nest.groups, int(acc_groups.max())))
    tile = np.arange(1, most + 1)
    kinds, count = np.unique(np.stack([nest.lo, nest.hi, nest.out_chunks]), axis=1, return_counts=True)
    work = np.zeros(most, np.int64)
    drain = np.zeros((slices.size, 1), np.int64)
    for (lo, hi, chunks), n in zip(kinds.T, count, strict=True):
        work += n * _vector_cycles(nest, np.asarray(lo), np.asarray(hi), tile, timing.learn)[0]
        drain += n * _drain_cycles(nest, slices, np.asarray(chunks))[:, None]
    first = _vector_cycles(nest, nest.lo[:1], nest.hi[:1], tile, timing.learn)[1]
    tiles = -(-nest.groups // tile)
    rest = nest.groups - (tiles - 1) * tile
    whole = _drain_cycles(nest, slices, nest.out_chunks[-1:])[:, None]
    lag = timing.lag(nest.shape.channels)
    tail = np.maximum(0, -(-whole * rest // nest.groups) + lag - rest)
    cost = np.maximum(work + tail, first + lag - tile + drain)
    best = np.empty((acc_groups.size, slices.size), np.int64)
    for i, limit in enumerate(acc_groups):
        part = cost[:, : min(most, int(limit))]
        best[i] = part.shape[1] - np.argmin(part[:, ::-1], axis=1)
    return best


def tiling(load: Workload, acc_groups: IntArray, drain_channels: IntArray, timing: Timing) -> Tiling:
    """Tables for every pair (acc_groups[i], drain_channels[j]), flattened row by row to K variants."""
    slices = load.shape.channels // drain_channels
    variants = acc_groups.size * drain_channels.size
    flat_slices = np.tile(slices, acc_groups.size)[:, None]
    tiles_out = np.zeros((variants, len(load.nests)), np.int64)
    columns: dict[str, list[IntArray]] = {
        k: [] for k in ("work", "first", "last", "drain", "drain_first", "drain_last", "tiles", "lag", "fill")
    }
    memo: dict[int, tuple[IntArray, ...]] = {}
    for i, n in enumerate(load.nests):
        if id(n) not in memo:
            memo[id(n)] = _columns(n, acc_groups, slices, flat_slices, timing)
        tile, *rest = memo[id(n)]
        tiles_out[:, i] = tile
        for column, values in zip(columns.values(), rest, strict=True):
            column.append(values)
    joined = {k: np.concatenate(v, axis=1) for k, v in columns.items()}
    return Tiling(tiles_out, *joined.values())


def _columns(
    n: Nest, acc_groups: IntArray, slices: IntArray, flat_slices: IntArray, timing: Timing
) -> tuple[IntArray, ...]:
    """Tile per variant, then the nine (K, V) columns of one command."""
    variants = flat_slices.shape[0]
    if not n.layer.conv:
        work = np.full((variants, 1), n.groups * n.steps, np.int64)
        one = np.full((variants, 1), n.taps, np.int64)
        drain = _drain_cycles(n, flat_slices, np.asarray(n.chunks))
        each = -(-drain // (n.groups * n.chunks))
        jobs = np.full((variants, 1), n.groups * n.chunks, np.int64)
        lag = np.full((variants, 1), timing.read + 3, np.int64)
        return np.ones(variants, np.int64), work, one, one, drain, each, each, jobs, lag, np.zeros_like(work)
    if n.tile_groups is None:
        tile = choose_tiles(n, acc_groups, slices, timing).reshape(-1)
    else:
        tile = np.full(variants, n.tile_groups)
    work, first, last, tiles = _vector_cycles(n, n.lo[None, :], n.hi[None, :], tile[:, None], timing.learn)
    tiles = np.broadcast_to(tiles, work.shape)
    rest = n.groups - (tiles - 1) * tile[:, None]
    planes = np.where(n.hi > 0, n.hi, n.lo)[None, :]
    fill = np.zeros_like(work)
    fill[:, 0] = n.shape.header_words + timing.learn + planes[0, 0]
    border0 = _border(n, planes[:, 0], rest[:, 0], timing.learn)
    tail = np.maximum(0, (n.hi if n.hi[-1] else n.lo)[-1] - rest[:, -1])  # no planes follow the very last step
    work, first, last = work.copy(), np.array(first), np.array(np.broadcast_to(last, work.shape))
    work[:, 0] -= border0
    first[:, 0] -= border0
    work[:, -1] -= tail
    last[:, -1] -= tail
    first[:, -1] = np.where(tiles[:, -1] == 1, first[:, -1] - tail, first[:, -1])
    drain = _drain_cycles(n, flat_slices, n.out_chunks[None, :])
    d_first = -(-drain * np.minimum(tile[:, None], n.groups) // n.groups)
    d_last = -(-drain * rest // n.groups)
    lag = np.broadcast_to(timing.lag(n.shape.channels) - np.minimum(tile[:, None], n.groups) + 1, work.shape)
    return tile, work, first, last, np.broadcast_to(drain, work.shape), d_first, d_last, tiles, lag, fill
