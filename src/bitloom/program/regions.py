"""Where tensors lie in the activation memory: layouts, placements, allocation over time and its proof.

Layouts and the bank rule are those of docs/spec/streams.md, "Activation memory".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import Int8Array

IntArray = npt.NDArray[np.int64]
Uint8Array = npt.NDArray[np.uint8]
Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Layout:
    """Order of a map's pixels: plain (pitch) or phase-split (pitch and pixels of one phase image)."""

    split: bool
    pitch: int
    phase_pixels: int = 0

    def positions(self, rows: int) -> int:
        """Flat positions that a map of `rows` rows occupies."""
        return 4 * self.phase_pixels if self.split else rows * self.pitch

    def flat(self, y: IntArray, x: IntArray) -> IntArray:
        """Flat position of pixels (y, x), broadcast against each other."""
        if not self.split:
            return np.asarray(y * self.pitch + x)
        return np.asarray((2 * (y & 1) + (x & 1)) * self.phase_pixels + (y >> 1) * self.pitch + (x >> 1))


def split_layout(rows: int, pitch: int, pixels: int) -> Layout:
    """A phase-split layout for `rows` rows whose neighbouring phases start P/2 banks apart (pixels: P)."""
    least = -(-rows // 2) * pitch
    return Layout(True, pitch, least + (pixels // 2 - least) % pixels)


def layout_of(split: bool, rows: int, pitch: int, pixels: int) -> Layout:
    """The layout of a map of `rows` rows, phase-split or plain; pitch: of a phase image when split."""
    return split_layout(rows, pitch, pixels) if split else Layout(False, pitch)


def canonical_segments(segments: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Merges segments that meet at a chunk border: only those that leave a hole before the next one stay apart."""
    merged = [segments[0]]
    for segment in segments[1:]:
        if merged[-1] % channels == 0:
            merged[-1] += segment
        else:
            merged.append(segment)
    return tuple(merged)


def chunk_count(segments: tuple[int, ...], channels: int) -> int:
    """Chunks of `channels` channels that the segments fill; each begins at a chunk border."""
    return sum(-(-s // channels) for s in segments)


def slots(segments: tuple[int, ...], channels: int) -> IntArray:
    """Slot (chunk * channels + byte) of every channel."""
    parts, at = [], 0
    for segment in segments:
        parts.append(at + np.arange(segment))
        at += -(-segment // channels) * channels
    return np.concatenate(parts).astype(np.int64)


@dataclass(frozen=True)
class Placement:
    """Rows y0 .. y0+rows-1 of a tensor in the activation memory.

    segments: channel counts, each beginning at a chunk border.  base: first bank row of chunk 0.  chunk_rows: bank rows
    from one chunk to the next.
    """

    tensor: str
    segments: tuple[int, ...]
    y0: int
    rows: int
    width: int
    layout: Layout
    base: int
    chunk_rows: int

    def read(self, memory: Uint8Array) -> Int8Array:
        """The codes held, int8 (C, rows, width). memory: uint8 [P, act_rows, C]."""
        pixels, _, channels = memory.shape
        y, x = np.arange(self.rows)[:, None], np.arange(self.width)[None, :]
        flat = self.layout.flat(y, x)
        chunks = np.arange(chunk_count(self.segments, channels))[:, None, None]
        words = memory[flat % pixels, self.base + chunks * self.chunk_rows + flat // pixels]  # chunk, y, x, byte
        planar = np.moveaxis(words, 3, 1).reshape(-1, self.rows, self.width)
        return np.asarray(planar[slots(self.segments, channels)].view(np.int8))


@dataclass(frozen=True)
class Region:
    """A block of bank rows, alive from step `first` to step `last` inclusive; base -1 before allocation."""

    name: str
    rows: int
    first: int
    last: int
    base: int = -1


def _meet(a: Region, b: Region) -> bool:
    return a.first <= b.last and b.first <= a.last


def verify_regions(regions: tuple[Region, ...], act_rows: int) -> None:
    """ProgramError unless every region is inside the memory and no two that live together overlap."""
    for i, a in enumerate(regions):
        if a.base < 0 or a.base + a.rows > act_rows:
            raise ProgramError(
                f"region '{a.name}' occupies rows {a.base}..{a.base + a.rows - 1}, but the memory has {act_rows} rows"
            )
        for b in regions[:i]:
            if _meet(a, b) and a.base < b.base + b.rows and b.base < a.base + a.rows:
                raise ProgramError(
                    f"regions '{b.name}' (rows {b.base}..{b.base + b.rows - 1}) and '{a.name}' (rows {a.base}.."
                    f"{a.base + a.rows - 1}) overlap while both are alive in step {max(a.first, b.first)}"
                )


def peak_rows(regions: tuple[Region, ...]) -> tuple[int, int]:
    """(rows, step) of the largest sum of live regions: no allocation needs less."""
    steps = sorted({r.first for r in regions})
    load = [(sum(r.rows for r in regions if r.first <= s <= r.last), s) for s in steps]
    rows, step = max(load, key=lambda pair: (pair[0], -pair[1]))
    return rows, step


def allocate(
    regions: tuple[Region, ...], act_rows: int, apart: tuple[Pairs, ...] = (), strict: bool = False
) -> tuple[Region, ...] | None:
    """The regions with bases, verified; None when none of the tried orders fits into act_rows.

    First fit at the lowest free base, once with large regions first, once in order of birth, once by lifetime.
    apart: names that should lie in different halves of the memory (docs/spec/streams.md), the most wanted choice of
    pairs first; strict: one of the choices must hold.
    """
    windows = [window for pairs in apart for window in _halves(act_rows, pairs)]
    for window in (*windows, *([] if strict and all(apart) else [{}])):
        placed = _first_fit(regions, act_rows, window)
        if placed is not None:
            verify_regions(placed, act_rows)
            return placed
    return None


def half_rows(act_rows: int) -> int:
    """Rows of the lower half of the activation memory: the row's top bit tells the halves apart."""
    return 1 << ((act_rows - 1).bit_length() - 1)


def _first_fit(
    regions: tuple[Region, ...], act_rows: int, window: dict[str, tuple[int, int]]
) -> tuple[Region, ...] | None:
    """window: name -> rows [first, end) that a region must stay in; others may lie anywhere.

    A region of the upper half goes as high as it can, so that the middle stays free for those that may straddle.
    """
    orders = (
        sorted(range(len(regions)), key=lambda i: (-regions[i].rows, regions[i].first)),
        sorted(range(len(regions)), key=lambda i: (regions[i].first, -regions[i].rows)),
        sorted(range(len(regions)), key=lambda i: (regions[i].first - regions[i].last, -regions[i].rows)),
    )
    for order in orders:
        placed: dict[int, Region] = {}
        for i in sorted(order, key=lambda i: regions[i].name not in window):
            region = regions[i]
            taken = sorted((r.base, r.base + r.rows) for r in placed.values() if _meet(r, region))
            base = _free_base(region.rows, taken, *window.get(region.name, (0, act_rows)))
            if base is None:
                break
            placed[i] = replace(region, base=base)
        if len(placed) == len(regions):
            return tuple(placed[i] for i in range(len(regions)))
    return None


def _free_base(rows: int, taken: list[tuple[int, int]], low: int, high: int) -> int | None:
    """The lowest free base in [low, high); the highest one where low > 0. taken: sorted spans."""
    if low > 0:
        base = high - rows
        for begin, end in sorted(taken, key=lambda span: -span[1]):
            if end <= base:
                break
            base = min(base, begin - rows)
        return base if base >= low else None
    base = low
    for begin, end in taken:
        if base + rows <= begin:
            break
        base = max(base, end)
    return base if base + rows <= high else None


def _halves(act_rows: int, apart: Pairs) -> list[dict[str, tuple[int, int]]]:
    """Ways to give every region that is named in `apart` one half, such that the pairs differ; at most 64 of them.

    Pairs that close an odd circle are left out; each connected part of the pairs may be turned around.
    """
    neighbours: dict[str, list[str]] = {}
    for a, b in apart:
        if a != b:
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
    parts: list[dict[str, int]] = []
    known: set[str] = set()
    for start in neighbours:
        if start in known:
            continue
        side, queue = {start: 0}, [start]
        for name in queue:
            for other in neighbours[name]:
                if other not in side:
                    side[other] = 1 - side[name]
                    queue.append(other)
        known |= side.keys()
        parts.append(side)
    if not parts:
        return []
    half = half_rows(act_rows)
    spans = ((0, half), (half, act_rows))
    ways = []
    for turn in range(min(64, 1 << len(parts))):
        ways.append({n: spans[s ^ (turn >> k & 1)] for k, part in enumerate(parts) for n, s in part.items()})
    return ways
