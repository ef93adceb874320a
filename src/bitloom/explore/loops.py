"""Loop nests: what one layer does on an array of P pixels, C channels and M outputs (docs/spec/streams.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bitloom.errors import TargetError
from bitloom.explore.layers import IntArray, Layer, Tensor
from bitloom.numerics.packing import LOW_BITS, TWO_PASS_BITS
from bitloom.program.inputs import fold_units
from bitloom.program.regions import Layout
from bitloom.program.weights import header_words


@dataclass(frozen=True, order=True)
class Shape:
    """The unroll: P pixels, C input channels, M output channels."""

    pixels: int
    channels: int
    vector: int

    @property
    def header_words(self) -> int:
        """Words of a lane's header in front of each vector."""
        return header_words(self.channels)


@dataclass(frozen=True)
class Transfer:
    """A LOAD or STORE command: bytes in DDR, words of the activation memory."""

    bytes: int
    words: int
    store: bool = False


@dataclass(frozen=True, eq=False)
class Nest:
    """Loop bounds of one command. All counts exact.

    groups: groups of P positions.  steps: taps × chunks.  rounds: (groups,) drain subsets of each, 0 where nothing is
    written.  out_chunks: (V,) output chunks of each vector.  lo, hi: (V,) planes of
    the low (or only) and the high pass, hi = 0 for one pass.  lane_words: (V, M) words of the stream with headers.
    transfers: LOAD and STORE commands right in front of this one, which they run beside.  held: it starts when they and
    all before them have ended.  load_first: words that the last LOAD must have written before the first tile begins, 0
    when no tile waits for it.
    tile_groups: groups per tile where a program has fixed them, else None.
    residual_by_b: the residual lies in the half of the memory that the array reads: port B reads it, at half the rate.
    first_vector: of the layer's vectors, the one that the command begins with.
    """

    layer: Layer
    shape: Shape
    out_rows: int
    groups: int
    taps: int
    chunks: int
    rounds: IntArray
    out_chunks: IntArray
    lo: IntArray
    hi: IntArray
    lane_words: IntArray
    transfers: tuple[Transfer, ...] = ()
    load_first: int = 0
    held: bool = False
    tile_groups: int | None = None
    residual_by_b: bool = False
    first_vector: int = 0

    @property
    def steps(self) -> int:
        return self.taps * self.chunks

    @property
    def vectors(self) -> int:
        """Vectors of M output channels; a pool counts as one without weights."""
        return int(self.lo.size)

    @property
    def passes(self) -> IntArray:
        """(V,) passes over the array per step: 2 with any channel of 6 bits or more."""
        return 1 + (self.hi > 0).astype(np.int64)

    @property
    def issue_cycles(self) -> int:
        """Cycles in which the array (or the pool unit) works: the ideal of this nest."""
        return self.groups * self.steps * int(self.passes.sum())


