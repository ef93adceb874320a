"""The deviation of every channel and the slope of the last layer: found exactly, restored by all ways of quantizing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.graph.allocation import uniform
from bitloom.graph.execute import execute
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.quantize.coded import coded_network
from bitloom.quantize.compensate import compensate
from bitloom.quantize.gain import GAIN_LIMIT, POOLED, POSITIONS, deviation_factors, output_samples, restoring_gain
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.quantize import QuantizeOptions, quantize
from bitloom.quantize.tables import round_network
from quantize.small_networks import images as make_images
from quantize.small_networks import residual_graph

GRAPH = residual_graph()
IMAGES = make_images(64)
CALIBRATION = calibrate(GRAPH, IMAGES)
ROUNDED = round_network(CALIBRATION)


@given(seed=st.integers(0, 99), slope=st.floats(0.7, 1.4), noise=st.floats(0.0, 2.0))
@settings(max_examples=30, deadline=None)
def test_the_factor_makes_the_slope_one_whatever_noise_and_constants(seed: int, slope: float, noise: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(400, 3, 10, generator=generator, dtype=torch.float64)
    rest = torch.randn(400, 3, 10, generator=generator, dtype=torch.float64)
    found = slope * reference + noise * rest + torch.tensor([5.0, -3.0, 0.0])[:, None]
    gain = restoring_gain(reference, found)
    if 1 / GAIN_LIMIT < gain < GAIN_LIMIT:
        assert _slope(reference, gain * found) == pytest.approx(1.0, abs=1e-9)
    assert gain == pytest.approx(1 / slope, rel=0.08 * noise / slope + 1e-6)


def test_the_factor_is_one_where_nothing_can_be_said_and_limited_where_a_network_is_lost() -> None:
    noise = torch.randn(50, 2, 4, generator=torch.Generator().manual_seed(0))
    assert restoring_gain(torch.zeros(50, 2, 4), noise) == 1.0
    assert restoring_gain(noise, -noise) == 1.0
    assert restoring_gain(noise, torch.full_like(noise, float("nan"))) == 1.0
    assert restoring_gain(noise, 0.01 * noise) == GAIN_LIMIT
    assert restoring_gain(noise, 100 * noise) == 1 / GAIN_LIMIT


def test_samples_are_spread_over_the_map_and_both_ends_are_in() -> None:
    y = torch.arange(2 * 3 * 20 * 20).reshape(2, 3, 20, 20).float()
    found = output_samples(y)
    assert found.shape == (2, 3, POSITIONS)
    assert (found[..., 0] == y[..., 0, 0]).all() and (found[..., -1] == y[..., -1, -1]).all()
    assert output_samples(y[:, :, 0, 0]).shape == (2, 3, 1)


@pytest.mark.parametrize("bits", [2, 3])
def test_a_quantized_network_follows_the_float_one_with_slope_one(bits: int) -> None:
    allocation = uniform(GRAPH, bits)
    plain = quantize(GRAPH, allocation, CALIBRATION, QuantizeOptions(bias_correction=False), ROUNDED)
    found = quantize(GRAPH, allocation, CALIBRATION, rounded=ROUNDED)
    if bits == 2:  # at 3 bits so small a network happens to keep its slope
        assert abs(_logit_slope(plain) - 1) > 0.01
    assert _logit_slope(found) == pytest.approx(1.0, abs=0.005)
    again, _ = compensate(CALIBRATION.lowered, found, IMAGES)
    assert _logit_slope(again) == pytest.approx(1.0, abs=0.02)  # fitted on four fifths of the images


def test_the_probe_has_the_scales_that_quantize_makes_on_codes_and_in_float() -> None:
    bits = uniform(GRAPH, 3).bits
    whole = quantize(GRAPH, uniform(GRAPH, 3), CALIBRATION, rounded=ROUNDED)
    wanted = _last(whole)
    probe = Probe(CALIBRATION, ROUNDED)
    probe.place(bits)
    own = probe.rows(probe.last, bits[probe.last])
    probe.correct()
    row = probe.weight[probe.last].flatten(1).numpy()
    assert _gain(probe) == pytest.approx(float(row[0] @ own[0] / (own[0] @ own[0])), rel=1e-5)
    real = wanted.weight.reshape(len(wanted.bits), -1) * wanted.weight_scale[:, None]
    np.testing.assert_allclose(row, real, rtol=2e-3, atol=1e-6)
    for node in whole.nodes:
        if isinstance(node, QConv):
            real = node.weight.reshape(len(node.bits), -1) * node.weight_scale[:, None]
            np.testing.assert_allclose(probe.weight[node.name].flatten(1).numpy(), real, rtol=2e-2, atol=1e-6)
    first = {name: gains.clone() for name, gains in probe.gains.items()}
    probe.correct()  # a second time changes nothing, but for rounding of activations and what few values are drawn to
    for name, gains in probe.gains.items():
        np.testing.assert_allclose(gains.numpy(), first[name].numpy(), rtol=0.03)
    floating, rest = next(iter(bits)), list(bits)[1:]
    probe.place(None, only=floating)  # one layer float: the other way through `correct`
    for name in rest:
        probe.place({name: bits[name]}, only=name)
        assert (probe.gains[name] == 1.0).all()
    probe.correct()
    assert probe.coded() is None and (probe.gains[floating] == 1.0).all()
    assert all(bool((probe.gains[name] - 1).abs().max() > 1e-4) for name in rest)
    with torch.no_grad():
        assert _slope(_float_logits(), probe.logits(IMAGES)) == pytest.approx(1.0, abs=0.01)


def test_a_network_without_a_rounded_layer_stays_as_it_is() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    probe.correct()
    assert all((gains == 1.0).all() for gains in probe.gains.values())


def test_channels_get_their_deviation_back_within_the_limit_and_where_they_have_one() -> None:
    wanted, found = np.array([1.0, 2.0, 0.0, 3.0, 1.0, np.nan]), np.array([0.9, 2.5, 1.0, 0.0, 9.0, 1.0])
    many = deviation_factors(wanted, found, 10**9)
    np.testing.assert_allclose(many, [1 / 0.9, 0.8, 1.0, 1.0, 1 / GAIN_LIMIT, 1.0], rtol=1e-6)
    few = deviation_factors(wanted[:2], found[:2], POOLED)  # half the way to the mean of the logarithms
    np.testing.assert_allclose(np.log(few), 0.75 * np.log(many[:2]) + 0.25 * np.log(many[1::-1]), rtol=1e-5)
    assert (deviation_factors(np.zeros(3), np.ones(3), 100) == 1.0).all()


@pytest.mark.parametrize("bits", [2, 3])
def test_a_rounded_network_has_the_deviations_of_the_float_one(bits: int) -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    probe.place(uniform(GRAPH, bits).bits)

    def off() -> float:
        outputs: dict[str, Tensor] = {}
        probe.logits(IMAGES, outputs=outputs)
        logs = []
        for name, wanted in CALIBRATION.output_deviations.items():
            if name != probe.last:  # that one follows with slope one and carries its noise on top
                found = outputs[name].detach().std(dim=(0, 2, 3), correction=0).numpy()[wanted > 0]
                logs.append(np.log(found / wanted[wanted > 0]))
        return float(np.abs(np.concatenate(logs)).mean())

    before = off()
    probe.correct()
    assert off() < 0.2 * before


def _float_logits() -> Tensor:
    return execute(GRAPH, IMAGES)[GRAPH.output].flatten(1)


def _logit_slope(qgraph: QuantGraph) -> float:
    return _slope(_float_logits(), coded_network(CALIBRATION.lowered, qgraph).logits(IMAGES))


def _slope(reference: Tensor, found: Tensor) -> float:
    axes: Any = (0, 2) if reference.dim() == 3 else 0
    centred = reference.double() - reference.double().mean(dim=axes, keepdim=True)
    return float((centred * found.double()).sum() / centred.square().sum())


def _gain(probe: Probe) -> float:
    gains = probe.gains[probe.last]
    assert bool((gains == gains[0]).all())
    return float(gains[0])


def _last(qgraph: QuantGraph) -> QConv:
    node = qgraph.nodes[-1]
    assert isinstance(node, QConv) and isinstance(CALIBRATION, Calibration)
    return node
