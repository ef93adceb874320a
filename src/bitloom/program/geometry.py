"""Windows of convolutions and pools as taps on flat positions (docs/spec/streams.md, "Convolution as taps")."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from bitloom.errors import UnsupportedLayerError
from bitloom.program.regions import IntArray, Layout
from bitloom.target.arch import ArchConfig


class Reading(Enum):
    """What a layer demands of the layout of its input."""

    PLAIN = "plain"  #: window larger than a pixel, stride 1
    SPLIT = "split"  #: stride 2
    FLAT = "flat"  #: one pixel in, one pixel out: plain, or split with the identical layout for the output
    ANY = "any"  #: a single output pixel: every tap is one address


@dataclass(frozen=True)
class Window:
    """A layer's window on its map: kernel (h, w), stride 1 or 2 (where it matters), top and left padding, sizes."""

    kernel: tuple[int, int]
    stride: int
    top: int
    left: int
    in_size: tuple[int, int]
    out_size: tuple[int, int]

    @property
    def reading(self) -> Reading:
        """The demand on the input's layout."""
        if self.out_size == (1, 1):
            return Reading.ANY
        if self.stride == 2:
            return Reading.SPLIT
        if self.kernel == (1, 1) and self.in_size == self.out_size and self.top == 0 and self.left == 0:
            return Reading.FLAT
        return Reading.PLAIN


def window_of(
    name: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    in_size: tuple[int, int],
) -> Window:
    """The window of a layer; UnsupportedLayerError for strides other than 1 and 2, or unequal ones that matter."""
    top, bottom, left, right = padding
    rows = (in_size[0] + top + bottom - kernel[0]) // stride[0] + 1
    cols = (in_size[1] + left + right - kernel[1]) // stride[1] + 1
    used = {s for s, n in zip(stride, (rows, cols), strict=True) if n > 1} or {1}
    if len(used) > 1:
        raise UnsupportedLayerError(f"{name}: stride {stride} differs by axis; legal: (1, 1) and (2, 2)")
    step = used.pop()
    if step not in (1, 2):
        raise UnsupportedLayerError(
            f"{name}: stride {stride}; legal: 1 and 2 (any stride where the output is a single pixel)"
        )
    return Window(kernel, step, top, left, in_size, (rows, cols))


@dataclass(frozen=True)
class Tap:
    """Flat offset and the rectangle y_lo <= oy < y_hi, x_lo <= ox < x_hi in which it lies inside the image."""

    offset: int
    y_lo: int
    y_hi: int
    x_lo: int
    x_hi: int


@dataclass(frozen=True)
class Grid:
    """Iteration grid of a command and its tiles."""

    grid_w: int
    out_w: int
    out_h: int
    n_groups: int
    tile_groups: int
    n_tiles: int
    last_tile_groups: int


def make_grid(grid_w: int, out_w: int, out_h: int, arch: ArchConfig) -> Grid:
    """The grid of out_h rows, its tiles balanced so that none exceeds acc_groups."""
    groups = -(-out_h * grid_w // arch.pixels)
    tiles = -(-groups // arch.acc_groups)
    per_tile = -(-groups // tiles)
    tiles = -(-groups // per_tile)
    return Grid(grid_w, out_w, out_h, groups, per_tile, tiles, groups - (tiles - 1) * per_tile)


def _range(offset: int, stride: int, size: int, count: int) -> tuple[int, int]:
    """Indices o < count with 0 <= stride*o + offset < size, as a half-open range; (0, 0) when there are none."""
    low, high = max(0, -(offset // stride)), min(count, -(-(size - offset) // stride))
    return (low, high) if low < high else (0, 0)


def window_taps(window: Window, layout: Layout, first_row: int = 0) -> tuple[Tap, ...]:
    """Taps in order (ky, kx) on an input of `layout`; first_row: where the image begins (even when it is split)."""
    taps = []
    above = (first_row >> 1 if layout.split else first_row) * layout.pitch
    step = 1 if window.reading is Reading.ANY else window.stride
    for ky in range(window.kernel[0]):
        for kx in range(window.kernel[1]):
            dy, dx = ky - window.top, kx - window.left
            y_lo, y_hi = _range(dy, step, window.in_size[0], window.out_size[0])
            x_lo, x_hi = _range(dx, step, window.in_size[1], window.out_size[1])
            if y_lo == y_hi or x_lo == x_hi:
                taps.append(Tap(0, 0, 0, 0, 0))
                continue
            if layout.split:
                phase = 2 * (dy & 1) + (dx & 1)
                offset = phase * layout.phase_pixels + (dy >> 1) * layout.pitch + (dx >> 1)
            else:
                offset = dy * layout.pitch + dx
            taps.append(Tap(above + offset, y_lo, y_hi, x_lo, x_hi))
    return tuple(taps)


def window_grid(window: Window, layout: Layout, arch: ArchConfig, images: int = 1) -> Grid:
    """The grid that walks a window over an input of `layout`; the pitch of the image read is the grid's width."""
    rows, cols = window.out_size
    if window.reading is Reading.ANY:
        return make_grid(1, 1, images, arch)
    return make_grid(layout.pitch, cols, images * rows, arch)


def highest_word(grid: Grid, taps: tuple[Tap, ...], pixels: int) -> IntArray:
    """Per tile: input words (of one chunk, counted from its first) that the tile's written pixels need."""
    y, x = np.arange(grid.out_h)[:, None], np.arange(grid.out_w)[None, :]
    position = y * grid.grid_w + x
    tile = (position // (grid.tile_groups * pixels)).ravel()
    need = np.zeros(grid.n_tiles, dtype=np.int64)
    for tap in taps:
        inside = (y >= tap.y_lo) & (y < tap.y_hi) & (x >= tap.x_lo) & (x < tap.x_hi)
        word = np.where(inside, position + tap.offset + 1, 0).ravel()
        np.maximum.at(need, tile, word)
    return need
