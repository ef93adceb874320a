"""Rounding, saturation and requantization against exact rationals."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitloom.errors import GraphError
from bitloom.numerics.fixed import clamp, round_half_up, rshift
from bitloom.numerics.requantize import (
    FRACTION_BITS,
    RATIO_LIMIT,
    SHIFTS,
    Requant,
    accumulator_bound,
    choose_requant,
    requantize,
    residual_multiplier,
)


@given(st.integers(-(1 << 50), 1 << 50), st.integers(0, 30))
def test_rshift_is_floor_of_half_up(x: int, n: int) -> None:
    assert int(rshift(x, n)) == math.floor(Fraction(x, 1 << n) + Fraction(1, 2))


def test_rshift_ties_go_up() -> None:
    assert rshift([-6, -2, 2, 6], 2).tolist() == [-1, 0, 1, 2]
    assert round_half_up([-1.5, -0.5, 0.5, 1.5]).tolist() == [-1, 0, 1, 2]


def test_clamp() -> None:
    assert clamp([-300, -5, 300], -127, 100).tolist() == [-127, -5, 100]


@given(
    acc=st.integers(-(1 << 29), 1 << 29),
    mult=st.integers(1 - (1 << 17), (1 << 17) - 1),
    s_sel=st.integers(0, 3),
    pre=st.integers(0, 1),
    post=st.integers(-(1 << 20), 1 << 20),
    residual=st.integers(-127, 127),
    res_mult=st.integers(0, (1 << 16) - 1),
)
def test_requantize_is_the_specification(
    acc: int, mult: int, s_sel: int, pre: int, post: int, residual: int, res_mult: int
) -> None:
    half = Fraction(1, 2)
    a = math.floor(Fraction(acc, 16**pre))
    t = math.floor(Fraction(a * mult, 1 << SHIFTS[s_sel]) + half)
    expected = min(max(math.floor(Fraction(t + residual * res_mult + post, 4096) + half), -100), 90)
    arrays = (np.array([mult], np.int32), np.array([s_sel], np.int8), np.array([pre], np.int8))
    requant = Requant(*arrays, post, -100, 90, res_mult)
    result = requantize(np.full((1, 1, 1), acc), requant, np.full((1, 1, 1), residual, np.int8))
    assert result.dtype == np.int8 and int(result[0, 0, 0]) == expected


def test_the_identity_pool_keeps_codes() -> None:
    requant = Requant(np.array([1 << 16], np.int32), np.zeros(1, np.int8), np.zeros(1, np.int8), 0, -127, 127)
    codes = np.arange(-127, 128).reshape(1, 1, -1)
    assert (requantize(codes, requant) == codes).all()


@given(st.floats(1e-9, RATIO_LIMIT * 0.999), st.sampled_from([-1, 1]), st.integers(0, (1 << 30) - 17))
def test_choice_takes_the_largest_shift_and_keeps_every_bound(ratio: float, sign: int, bound: int) -> None:
    try:
        requant = choose_requant(np.array([sign * ratio]), np.array([bound]), 0, -127, 127, 0, "conv")
    except GraphError as error:
        assert "bound is" in str(error)
        assert bound * ratio > (1 << 18)
        return
    mult, shift, pre = sign * int(requant.mult[0]), SHIFTS[int(requant.s_sel[0])], int(requant.pre[0])
    assert pre == (bound >= 1 << 26) and mult < 1 << 17
    exact = Fraction(ratio) * 2 ** (FRACTION_BITS + shift + 4 * pre)
    assert abs(mult - exact) <= Fraction(1, 2)
    larger = [s for s in SHIFTS if s > shift]
    assert not larger or ratio * 2.0 ** (FRACTION_BITS + larger[0] + 4 * pre) > (1 << 17) - 1
    assert abs((bound >> (4 * pre)) * mult / 2**shift) < 1 << 31


@pytest.mark.parametrize(
    ("ratio", "bound", "text"),
    [
        (RATIO_LIMIT, 10, r"fc: channel 1: scale ratio is 2.0, must be below 2; give the output"),
        (float("nan"), 10, r"fc: channel 1: scale ratio is nan"),
        (0.1, 1 << 30, r"fc: channel 1: accumulator bound is 1073741824, must be below 1073741824; use fewer bits"),
        (1.0, 1 << 25, r"fc: channel 1: t bound is .* must be below 2147483648"),
    ],
)
def test_overflow_is_refused(ratio: float, bound: int, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        choose_requant(np.array([0.01, ratio]), np.array([5, bound]), 0, -127, 127, 0, "fc")


def test_sum_overflow_is_refused() -> None:
    with pytest.raises(GraphError, match="u bound"):
        choose_requant(np.array([0.5]), np.array([1000]), 1 << 31, -127, 127, 0, "fc")


def test_residual_multiplier() -> None:
    assert residual_multiplier(0.5, "add") == 2048
    with pytest.raises(GraphError, match=r"add: residual scale ratio 16 needs a multiplier of 65536, legal: 0..65535"):
        residual_multiplier(16.0, "add")


def test_accumulator_bound_holds_the_worst_input() -> None:
    weight = np.array([[[[3, -7]]], [[[0, 0]]]], np.int8)
    assert accumulator_bound(weight, np.array([-5, 9], np.int32)).tolist() == [1275, 9]
