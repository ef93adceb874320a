"""Four products in one DSP: exact on the contract's ranges, wrong just outside them."""

from __future__ import annotations

import numpy as np

from bitloom.numerics.packing import digits, pack_products

ACTIVATIONS = np.arange(-127, 128)
DIGITS = np.arange(-15, 16)


def _wrong(w0: object, w1: object, a0: object, a1: object) -> int:
    d0, d1, b0, b1 = np.broadcast_arrays(w0, w1, a0, a1)
    lanes = pack_products(d0, d1, b0, b1)
    exact = (d0 * b0, d0 * b1, d1 * b0, d1 * b1)
    return sum(int((lane != product).sum()) for lane, product in zip(lanes, exact, strict=True))


def test_every_weight_and_activation_pair() -> None:
    w, a0, a1 = np.meshgrid(DIGITS, ACTIVATIONS, ACTIVATIONS, indexing="ij")
    assert _wrong(w, 0, a0, a1) == 0
    assert _wrong(0, w, a0, a1) == 0


def test_upper_lanes_beside_every_lower_one() -> None:
    """The two lanes of w1 with every (w1, a0, a1), while w0 is at its ends: the carry out of the lower lanes."""
    w1, a0, a1 = np.meshgrid(DIGITS, ACTIVATIONS, ACTIVATIONS, indexing="ij")
    for w0 in (-15, -1, 1, 15):
        assert _wrong(w0, w1, a0, a1) == 0
        assert _wrong(w1, w0, a0, a1) == 0


def test_all_weight_pairs_at_activation_corners() -> None:
    corners = np.array([-127, -126, -64, -1, 0, 1, 63, 126, 127])
    w0, w1, a0, a1 = np.meshgrid(DIGITS, DIGITS, corners, corners, indexing="ij")
    assert _wrong(w0, w1, a0, a1) == 0


def test_weight_corners_at_all_activations() -> None:
    corners = np.array([-15, -1, 0, 1, 15])
    w0, w1, a0, a1 = np.meshgrid(corners, corners, ACTIVATIONS, ACTIVATIONS, indexing="ij")
    assert _wrong(w0, w1, a0, a1) == 0


def test_random_operands() -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(-15, 16, (2, 500_000))
    a = rng.integers(-127, 128, (2, 500_000))
    assert _wrong(w[0], w[1], a[0], a[1]) == 0


def test_activation_minus_128_breaks_it() -> None:
    negative = np.arange(-127, 0)
    assert _wrong(DIGITS[DIGITS != 0], 0, negative[:, None], -128) > 0
    assert _wrong(0, 15, -1, -128) > 0


def test_digit_16_breaks_it() -> None:
    assert _wrong(DIGITS[DIGITS >= 0], 16, ACTIVATIONS[ACTIVATIONS != 0][:, None], 5) > 0
    assert _wrong(0, 16, 1, 0) > 0


def test_digits_of_every_wide_weight() -> None:
    for bits in (6, 7, 8):
        top = (1 << (bits - 1)) - 1
        weight = np.arange(-top, top + 1)
        hi, lo = digits(weight)
        assert (16 * hi + lo == weight).all() and lo.min() >= 0 and lo.max() <= 15
        assert hi.min() >= -(1 << (bits - 5)) and hi.max() < 1 << (bits - 5)
