"""bl_mac_array, packed and fast form, against integer matrix products."""

from __future__ import annotations

import numpy as np
import pytest
from vector_bench import VectorBench, bits_to_bytes


def array_latency(channels: int) -> int:
    levels, terms = 0, channels
    while terms > 1:
        terms, levels = -(-terms // 3), levels + 1
    return 5 + levels


def sums_of(pixels: int, channels: int, vector: int, defines: tuple[str, ...], act: np.ndarray, digit: np.ndarray):
    """sum_o (cycles, P, M) for act (cycles, P, C) and digit (cycles, M, C), the digit given one cycle later."""
    bench = VectorBench(
        "bl_mac_array",
        {"act_i": 8 * pixels * channels, "digit_i": 5 * vector * channels},
        {"sum_o": 32 * pixels * vector},
        {"P": pixels, "C": channels, "M": vector},
        defines,
    )
    planes = np.stack([(np.roll(digit, 1, axis=0) >> k) & 1 for k in range(5)], axis=1)
    raw = bench.run(
        len(act), act_i=act.astype(np.int8).reshape(len(act), -1).view(np.uint8), digit_i=bits_to_bytes(planes)
    )["sum_o"]
    return np.ascontiguousarray(raw).view(np.int32).reshape(len(act), pixels, vector)


@pytest.mark.parametrize("defines", [(), ("BITLOOM_FAST",)], ids=["packed", "fast"])
@pytest.mark.parametrize("shape", [(2, 4, 4), (4, 8, 6), (6, 10, 4), (2, 32, 2), (8, 3, 2)])
def test_sums_equal_integer_products(shape: tuple[int, int, int], defines: tuple[str, ...]) -> None:
    pixels, channels, vector = shape
    rng = np.random.default_rng(20 + channels)
    cycles = 400
    act = rng.integers(-127, 128, (cycles, pixels, channels))
    digit = np.repeat(rng.integers(-15, 16, (cycles // 4, vector, channels)), 4, axis=0)
    # Corners: every operand at an end of its range, all channels alike (the largest sums) or mixed.
    act[100:200] = rng.choice([-127, 127], (100, pixels, channels))
    digit[100:200] = rng.choice([-15, 15], (100, vector, channels))
    act[200:210], digit[200:210] = 127, 15
    act[210:220], digit[210:220] = -127, 15
    act[220:230], digit[220:230] = 127, -15
    act[230:240], digit[230:240] = 0, rng.choice([-15, 0, 15], (10, vector, channels))
    late = array_latency(channels)
    got = sums_of(pixels, channels, vector, defines, act, digit)
    expected = np.einsum("tpc,tmc->tpm", act, digit)
    np.testing.assert_array_equal(got[late:], expected[: cycles - late])


def test_packed_and_fast_forms_keep_one_latency_on_sparse_activity() -> None:
    """One nonzero activation in a stream of zeros comes out in the same cycle of both forms."""
    act = np.zeros((40, 2, 8), np.int64)
    act[10, 1, 3] = 127
    digit = np.full((40, 4, 8), -15)
    packed, fast = (sums_of(2, 4, 4, defines, act[..., :4], digit[..., :4]) for defines in ((), ("BITLOOM_FAST",)))
    hit = 10 + array_latency(4)
    np.testing.assert_array_equal(np.nonzero(packed[array_latency(4) :].any((1, 2)))[0] + array_latency(4), [hit])
    np.testing.assert_array_equal(packed[array_latency(4) :], fast[array_latency(4) :])
    np.testing.assert_array_equal(packed[hit], [[0] * 4, [-1905] * 4])
