"""bl_coords against division: every group's rows and columns, images one below the other, tiles walked again."""

from __future__ import annotations

import numpy as np
import pytest
from vector_bench import VectorBench, as_bytes


@pytest.mark.parametrize("pixels", [2, 6, 16])
@pytest.mark.parametrize("seed", range(4))
def test_rows_count_from_each_image(pixels: int, seed: int) -> None:
    rng = np.random.default_rng((pixels, seed))
    grid_w, rows = int(rng.choice([1, 2, 7, 30])), int(rng.choice([1, 2, 5, 4095]))
    groups, tile, cycles = 40, int(rng.integers(1, 9)), 400
    advance = pixels // grid_w
    drive = {name: np.zeros(cycles, np.int64) for name in ("rst_i", "init_i", "go_i", "mark_i", "rewind_i", "home_i")}
    drive["rst_i"][0] = drive["init_i"][2] = 1
    expected: dict[int, int] = {}
    at = 4 + pixels
    for start in range(0, groups, tile):
        span = range(start, min(start + tile, groups))
        for again in (True, False):
            for group in span:
                expected[at] = group
                last = group == span[-1]
                drive["go_i"][at] = 1
                drive["rewind_i"][at] = last and again
                drive["home_i"][at] = last and not again and span[-1] == groups - 1
                drive["mark_i"][at] = last
                at += 1
    expected[at] = 0
    bench = VectorBench(
        "bl_coords",
        {**dict.fromkeys(drive, 1), "rows_i": 12, "grid_w_i": 17, "adv_y_i": 12, "adv_x_i": 17},
        {"ready_o": 1, "oy_o": 12 * pixels, "ox_o": 17 * pixels},
        {"P": pixels},
    )
    constants = {"rows_i": rows, "grid_w_i": grid_w, "adv_y_i": advance % rows, "adv_x_i": pixels % grid_w}
    widths = {"rows_i": 12, "grid_w_i": 17, "adv_y_i": 12, "adv_x_i": 17}
    out = bench.run(
        cycles,
        **{name: _pad(as_bytes(v, 1), 1) for name, v in drive.items()},
        **{name: _pad(as_bytes(np.full(cycles, v), widths[name]), widths[name]) for name, v in constants.items()},
    )
    for cycle, group in expected.items():
        n = group * pixels + np.arange(pixels)
        assert out["ready_o"][cycle, 0] & 1
        np.testing.assert_array_equal(_fields(out["oy_o"][cycle], 12, pixels), n // grid_w % rows)
        np.testing.assert_array_equal(_fields(out["ox_o"][cycle], 17, pixels), n % grid_w)


def _pad(raw: np.ndarray, width: int) -> np.ndarray:
    """Bytes of the port's C++ type."""
    size = next(s for s in (1, 2, 4, 8) if width <= 8 * s)
    return np.pad(raw, ((0, 0), (0, size - raw.shape[1])))


def _fields(raw: np.ndarray, width: int, count: int) -> np.ndarray:
    bits = np.unpackbits(np.ascontiguousarray(raw), bitorder="little")[: width * count].reshape(count, width)
    return (bits.astype(np.int64) << np.arange(width)).sum(axis=1)
