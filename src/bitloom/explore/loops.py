"""Loop nests: what one layer does on an array of P pixels, C channels and M outputs (docs/spec/streams.md)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bitloom.errors import TargetError
from bitloom.explore.layers import IntArray, Layer, Tensor

BEAT_BYTES = 16


@dataclass(frozen=True, order=True)
class Shape:
    """The unroll: P pixels, C input channels, M output channels."""

    pixels: int
    channels: int
    vector: int

    @property
    def header_words(self) -> int:
        """Words of a lane's header in front of each vector."""
        return max(1, 64 // self.channels)


@dataclass(frozen=True, eq=False)
class Nest:
    """Loop bounds of one command. All counts exact.

    groups: groups of P positions.  steps: taps × chunks.  rounds: drain subsets over all groups, 1 or more each.
    empty: groups of which nothing is written.  out_chunks: (V,) output chunks of each vector.  lo, hi: (V,) planes of
    the low (or only) and the high pass, hi = 0 for one pass.  lane_words: (V, M) words of the stream with headers.
    load_bytes: bytes of the input image that LOAD reads for this command.
    """

    layer: Layer
    shape: Shape
    out_rows: int
    groups: int
    taps: int
    chunks: int
    rounds: int
    empty: int
    out_chunks: IntArray
    lo: IntArray
    hi: IntArray
    lane_words: IntArray
    load_bytes: int

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


def phase_pixels(height: int, width: int, pixels: int) -> int:
    """Positions of one phase image: at least ceil(H/2)·ceil(W/2), congruent to P/2 so that phases hit other banks."""
    least = -(-height // 2) * -(-width // 2)
    return least + (pixels // 2 - least) % pixels


def tensor_rows(tensor: Tensor, shape: Shape, height: int | None = None) -> int:
    """Rows of an activation bank that `tensor` (or `height` rows of it) takes."""
    height = tensor.height if height is None else height
    p = shape.pixels
    positions = 4 * phase_pixels(height, tensor.width, p) if tensor.split else height * tensor.width
    return tensor.chunks(shape.channels) * -(-positions // p)


@dataclass(frozen=True)
class Fold:
    """First layer: taps, pitch and words of the folded input, and the DDR bytes of a unit."""

    taps: int
    pitch: int
    words: int
    unit_bytes: int


def fold(layer: Layer, channels: int, out_rows: int) -> Fold:
    """How the image's pixels are packed into words of `channels` bytes so that taps fill the channel dimension."""
    (kh, kw), ow = layer.kernel, layer.output.width
    padded = layer.input.width + layer.pads[2] + layer.pads[3]
    if layer.stride == (1, 1):
        span = max(1, min(channels // 4, kw))
        return Fold(kh * -(-kw // span), padded, padded * (out_rows - 1 + kh), 4)
    ch, cw = -(-kh // 2), -(-kw // 2)
    pitch = max(-(-padded // 2), ow + cw - 1)
    if channels >= 16:
        span = min(channels // 16, cw)
        return Fold(ch * -(-cw // span), pitch, pitch * (out_rows - 1 + ch), 16)
    span = max(1, min(channels // 4, cw))
    return Fold(kh * min(2, kw) * -(-cw // span), pitch, 4 * pitch * (out_rows - 1 + ch), 4)


def input_rows(layer: Layer, shape: Shape, out_rows: int) -> int:
    """Rows of an activation bank for the input that `out_rows` output rows of `layer` need."""
    if layer.folded:
        return -(-fold(layer, shape.channels, out_rows).words // shape.pixels)
    need = min(layer.input.height, (out_rows - 1) * layer.stride[0] + layer.kernel[0])
    return tensor_rows(layer.input, shape, need)


@lru_cache(maxsize=65536)
def _rounds(p: int, oh: int, ow: int, grid_w: int, split: bool, phase: int) -> tuple[int, int]:
    """Drain subsets over all groups, and the number of groups of which nothing is written."""
    groups = -(-oh * grid_w // p)
    if not split and ow == grid_w:
        return groups, 0
    n = np.arange(groups * p, dtype=np.int64)
    y, x = n // grid_w, n % grid_w
    half = -(-ow // 2)
    flat = (2 * (y & 1) + (x & 1)) * phase + (y >> 1) * half + (x >> 1) if split else y * ow + x
    bank = np.where((y < oh) & (x < ow), flat % p, p)
    hits = np.zeros((groups, p + 1), dtype=np.int64)
    np.add.at(hits, (n // p, bank), 1)
    rounds = hits[:, :p].max(axis=1)
    return int(rounds.sum()), int((rounds == 0).sum())


def nest(layer: Layer, shape: Shape, tap_entries: int, out_rows: int | None = None) -> Nest:
    """The loop nest of `layer` for `out_rows` rows of its output (None: all); TargetError when the taps do not fit."""
    p, c, m = shape.pixels, shape.channels, shape.vector
    out = layer.output
    rows = out.height if out_rows is None else out_rows
    load_bytes = 0
    taps, chunks = layer.kernel[0] * layer.kernel[1], layer.input.chunks(c)
    single = (out.height, out.width) == (1, 1)
    if layer.folded:
        folded = fold(layer, c, rows)
        taps, chunks, grid_w = folded.taps, 1, folded.pitch
        load_bytes = folded.words * folded.unit_bytes
    elif layer.walk:
        grid_w = 4 * phase_pixels(out.height, out.width, p)
    elif single:
        grid_w = 1
    else:
        grid_w = -(-layer.input.width // 2) if layer.stride == (2, 2) else layer.input.width
    if taps > tap_entries:
        raise TargetError(
            f"{layer.name}: {taps} taps, but tap_entries = {tap_entries}; use a smaller kernel or a larger tap_entries"
        )
    if layer.walk:
        groups, empty = grid_w // p + (grid_w % p > 0), 0
        rounds = groups
    else:
        phase = phase_pixels(out.height, out.width, p) if out.split else 0
        groups = -(-rows * grid_w // p)
        rounds, empty = _rounds(p, rows, out.width, grid_w, out.split, phase)
    if not layer.conv or layer.bits is None:
        one = np.zeros(1, np.int64)
        return Nest(
            layer, shape, rows, groups, taps, chunks, rounds, empty, np.full(1, chunks), one, one,
            np.zeros((1, m), np.int64), load_bytes,
        )  # fmt: skip
    vectors = -(-layer.bits.size // m)
    lanes = np.zeros(vectors * m, np.int64)
    lanes[: layer.bits.size] = layer.bits
    bits = lanes.reshape(vectors, m)
    lo = np.where(bits >= 6, 4, bits).max(axis=1)
    hi = np.where(bits >= 6, bits - 4, 0).max(axis=1)
    done = np.arange(vectors) * (m // c)
    out_chunks = np.minimum(m // c, out.chunks(c) - done)
    words = shape.header_words + taps * chunks * bits
    return Nest(layer, shape, rows, groups, taps, chunks, rounds, empty, out_chunks, lo, hi, words, load_bytes)
