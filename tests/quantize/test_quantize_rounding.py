"""Rounding of one layer: codes within their widths, honest errors, GPTQ better than nearest, scales that minimize."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.errors import WeightsError
from bitloom.graph.allocation import WIDTHS
from bitloom.quantize import rounding
from bitloom.quantize.code_range import highest, lowest
from bitloom.quantize.observe import EXPONENT, fake_quantize, fit_quantizer, quantizer_of
from bitloom.quantize.rounding import Rounding, RoundingOptions, round_layer
from bitloom.quantize.row_scale import GAIN_LIMIT


def _layer(rows: int = 12, inputs: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Weights and the covariance of correlated inputs."""
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((rows, inputs)) / np.sqrt(inputs)).astype(np.float32)
    mix = rng.standard_normal((inputs, inputs)) * (rng.random(inputs) ** 2)
    x = rng.standard_normal((2000, inputs)) @ mix
    return weight, np.cov(x.T, bias=True).astype(np.float32)


@pytest.mark.parametrize("method", list(Rounding))
def test_codes_scales_and_errors_agree(method: Rounding) -> None:
    weight, cov = _layer()
    layer = round_layer(weight, cov, WIDTHS, method)
    assert layer.error.shape == (12, 9) and layer.widths == WIDTHS
    for i, b in enumerate(WIDTHS):
        codes, scale = layer.codes[b], layer.scale[b]
        assert codes.dtype == np.int8 and codes.shape == weight.shape and codes.max() <= highest(b)
        assert codes.min() >= (lowest(b) if method is Rounding.GPTQ else -highest(b))
        d = weight - codes * scale[:, None]
        np.testing.assert_allclose(layer.error[:, i], np.einsum("ok,kl,ol->o", d, cov, d), rtol=1e-3, atol=1e-9)
    assert set(np.unique(layer.codes[1])) == {-1, 1}
    means = layer.error.mean(axis=0)
    assert (np.diff(means) < 0).all()


def test_gptq_beats_nearest_where_inputs_are_correlated() -> None:
    weight, cov = _layer(seed=3)
    nearest = round_layer(weight, cov, (2, 3, 4, 8), Rounding.NEAREST).error.mean(axis=0)
    for order in (False, True):
        gptq = round_layer(weight, cov, (2, 3, 4, 8), Rounding.GPTQ, RoundingOptions(act_order=order)).error.mean(
            axis=0
        )
        assert (gptq < 0.8 * nearest).all()


def test_gptq_blocks_only_change_the_order_of_sums() -> None:
    weight, cov = _layer(seed=4)
    results = [round_layer(weight, cov, (4,), Rounding.GPTQ, RoundingOptions(block=n)).codes[4] for n in (1, 7, 128)]
    assert (results[0] == results[1]).mean() > 0.995 and (results[0] == results[2]).mean() > 0.995


def test_rows_are_independent_so_allocations_are_picks() -> None:
    weight, cov = _layer()
    whole = round_layer(weight, cov, WIDTHS, Rounding.GPTQ)
    bits = np.array([0, 2, 3, 4, 5, 6, 7, 8, 1, 2, 0, 1], np.int8)
    codes, scale = whole.pick(bits)
    for row, b in enumerate(bits):
        alone = round_layer(weight[row : row + 1], cov, (int(b),), Rounding.GPTQ)
        assert (alone.codes[int(b)][0] == codes[row]).mean() > 0.95
        assert np.isclose(alone.scale[int(b)][0], scale[row], rtol=1e-2)
    with pytest.raises(WeightsError, match="width 5 was not rounded"):
        round_layer(weight, cov, (4, 8)).pick(np.full(12, 5, np.int8))


def test_rows_rounded_piece_by_piece_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    weight, variance = rng.normal(size=(21, 40)).astype(np.float32), rng.uniform(0.1, 1, 40).astype(np.float32)
    whole = round_layer(weight, variance)
    monkeypatch.setattr(rounding, "PIECE", 200)  # 5 rows at a time
    pieces = round_layer(weight, variance)
    assert pieces.widths == whole.widths
    for b in whole.widths:
        np.testing.assert_array_equal(pieces.codes[b], whole.codes[b])
        np.testing.assert_allclose(pieces.scale[b], whole.scale[b], rtol=1e-6)
    np.testing.assert_allclose(pieces.error, whole.error, rtol=1e-5)