def tensor_rows(tensor: Tensor, shape: Shape, height: int | None = None) -> int:
    """Rows of an activation bank that `tensor` (or `height` rows of it) takes."""
    rows = tensor.height if height is None else height
    return tensor.chunks(shape.channels) * -(-tensor.layout(rows, shape.pixels).positions(rows) // shape.pixels)


@dataclass(frozen=True)
class Fold:
    """First layer: taps, pitch and words of the folded input, and the DDR bytes of a unit."""

    taps: int
    pitch: int
    words: int
    unit_bytes: int


def fold(layer: Layer, channels: int, out_rows: int) -> Fold | None:
    """How stride × stride pixels make a unit and several units a word of `channels` bytes, so that taps fill it.

    None when the pixels do not fit a word, or nothing is gained: the image is then read like any tensor.
    """
    if not layer.first or layer.groups > 1:
        return None
    step = layer.stride[0]
    found = fold_units(layer.input.parts[0], step, layer.kernel, channels)
    if found is None:
        return None
    unit_bytes, _, taps = found
    deep, columns = (-(-k // step) for k in layer.kernel)
    pitch = max(layer.output.width + columns - 1, -(-(layer.pads[2] + layer.input.width) // step))
    return Fold(taps, pitch, (out_rows + deep - 1) * pitch, unit_bytes)


def input_rows(layer: Layer, shape: Shape, out_rows: int) -> int:
    """Rows of an activation bank for the input that `out_rows` output rows of `layer` need."""
    folded = fold(layer, shape.channels, out_rows)
    if folded is not None:
        return -(-folded.words // shape.pixels)
    need = min(layer.input.height, (out_rows - 1) * layer.stride[0] + layer.kernel[0])
    return tensor_rows(layer.input, shape, need)


@dataclass(frozen=True)
class Writing:
    """Where a command's results go: written rows and columns of the grid, and the layout of the output."""

    rows: int
    columns: int
    grid_w: int
    layout: Layout


@lru_cache(maxsize=4096)
def rounds_of(pixels: int, to: Writing) -> IntArray:
    """(groups,) drain subsets of each group (lanes of distinct banks), 0 where nothing is written."""
    groups = -(-to.rows * to.grid_w // pixels)
    if not to.layout.split and to.columns == to.grid_w == to.layout.pitch:
        return np.ones(groups, np.int64)
    n = np.arange(groups * pixels, dtype=np.int64)
    y, x = n // to.grid_w, n % to.grid_w
    bank = np.where((y < to.rows) & (x < to.columns), to.layout.flat(y, x) % pixels, pixels)
    hits = np.bincount((n // pixels) * (pixels + 1) + bank, minlength=groups * (pixels + 1))
    return np.asarray(hits.reshape(groups, pixels + 1)[:, :pixels].max(axis=1), dtype=np.int64)


def nests(layer: Layer, shape: Shape, tap_entries: int, out_rows: int | None = None) -> tuple[Nest, ...]:
    """The loop nests of `layer`, one a command, for `out_rows` rows of its output (None: all).

    TargetError when the taps do not fit.
    """
    p, c, m = shape.pixels, shape.channels, shape.vector
    out = layer.output
    rows = out.height if out_rows is None else out_rows
    taps, chunks = layer.kernel[0] * layer.kernel[1], layer.input.chunks(c)
    folded = fold(layer, c, rows)
    load_bytes = load_words = 0
    if folded is not None:
        taps, chunks, grid_w = folded.taps, 1, folded.pitch
        load_bytes, load_words = folded.words * folded.unit_bytes, folded.words
    elif layer.walk:
        grid_w = out.layout(out.height, p).positions(out.height)
    elif (out.height, out.width) == (1, 1):
        grid_w = 1
    else:
        grid_w = layer.input.pitch
    if layer.first and folded is None:
        load_words = input_rows(layer, shape, rows) * p
        load_bytes = c * load_words
    if taps > tap_entries:
        raise TargetError(
            f"{layer.name}: {taps} taps, but tap_entries = {tap_entries}; use a smaller kernel or a larger tap_entries"
        )
    if layer.walk:
        groups = -(-grid_w // p)
        rounds = np.ones(groups, np.int64)
    else:
        groups = -(-rows * grid_w // p)
        rounds = rounds_of(p, Writing(rows, out.width, grid_w, out.layout(rows, p)))
    transfers = (Transfer(load_bytes, load_words),) if load_words else ()
    if not layer.conv or layer.bits is None:
        one = np.zeros(1, np.int64)
        return (Nest(
            layer, shape, rows, groups, taps, chunks, rounds, np.full(1, chunks), one, one,
            np.zeros((1, m), np.int64), transfers, load_words,
        ),)  # fmt: skip
    load_first = _first_words(layer, folded, load_words, p)
    found: list[Nest] = []
    for span in layer.spans(c, m):
        vectors = np.arange(span.first_vector, span.first_vector + span.vectors)
        chunks = 1 if folded is not None else span.chunks
        lo, hi, words = planes_and_words(layer.bits[vectors[0] * m : (vectors[-1] + 1) * m], shape, taps * chunks)
        out_chunks = np.minimum(m // c, out.chunks(c) - vectors * (m // c))
        found.append(Nest(
            layer, shape, rows, groups, taps, chunks, rounds, out_chunks, lo, hi, words, () if found else transfers,
            0 if found else load_first, first_vector=span.first_vector,
        ))  # fmt: skip
    return tuple(found)


def _first_words(layer: Layer, folded: Fold | None, load_words: int, pixels: int) -> int:
    """Words of the image that a first tile of eight groups needs."""
    if folded is None:
        return load_words
    return min(load_words, (-(-layer.kernel[0] // layer.stride[0]) - 1) * folded.pitch + 8 * pixels)


def by_vector(bits: npt.NDArray[np.integer], vector: int) -> IntArray:
    """Widths (Cout,) as (V, M): lane by lane of every vector, 0 where the last one has no channel left."""
    lanes = np.zeros(-(-bits.size // vector) * vector, np.int64)
    lanes[: bits.size] = bits
    return lanes.reshape(-1, vector)


def planes_and_words(bits: IntArray, shape: Shape, steps: int) -> tuple[IntArray, IntArray, IntArray]:
    """(V,) planes of the low and of the high pass, (V, M) words of each lane. bits: (Cout,); steps: taps × chunks."""
    wide = by_vector(bits, shape.vector)
    lo = np.where(wide >= TWO_PASS_BITS, LOW_BITS, wide).max(axis=1)
    hi = np.where(wide >= TWO_PASS_BITS, wide - LOW_BITS, 0).max(axis=1)
    return lo, hi, shape.header_words + steps * wide
