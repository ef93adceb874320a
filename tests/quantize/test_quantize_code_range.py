"""Codes of every width: what the hardware takes, what they are worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitloom.numerics.packing import digits
from bitloom.quantize.code_range import code_range, highest, lowest
from bitloom.quantize.rounding import Rounding, round_layer


def test_every_code_fits_its_bits_and_the_digits_of_the_array() -> None:
    for bits in range(2, 9):
        codes = np.arange(lowest(bits), highest(bits) + 1)
        assert codes.min() >= -(1 << (bits - 1)) and codes.max() < 1 << (bits - 1)
        parts = digits(codes) if bits > 5 else (codes,)
        assert max(np.abs(part).max() for part in parts) <= 15
    assert (highest(0), lowest(0)) == (0, 0)


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_nearest_code_of_every_width(symmetric: bool) -> None:
    """Against a search through all codes; ties are left out."""
    values = torch.linspace(-140, 140, 4001) + 1e-3
    for bits in range(9):
        low = -highest(bits) if symmetric else lowest(bits)
        legal = torch.tensor([-1.0, 1.0]) if bits == 1 else torch.arange(low, highest(bits) + 1.0)
        found = code_range(torch.full((4001,), bits), symmetric).nearest(values)
        best = legal[(values[:, None] - legal).abs().argmin(dim=1)]
        assert torch.equal(found, best), bits


def test_ranges_of_rows_go_with_them() -> None:
    whole = code_range(torch.arange(9))
    assert whole.low.tolist() == [lowest(b) for b in range(9)] and whole.top.tolist() == [highest(b) for b in range(9)]
    values = torch.linspace(-2.3, 2.4, 9)
    rows = torch.tensor([1, 3, 8])
    assert torch.equal(whole[rows].nearest(values[rows]), whole.nearest(values)[rows])
    table = whole.columns().nearest(values.expand(9, 9))
    assert torch.equal(table.diagonal(), whole.nearest(values)) and table[1].abs().tolist() == [1.0] * 9
    assert code_range(torch.tensor([0, 2, 8])).binary is None


@pytest.mark.parametrize(("bits", "most"), [(2, 0.86), (3, 0.93), (4, 0.97)])
def test_the_lowest_code_lowers_the_error(bits: int, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaussian rows under an identity covariance; `most`: of the symmetric codes' error."""
    rng = np.random.default_rng(0)
    weight, cov = rng.standard_normal((64, 96)).astype(np.float32), np.eye(96, dtype=np.float32)
    full = round_layer(weight, cov, (bits,), Rounding.GPTQ).error.sum()
    monkeypatch.setattr("bitloom.quantize.code_range.FULL_RANGE", 0)
    assert full < most * round_layer(weight, cov, (bits,), Rounding.GPTQ).error.sum()
