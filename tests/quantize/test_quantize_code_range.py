"""Codes of every width: what the hardware takes, what they are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitloom.numerics.packing import digits
from bitloom.quantize.code_range import highest, lowest, lows, within
from bitloom.quantize.rounding import Rounding, round_layer


def test_every_code_fits_its_bits_and_the_digits_of_the_array() -> None:
    for bits in range(2, 9):
        codes = np.arange(lowest(bits), highest(bits) + 1)
        assert codes.min() >= -(1 << (bits - 1)) and codes.max() < 1 << (bits - 1)
        parts = digits(codes) if bits > 5 else (codes,)
        assert max(np.abs(part).max() for part in parts) <= 15
    assert (highest(0), lowest(0)) == (0, 0)


def test_lows_belong_to_their_tops() -> None:
    widths = [0, 2, 3, 4, 5, 6, 7, 8]
    tops = torch.tensor([float(highest(b)) for b in widths])
    assert lows(tops).tolist() == [lowest(b) for b in widths]
    assert within(torch.full((8,), -1000.0), tops).tolist() == [lowest(b) for b in widths]
    assert within(torch.full((8,), 1000.0), tops).tolist() == [highest(b) for b in widths]


@pytest.mark.parametrize(("bits", "most"), [(2, 0.86), (3, 0.93), (4, 0.97)])
def test_the_lowest_code_lowers_the_error(bits: int, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaussian rows under an identity covariance; `most`: of the symmetric codes' error."""
    rng = np.random.default_rng(0)
    weight, cov = rng.standard_normal((64, 96)).astype(np.float32), np.eye(96, dtype=np.float32)
    full = round_layer(weight, cov, (bits,), Rounding.GPTQ).error.sum()
    monkeypatch.setattr("bitloom.quantize.code_range.FULL_RANGE", 0)
    assert full < most * round_layer(weight, cov, (bits,), Rounding.GPTQ).error.sum()