def test_nearest_is_nearest() -> None:
    weight, _ = _layer()
    layer = round_layer(weight, None, (8,))
    assert np.abs(weight - layer.codes[8] * layer.scale[8][:, None]).max() < 0.75 * layer.scale[8].max()


def test_pruned_and_zero_channels() -> None:
    weight, cov = _layer()
    weight[3] = 0.0
    layer = round_layer(weight, cov, WIDTHS, Rounding.GPTQ)
    assert not layer.codes[0].any() and not any(layer.codes[b][3].any() for b in WIDTHS)
    assert (layer.error[3] == 0).all() and np.isfinite(layer.error).all()
    np.testing.assert_allclose(layer.error[:, 0], np.einsum("ok,kl,ol->o", weight, cov, weight), rtol=1e-4)


def test_binary_rows_have_the_best_scale_and_signs() -> None:
    """To nearest: the closed form of XNOR-Net (Rastegari et al., 2016): signs, scaled by the mean size."""
    weight, _ = _layer()
    layer = round_layer(weight, None, (1,))
    np.testing.assert_array_equal(layer.codes[1], np.where(weight < 0, -1, 1))
    alpha = np.abs(weight).mean(axis=1)
    least = (weight**2).sum(axis=1) - 40 * alpha**2  # at alpha; `layer` keeps the gain instead
    assert (layer.error[:, 0] >= least * (1 - 1e-5)).all()
    one = np.minimum((weight**2).sum(axis=1) / (40 * alpha), GAIN_LIMIT * alpha)
    np.testing.assert_allclose(layer.scale[1], one, rtol=1e-4)


def test_singular_covariance() -> None:
    weight, _ = _layer()
    for cov in (np.zeros((40, 40), np.float32), np.ones((40, 40), np.float32)):
        layer = round_layer(weight, cov, (3, 8), Rounding.GPTQ)
        assert np.isfinite(layer.error).all() and np.isfinite(layer.scale[3]).all()


def test_broken_numbers_are_refused() -> None:
    weight, cov = _layer()
    cov[0, 0] = np.nan
    with pytest.raises(WeightsError, match=r"covariance of shape \(40, 40\) holds NaN"):
        round_layer(weight, cov, (4,), Rounding.GPTQ)
    weight[0, 0] = np.inf
    with pytest.raises(WeightsError, match=r"weights of shape \(12, 40\) hold NaN or infinite"):
        round_layer(weight, None, (4,))


def test_activation_quantizer_holds_zero_and_clips_outliers() -> None:
    assert quantizer_of(0.0, 254.0).zero_point == -127
    assert quantizer_of(-10.0, 0.0).zero_point == 127
    rng = np.random.default_rng(0)
    values = np.append(rng.standard_normal(400_000), [20.0]).astype(np.float32)
    fitted, whole = fit_quantizer(values), fit_quantizer(values, clip=False)
    assert fitted.scale < 0.75 * whole.scale and whole.scale == pytest.approx((20 - values.min()) / 254)
    relu = fit_quantizer(np.abs(values))
    assert relu.zero_point == -127


def test_a_range_has_the_least_error_of_its_exponent() -> None:
    values = np.random.default_rng(1).laplace(size=100_000).astype(np.float32)
    ranges = {p: fit_quantizer(values, exponent=p) for p in (1.4, 2.0)}
    assert ranges[1.4].scale < 0.97 * ranges[2.0].scale  # squares spare the tail
    assert fit_quantizer(values) == ranges[EXPONENT]
    for p in ranges:
        error = {q: float((np.abs(fake_quantize(values, q) - values) ** p).mean()) for q in ranges.values()}
        whole = fit_quantizer(values, clip=False)
        assert min(error, key=error.__getitem__) is ranges[p]
        assert error[ranges[p]] < float((np.abs(fake_quantize(values, whole) - values) ** p).mean())
