"""bl_act_mem against arrays: array, residual, drain and DMA in the same cycle, half by half."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "compute"))

from vector_bench import VectorBench, bits_to_bytes, bytes_to_bits


def _bits(values: np.ndarray, width: int) -> np.ndarray:
    """(cycles, n) integers -> (cycles, n * width) bits."""
    return ((values[..., None] >> np.arange(width)) & 1).reshape(len(values), -1)


@pytest.mark.parametrize(("pixels", "channels", "drain", "rows"), [(2, 8, 4, 64), (6, 4, 4, 96)])
def test_every_port_in_every_cycle(pixels: int, channels: int, drain: int, rows: int) -> None:
    rng = np.random.default_rng(rows)
    cycles, row_w, slices = 3000, (rows - 1).bit_length(), channels // drain
    half = 1 << (row_w - 1)
    a, r, b = (rng.integers(0, rows, (cycles, pixels)) for _ in range(3))
    r = np.where((a >= half) == (r >= half), (r + half) % rows, r)
    r = np.where((a >= half) == (r >= half), a, r)  # the same word is no conflict
    en_a, we_b, valid_d = (rng.integers(0, 2, cycles) for _ in range(3))
    en_r, en_b = (rng.integers(0, 2, (cycles, pixels)) for _ in range(2))
    slice_b = rng.integers(0, 1 << slices, (cycles, pixels))
    d_b, bank_d = rng.integers(0, 256, (cycles, pixels * channels)), rng.integers(0, pixels, cycles)
    row_d, d_d = rng.integers(0, rows, cycles), rng.integers(0, 256, (cycles, channels))
    for x in range(rows * pixels):  # every word is written before anything is read
        en_a[x] = we_b[x] = en_r[x] = en_b[x] = 0
        valid_d[x], bank_d[x], row_d[x] = 1, x % pixels, x // pixels
    hits = (b == row_d[:, None]) & (np.arange(pixels) == bank_d[:, None])
    en_b &= ~hits.any(axis=1, keepdims=True) | (we_b[:, None] == 1)
    bank_w = max(1, (pixels - 1).bit_length())
    word = 8 * channels
    inputs = {
        "en_a_i": 1,
        "row_a_i": row_w * pixels,
        "en_r_i": pixels,
        "row_r_i": row_w * pixels,
        "en_b_i": pixels,
        "we_b_i": 1,
        "slice_b_i": slices * pixels,
        "row_b_i": row_w * pixels,
        "d_b_i": word * pixels,
        "valid_d_i": 1,
        "bank_d_i": bank_w,
        "row_d_i": row_w,
        "d_d_i": word,
    }
    drive = {
        "en_a_i": en_a[:, None],
        "row_a_i": _bits(a, row_w),
        "en_r_i": en_r,
        "row_r_i": _bits(r, row_w),
        "en_b_i": en_b,
        "we_b_i": we_b[:, None],
        "slice_b_i": _bits(slice_b, slices),
        "row_b_i": _bits(b, row_w),
        "d_b_i": _bits(d_b, 8),
        "valid_d_i": valid_d[:, None],
        "bank_d_i": _bits(bank_d[:, None], bank_w),
        "row_d_i": _bits(row_d[:, None], row_w),
        "d_d_i": _bits(d_d, 8),
    }
    outputs = {"q_a_o": word * pixels, "q_r_o": word * pixels, "q_b_o": word * pixels, "ready_d_o": 1}
    bench = VectorBench("bl_act_mem", inputs, outputs, {"P": pixels, "C": channels, "DC": drain, "ActRows": rows})
    out = bench.run(cycles, **{n: _wide(bits_to_bytes(v), inputs[n]) for n, v in drive.items()})
    seen = {n: bytes_to_bits(out[n], word * pixels).reshape(cycles, pixels, channels, 8) for n in list(outputs)[:3]}
    memory = np.zeros((pixels, rows, channels), np.int64)
    accepted = checked = 0
    for t in range(cycles - 3):
        before = memory.copy()
        written = set()
        for p in range(pixels):
            if en_b[t, p] and we_b[t]:
                mask = np.repeat(slice_b[t, p] >> np.arange(slices) & 1, drain).astype(bool)
                memory[p, b[t, p]][mask] = d_b[t].reshape(pixels, channels)[p][mask]
                written.add((p, int(b[t, p])))
        bank = int(bank_d[t])
        free = not (en_b[t, bank] and (b[t, bank] >= half) == (row_d[t] >= half))
        assert bool(out["ready_d_o"][t, 0] & 1) == free
        if valid_d[t] and free:
            memory[bank, row_d[t]] = d_d[t]
            written.add((bank, int(row_d[t])))
            accepted += 1
        for p in range(pixels):
            wants = [("q_a_o", en_a[t], a[t, p]), ("q_r_o", en_r[t, p], r[t, p])]
            wants += [("q_b_o", en_b[t, p] and not we_b[t], b[t, p])]
            for name, enabled, row in wants:
                if enabled and (p, int(row)) not in written:
                    got = (seen[name][t + 2, p] << np.arange(8)).sum(axis=1)
                    np.testing.assert_array_equal(got, before[p, row], err_msg=f"{name} cycle {t} bank {p}")
                    checked += 1
    assert accepted > 500 and checked > 1000


def _wide(raw: np.ndarray, width: int) -> np.ndarray:
    """Bytes of the port's C++ type."""
    size = next((s for s in (1, 2, 4, 8) if width <= 8 * s), 4 * ((width + 31) // 32))
    return np.pad(raw, ((0, 0), (0, size - raw.shape[1])))
