"""Coordinate descent and the search of scales: never worse on their own objective, codes within their widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.quantize.code_range import code_range, highest, lowest
from bitloom.quantize.descent import BLOCK, descend
from bitloom.quantize.rounding import Rounding, RoundingOptions, round_layer


def _case(seed: int, rows: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, inputs)).astype(np.float32)
    x = rng.standard_normal((3 * inputs, inputs)) @ rng.standard_normal((inputs, inputs))
    return torch.from_numpy(weight), torch.from_numpy(np.cov(x.T, bias=True).astype(np.float32).reshape(inputs, inputs))


def _error(weight: torch.Tensor, codes: torch.Tensor, cov: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    gap = (weight - codes * scale[:, None]).double()
    return ((gap @ cov.double()) * gap).sum(dim=1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), inputs=st.integers(1, 40), bits=st.sampled_from([0, 1, 2, 3, 5]))
def test_a_sweep_never_raises_the_error(seed: int, inputs: int, bits: int) -> None:
    weight, cov = _case(seed, 5, inputs)
    legal = code_range(torch.full((5,), bits))
    scale = weight.abs().amax(dim=1) / max(highest(bits), 1)
    codes = legal.columns().nearest(weight / scale[:, None])
    better = descend(weight, codes, cov, scale, legal, 0.0)
    assert torch.equal(legal.columns().nearest(better), better)
    before = _error(weight, codes, cov, scale)
    assert bool((_error(weight, better, cov, scale) <= before * (1 + 1e-4) + 1e-6).all())


def test_no_single_code_can_be_improved_after_many_sweeps() -> None:
    weight, cov = _case(1, 3, 9)
    scale, legal = torch.full((3,), 0.7), code_range(torch.full((3,), 2))
    codes = torch.zeros_like(weight)
    for _ in range(50):
        codes = descend(weight, codes, cov, scale, legal, 0.0)
    best = _error(weight, codes, cov, scale)
    for k in range(9):
        for value in (-2.0, -1.0, 0.0, 1.0):
            other = codes.clone()
            other[:, k] = value
            assert bool((_error(weight, other, cov, scale) >= best - 1e-3 * best.mean()).all())


def test_sweeps_do_not_depend_on_the_block() -> None:
    weight, cov = _case(2, 4, BLOCK + 40)
    scale, legal = torch.full((4,), 0.5), code_range(torch.full((4,), 3))
    codes = torch.clamp(torch.round(weight / 0.5), -4, 3)
    gap, q = weight.double() - codes * 0.5, codes.clone()
    slope, order = gap @ cov.double(), torch.argsort(cov.diagonal(), descending=True)
    for k in order.tolist():  # the plain loop, in float64
        new = torch.clamp(torch.round(q[:, k] + (slope[:, k] / (0.5 * float(cov[k, k]))).float()), -4, 3)
        slope -= ((new - q[:, k]) * 0.5).double()[:, None] * cov[k].double()
        q[:, k] = new
    assert float((descend(weight, codes, cov, scale, legal, 0.0) == q).float().mean()) > 0.995


@pytest.mark.parametrize("bits", [1, 2, 3])
def test_search_and_descent_lower_the_error_of_gptq(bits: int) -> None:
    weight, cov = _case(3, 24, 60)
    plain = round_layer(weight.numpy(), cov.numpy(), (bits,), Rounding.GPTQ, RoundingOptions(search=False, sweeps=0))
    full = round_layer(weight.numpy(), cov.numpy(), (bits,), Rounding.GPTQ)
    assert full.codes[bits].min() == lowest(bits) and full.codes[bits].max() <= highest(bits)
    assert full.error.sum() < 0.95 * plain.error.sum()
