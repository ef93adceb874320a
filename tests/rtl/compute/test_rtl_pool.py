"""bl_pool, one pixel, against numpy: maximum over inside taps, sum over all taps, with gaps between the taps."""

from __future__ import annotations

import numpy as np
import pytest
from vector_bench import VectorBench, as_bytes, as_ints


@pytest.mark.parametrize("channels", [8, 4])
def test_windows(channels: int) -> None:
    rng = np.random.default_rng(channels)
    cycles = 3000
    bench = VectorBench(
        "bl_pool",
        {"rst_i": 1, "valid_i": 1, "first_i": 1, "last_i": 1, "max_i": 1, "inside_i": 1, "act_i": 8 * channels},
        {"valid_o": 1, "acc_o": 24 * channels},
        {"C": channels},
    )  # fmt: skip
    valid, first, last = (np.zeros(cycles, np.int64) for _ in range(3))
    maximum = np.zeros(cycles, np.int64)
    act = rng.integers(-127, 128, (cycles, channels))
    inside = rng.integers(0, 2, cycles)
    expected: dict[int, np.ndarray] = {}
    at = 1
    while at < cycles - 120:
        taps = int(rng.choice([1, 1, 4, 9, 49]))
        at += int(rng.integers(0, 3))
        steps = [at]
        for _ in range(taps - 1):
            steps.append(steps[-1] + 1 + int(rng.random() < 0.2))
        valid[steps], first[steps[0]], last[steps[-1]] = 1, 1, 1
        mode = int(rng.integers(0, 2))
        maximum[steps] = mode
        if rng.random() < 0.2:
            act[steps] = -127 if rng.random() < 0.5 else 127
        shown = np.where(inside[steps][:, None] == 1, act[steps], -128).max(axis=0)
        expected[steps[-1] + 2] = shown if mode else act[steps].sum(axis=0)
        at = steps[-1] + 1
    reset = np.zeros(cycles, np.int64)
    reset[0] = 1
    out = bench.run(
        cycles, rst_i=as_bytes(reset, 1), valid_i=as_bytes(valid, 1), first_i=as_bytes(first, 1),
        last_i=as_bytes(last, 1), max_i=as_bytes(maximum, 1), inside_i=as_bytes(inside, 1),
        act_i=np.roll(act, 1, axis=0).astype(np.int8).view(np.uint8),  # one cycle behind the control
    )  # fmt: skip
    assert len(expected) > 50
    np.testing.assert_array_equal(np.nonzero(out["valid_o"][1:, 0])[0] + 1, sorted(expected))
    words = out["acc_o"][:, : 3 * channels].reshape(-1, 3)
    got = as_ints(words, 24).reshape(cycles, channels)
    for cycle, value in expected.items():
        np.testing.assert_array_equal(got[cycle], value)
