"""bl_requant against bitloom.numerics, every shift, random and corner operands."""

from __future__ import annotations

import re

import numpy as np
import pytest
from vector_bench import RTL, VectorBench, as_bytes, as_ints

from bitloom.numerics.fixed import clamp, rshift

SHIFTS = np.array([4, 10, 16, 22])
PACKAGE = (RTL / "bl_latency_pkg.sv").read_text()
LATENCY, RES_DELAY = (int(re.search(rf"{name}\s*=\s*(\d+)", PACKAGE)[1]) for name in ("RequantLatency", "ResDelay"))
INPUTS = {
    "acc_i": 32, "m_i": 18, "s_i": 2, "pre_i": 1, "res_i": 8, "res_mult_i": 16, "post_i": 32, "lo_i": 8, "hi_i": 8,
}  # fmt: skip


def check(rng: np.random.Generator, s_sel: np.ndarray, layer: tuple[int, int, int, int], corners: bool) -> int:
    """Compares one layer's run and returns how many operands were inside the contract."""
    res_mult, post, lo, hi = layer
    cycles = len(s_sel)
    pre = rng.integers(0, 2, cycles)
    size = rng.integers(1, 27, cycles)
    a = rng.integers(-(1 << size) + 1, 1 << size)
    mult = rng.integers(0, 1 << rng.integers(1, 18, cycles))
    if corners:
        a = rng.choice([0, 1, -1, (1 << 26) - 1, 1 - (1 << 26)], cycles)
        mult = rng.choice([0, 1, (1 << 16), (1 << 17) - 1], cycles)
    mult = mult * rng.choice([-1, 1], cycles)
    acc = np.where(pre == 1, a * 16 + rng.integers(0, 16, cycles), a)
    res = rng.integers(-127, 128, cycles)
    t = rshift((acc >> (4 * pre)) * mult, SHIFTS[s_sel])
    total = t + res * res_mult + post
    legal = (np.abs(t) < 1 << 31) & (np.abs(total) < (1 << 31) - 2048)
    expected = clamp(rshift(total, 12), lo, hi)
    bench = VectorBench("bl_requant", INPUTS, {"code_o": 8})
    const = {
        "res_mult_i": as_bytes(np.full(cycles, res_mult), 16),
        "post_i": as_bytes(np.full(cycles, post), 32),
        "lo_i": as_bytes(np.full(cycles, lo), 8),
        "hi_i": as_bytes(np.full(cycles, hi), 8),
    }
    out = bench.run(
        cycles, acc_i=as_bytes(acc, 32), m_i=as_bytes(mult, 18), s_i=as_bytes(s_sel, 2), pre_i=as_bytes(pre, 1),
        res_i=as_bytes(np.roll(res, RES_DELAY), 8), **const,
    )  # fmt: skip
    got = as_ints(out["code_o"], 8)[LATENCY:]
    keep = legal[: cycles - LATENCY]
    np.testing.assert_array_equal(got[keep], expected[: cycles - LATENCY][keep])
    return int(keep.sum())


@pytest.mark.parametrize("corners", [False, True], ids=["random", "corners"])
@pytest.mark.parametrize("s_sel", range(4))
def test_every_shift(s_sel: int, corners: bool) -> None:
    rng = np.random.default_rng(s_sel)
    for layer in ((0, 0, -127, 127), (4096, -(1 << 19), -127, 127), (65535, 12345, -3, 100), (1, -(1 << 30), 0, 127)):
        assert check(rng, np.full(4000, s_sel), layer, corners) > 400


def test_shift_changes_every_cycle() -> None:
    rng = np.random.default_rng(7)
    assert check(rng, rng.integers(0, 4, 20000), (2900, 77777, -127, 127), False) > 5000


def test_ties_go_up_and_identity_keeps_codes() -> None:
    codes = np.arange(-127, 128)
    acc = np.concatenate([codes, np.array([1, -1, 3, -3])])
    mult = np.concatenate([np.full(255, 1 << 16), np.full(4, 1 << 15)])  # x + 1/2 rounds to x + 1
    cycles = len(acc) + LATENCY
    pad = np.zeros(LATENCY, np.int64)
    zero = np.zeros(cycles, np.int64)
    out = VectorBench("bl_requant", INPUTS, {"code_o": 8}).run(
        cycles, acc_i=as_bytes(np.concatenate([acc, pad]), 32), m_i=as_bytes(np.concatenate([mult, pad]), 18),
        s_i=as_bytes(zero, 2), pre_i=as_bytes(zero, 1), res_i=as_bytes(zero, 8), res_mult_i=as_bytes(zero, 16),
        post_i=as_bytes(zero, 32), lo_i=as_bytes(zero - 127, 8), hi_i=as_bytes(zero + 127, 8),
    )  # fmt: skip
    np.testing.assert_array_equal(as_ints(out["code_o"], 8)[LATENCY:], [*codes, 1, 0, 2, -1])
