"""The image on its way in and the result on its way out: bytes in DDR (docs/spec/streams.md, "Input image").

Folded: the host pads the border with the zero-point code and writes units of s×s pixels (s: stride of the first
layer); LOAD makes words of `window` neighbouring units, so that the taps of the first layer fill the channel dimension.
Linear: the host writes the words of the input tensor as they lie in the activation memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitloom.errors import DataError, ProgramError
from bitloom.graph.qgraph import Int8Array
from bitloom.program.commands import BEAT_BYTES
from bitloom.program.geometry import Tap, Window
from bitloom.program.regions import IntArray, Layout, chunk_count, slots
from bitloom.target.arch import ArchConfig


@dataclass(frozen=True)
class FoldSpec:
    """Folded input: `step`×`step` pixels a unit, units of unit_bytes, `window` units a word.

    rows × pitch units cover the padded image (top, left: border in pixels); units: all of them, tail included.
    """

    shape: tuple[int, int, int]
    zero_point: int
    step: int
    unit_bytes: int
    window: int
    top: int
    left: int
    rows: int
    pitch: int
    units: int

    @property
    def words(self) -> int:
        """Words that LOAD writes."""
        return self.units - self.window + 1

    @property
    def bytes(self) -> int:
        """Bytes of the image in DDR, whole beats."""
        return self.units * self.unit_bytes


@dataclass(frozen=True)
class LinearSpec:
    """A tensor as words in DDR, chunk after chunk, `words` words each (whole beats a chunk)."""

    shape: tuple[int, int, int]
    segments: tuple[int, ...]
    layout: Layout
    word_bytes: int
    words: int

    @property
    def chunks(self) -> int:
        """Chunks of word_bytes channels."""
        return chunk_count(self.segments, self.word_bytes)

    @property
    def bytes(self) -> int:
        """Bytes in DDR."""
        return self.chunks * self.words * self.word_bytes


InputSpec = FoldSpec | LinearSpec


def linear_words(positions: int, channels: int) -> int:
    """Words per chunk so that a chunk is whole beats of 16 bytes."""
    per_beat = max(1, BEAT_BYTES // channels)
    return -(-positions // per_beat) * per_beat


def fold_units(cin: int, step: int, kernel: tuple[int, int], channels: int) -> tuple[int, int, int] | None:
    """Bytes of a unit of step×step pixels of `cin` channels, units of a word of `channels` bytes, taps of the fold.

    None when the pixels do not fit a word or nothing is gained.
    """
    unit_bytes = next((u for u in (4, 8, 16) if step * step * cin <= u <= channels), 0)
    if unit_bytes == 0:
        return None
    deep, columns = (-(-k // step) for k in kernel)
    window = min(channels // unit_bytes, columns, 63)
    taps = deep * -(-columns // window)
    return None if taps > kernel[0] * kernel[1] else (unit_bytes, window, taps)


def fold_of(
    shape: tuple[int, int, int], zero_point: int, window: Window, arch: ArchConfig, striped: bool
) -> FoldSpec | None:
    """The fold of a first layer, without tail; None when the pixels do not fit or nothing is gained.

    striped: unit rows are whole beats, so that LOAD can begin at any of them.
    """
    cin, height, width = shape
    step = window.stride
    found = fold_units(cin, step, window.kernel, arch.channels)
    if found is None or found[2] > arch.tap_entries:
        return None
    unit_bytes, fold, _ = found
    deep, columns = (-(-k // step) for k in window.kernel)
    rows = max(window.out_size[0] + deep - 1, -(-(window.top + height) // step))
    pitch = max(window.out_size[1] + columns - 1, -(-(window.left + width) // step))
    per_beat = BEAT_BYTES // unit_bytes
    if striped:
        pitch = -(-pitch // per_beat) * per_beat
    units = -(-(rows * pitch + fold) // per_beat) * per_beat
    return FoldSpec(shape, zero_point, step, unit_bytes, fold, window.top, window.left, rows, pitch, units)


def fold_taps(fold: FoldSpec, window: Window) -> tuple[Tap, ...]:
    """Taps of the folded first layer, rows outermost; all of them inside."""
    rows, columns = (-(-k // fold.step) for k in window.kernel)
    high, wide = window.out_size
    return tuple(
        Tap(ty * fold.pitch + tx * fold.window, 0, high, 0, wide)
        for ty in range(rows)
        for tx in range(-(-columns // fold.window))
    )


def fold_weights(fold: FoldSpec, window: Window, weight: Int8Array, channels: int) -> Int8Array:
    """Weights (Cout, Cin, KH, KW) as (Cout, taps of `fold_taps`, channels), zero for unused bytes."""
    cout, cin, kh, kw = weight.shape
    rows, columns = -(-kh // fold.step), -(-kw // fold.step)
    across = -(-columns // fold.window)
    out = np.zeros((cout, rows * across, channels), dtype=np.int8)
    for ky in range(kh):
        for kx in range(kw):
            unit = kx // fold.step
            tap = (ky // fold.step) * across + unit // fold.window
            byte = (unit % fold.window) * fold.unit_bytes + ((ky % fold.step) * fold.step + kx % fold.step) * cin
            out[:, tap, byte : byte + cin] = weight[:, :, ky, kx]
    return out


def input_bytes(spec: InputSpec, codes: Int8Array) -> bytes:
    """DDR bytes of an image of codes, int8 (C, H, W) in [-127, 127]; DataError on another shape, type or code."""
    if codes.shape != spec.shape or codes.dtype != np.int8 or bool((codes == -128).any()):
        raise DataError(f"input codes: {codes.dtype} {codes.shape}, must be int8 {spec.shape} in [-127, 127]")
    if isinstance(spec, LinearSpec):
        words = np.zeros((spec.chunks, spec.words, spec.word_bytes), dtype=np.int8)
        flat = _flat_positions(spec.layout, spec.shape).ravel()
        slot = slots(spec.segments, spec.word_bytes)[:, None]
        words[slot // spec.word_bytes, flat[None, :], slot % spec.word_bytes] = codes.reshape(spec.shape[0], -1)
        return words.tobytes()
    cin, step = spec.shape[0], spec.step
    image = np.full((cin, spec.rows * step, spec.pitch * step), spec.zero_point, dtype=np.int8)
    part = codes[:, : spec.rows * step - spec.top, : spec.pitch * step - spec.left]
    image[:, spec.top : spec.top + part.shape[1], spec.left : spec.left + part.shape[2]] = part
    units = np.zeros((spec.units, spec.unit_bytes), dtype=np.int8)
    # (Cin, rows, sy, pitch, sx) -> (rows, pitch, sy, sx, Cin)
    folded = image.reshape(cin, spec.rows, step, spec.pitch, step).transpose(1, 3, 2, 4, 0)
    units[: spec.rows * spec.pitch, : step * step * cin] = folded.reshape(spec.rows * spec.pitch, -1)
    return units.tobytes()


def output_codes(spec: LinearSpec, data: bytes) -> Int8Array:
    """The int8 (C, H, W) codes of a result in DDR; ProgramError on a wrong number of bytes."""
    if len(data) != spec.bytes:
        raise ProgramError(f"output holds {len(data)} bytes, must be {spec.bytes}")
    words = np.frombuffer(data, dtype=np.int8).reshape(spec.chunks, spec.words, spec.word_bytes)
    flat = _flat_positions(spec.layout, spec.shape).ravel()
    slot = slots(spec.segments, spec.word_bytes)[:, None]
    return words[slot // spec.word_bytes, flat[None, :], slot % spec.word_bytes].reshape(spec.shape)


def _flat_positions(layout: Layout, shape: tuple[int, int, int]) -> IntArray:
    return layout.flat(np.arange(shape[1])[:, None], np.arange(shape[2])[None, :])
