"""Every estimator on a network small enough to see through: signs, order, dead channels, noise, bad input."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

from allocate.small import tiny
from bitloom.allocate import output_errors as errors
from bitloom.allocate.estimators.blend import FisherBlend
from bitloom.allocate.estimators.fisher import ChannelFisher
from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.estimators.groups import GroupTruth, cut, ratios
from bitloom.allocate.estimators.truth import Alone, LayerTruth
from bitloom.allocate.gradients import GradientOptions, GradientPower, gradient_power
from bitloom.allocate.hbp import LayerCosts, allocate
from bitloom.allocate.output_errors import output_errors
from bitloom.allocate.probe import Probe, divergence, levels_of, log_probabilities
from bitloom.allocate.sensitivity import Estimator, layer_costs
from bitloom.errors import DataError
from bitloom.graph.allocation import WIDTHS
from bitloom.graph.ir import Flatten, Graph, Input, Linear, Node
from bitloom.quantize.observe import ActivationQuantizer, calibrate, fake_quantize
from bitloom.quantize.rounding import RoundedLayer, round_layer
from flow.journeys import digits_graph, noise

GRAPH, CALIBRATION, ROUNDED, IMAGES = tiny()
ESTIMATORS: dict[str, Estimator] = {
    "gradient": GradientShare(),
    "pooled": GradientShare(exponent=0.0),
    "fisher": ChannelFisher(),
    "blend": FisherBlend(),
    "truth": LayerTruth(images=16, batch=8),
    "share": LayerTruth(images=16, batch=8, share=GradientShare(exponent=0.0)),
    "groups": GroupTruth(groups=2, images=16, batch=8),
}


@pytest.fixture(scope="module", params=list(ESTIMATORS))
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, LayerCosts]]:
    return request.param, layer_costs(CALIBRATION, ROUNDED, IMAGES, ESTIMATORS[request.param])


def test_costs_are_not_negative_and_fall_with_width(case: tuple[str, dict[str, LayerCosts]]) -> None:
    for name, layer in case[1].items():
        assert layer.cost.shape == (len(CALIBRATION.output_means[name]), 9)
        assert np.isfinite(layer.cost).all() and (layer.cost >= 0).all() and (np.diff(layer.cost, axis=1) <= 0).all()
    assert {n: c.weights for n, c in case[1].items()} == {"conv": 9, "select": 6, "head": 6}
    assert case[1]["conv"].cost[[0, 1, 2, 4], 1:3].min() > 0.0


def test_a_dead_channel_costs_nothing_and_is_pruned(case: tuple[str, dict[str, LayerCosts]]) -> None:
    assert case[1]["conv"].cost[5].max() <= 1e-9 * case[1]["conv"].cost.max()
    assert allocate(case[1], WIDTHS, 4 * 114).allocation.bits["conv"][5] == 0


def test_a_layer_exact_at_two_bits_is_free_there_and_dear_to_prune(case: tuple[str, dict[str, LayerCosts]]) -> None:
    cost = case[1]["select"].cost
    assert cost[:, 2:].max() <= 1e-9 * cost.max() and cost[:, 0].sum() > 0
    assert set(allocate(case[1], WIDTHS, 4 * 114).allocation.bits["select"].tolist()) <= {0, 2}


def test_the_same_images_and_seed_give_the_same_costs(case: tuple[str, dict[str, LayerCosts]]) -> None:
    again = layer_costs(CALIBRATION, ROUNDED, IMAGES, ESTIMATORS[case[0]])
    for name, layer in case[1].items():
        assert np.array_equal(layer.cost, again[name].cost)


def test_passes_are_stated() -> None:
    found = {name: e.passes(20) for name, e in ESTIMATORS.items()}
    assert found == {"gradient": 10, "pooled": 10, "fisher": 3, "blend": 13, "truth": 111, "share": 111, "groups": 170}


def test_a_channel_that_nothing_reads_has_no_power() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    power = gradient_power(probe, IMAGES)
    assert power["select"].common.mean[3] == 0.0 and power["select"].common.shrunk(0.5)[3] == 0.0
    assert (power["select"].common.mean[[0, 1, 2, 4]] > 0).all()


def test_gradients_measured_before_give_the_same_costs_for_less() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    probe.correct()
    known = GradientShare(power=gradient_power(probe, IMAGES))
    expected, found = (layer_costs(CALIBRATION, ROUNDED, IMAGES, e) for e in (GradientShare(), known))
    assert all(np.array_equal(found[name].cost, layer.cost) for name, layer in expected.items())
    assert known.passes(20) == 7


def test_estimates_follow_the_measured_divergence() -> None:
    """Channels rounded alone at three bits: the curvature predicts the sum of their divergence to a factor of 3."""
    costs = layer_costs(CALIBRATION, ROUNDED, IMAGES, ChannelFisher(temperature=1.0, together=1))
    shared = layer_costs(CALIBRATION, ROUNDED, IMAGES, GradientShare(GradientOptions(temperature=1.0, draws=4)))
    probe = Probe(CALIBRATION, ROUNDED)
    probe.correct()
    alone = Alone(probe, IMAGES, 16, 1.0)
    truth = sum(alone.of("conv", np.full(6, 3, np.int8), np.arange(6) == channel) for channel in range(6))
    for found in (costs, shared):
        assert truth / 3 < found["conv"].cost[:, WIDTHS.index(3)].sum() < truth * 3


def test_shrinkage_leaves_clear_channels_and_pools_noisy_ones() -> None:
    mean = np.array([1.0, 2.0, 3.0, 10.0])
    assert np.allclose(GradientPower(mean, np.full(4, 1e-9)).shrunk(), mean)
    assert np.allclose(GradientPower(mean, np.full(4, 100.0)).shrunk(), 4.0)
    assert np.allclose(GradientPower(mean, np.full(4, 1e-9)).shrunk(0.5), 2 * mean**0.5)
    assert np.allclose(GradientPower(mean * [0, 1, 1, 1], np.full(4, 1e-9)).shrunk(0.0), [0, 3.75, 3.75, 3.75])


def test_more_draws_are_less_noise() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    errors = [
        float(gradient_power(probe, IMAGES, GradientOptions(draws=d))["conv"].common.error[:5].mean()) for d in (1, 8)
    ]
    assert errors[1] < errors[0]


def test_ratios_recover_layers_and_distrust_noise() -> None:
    rng = np.random.default_rng(0)
    layer = np.log(np.array([0.2, 1.0, 5.0]))
    clean = {str(i): np.repeat(np.full((1, 8), v), 2, axis=0) for i, v in enumerate(layer)}
    assert np.allclose([v[0] for v in ratios(clean).values()], np.exp(layer))
    noisy = {n: v + rng.normal(0, 1.0, v.shape) for n, v in clean.items()}
    spread = max(np.log(v).std() for v in ratios(noisy).values())
    assert spread < 0.35  # the raw means of the halves have 0.7


def test_groups_are_equal_and_ordered() -> None:
    cost = np.random.default_rng(0).permutation(np.arange(1.0, 13.0))[:, None] * np.ones((1, 3))
    group = cut(cost, 4)
    assert np.bincount(group).tolist() == [3, 3, 3, 3]
    assert all(cost[group == i].max() < cost[group == i + 1].min() for i in range(3))
    assert cut(cost[:2], 4).tolist() in ([0, 1], [1, 0])


def test_the_probe_keeps_the_output_means() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    probe.place({name: np.full(len(m), 2, np.int8) for name, m in CALIBRATION.output_means.items()})
    probe.correct()
    outputs: dict[str, torch.Tensor] = {}
    probe.logits(probe.correction_images, outputs=outputs)
    for name, mean in CALIBRATION.output_means.items():
        assert np.allclose(outputs[name].detach().mean(dim=(0, 2, 3)).numpy(), mean, atol=1e-4)


def test_levels_of_the_probe_are_the_quantizers_and_their_gradient_is_that_of_clipping() -> None:
    quantizer = ActivationQuantizer(0.25, -100)
    x = torch.linspace(-20.0, 70.0, 1441, requires_grad=True)
    found = levels_of(x, quantizer)
    assert np.array_equal(found.detach().numpy(), fake_quantize(x.detach().numpy(), quantizer))
    (gradient,) = torch.autograd.grad(found.square().sum() / 2, [x])
    low, high = (-127 + 100) * 0.25, (127 + 100) * 0.25
    inside = (x >= low) & (x <= high)
    assert gradient[inside].equal(found[inside]) and not gradient[~inside].any()


def test_the_probe_at_float_weights_is_the_float_network() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    probe.place(None)
    assert float(divergence(log_probabilities(probe, IMAGES), log_probabilities(probe, IMAGES, 5)).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (IMAGES[:1], r"sensitivity images have shape \(1, 1, 8, 8\); give at least 2"),
        (IMAGES[:1].repeat(5, 1, 1, 1), "all 5 sensitivity images are equal"),
        (torch.full_like(IMAGES[:4], float("nan")), "NaN or infinite pixels"),
    ],
)
def test_useless_images(images: torch.Tensor, text: str) -> None:
    with pytest.raises(DataError, match=text):
        layer_costs(CALIBRATION, ROUNDED, images)


def test_weights_that_overflow_are_named() -> None:
    big = replace(ROUNDED["conv"], scale={b: s * 1e30 for b, s in ROUNDED["conv"].scale.items()})
    with pytest.raises(DataError, match="conv: an output error is not finite"):
        layer_costs(CALIBRATION, {**ROUNDED, "conv": big}, IMAGES)


def test_an_estimator_that_gives_nan_is_refused() -> None:
    class Broken:
        def passes(self, layers: int) -> int:
            return 0

        def costs(self, probe: Probe, images: torch.Tensor) -> dict[str, np.ndarray]:
            return {n: np.full((len(w), 8), np.nan) for n, w in probe.weight.items()}

    with pytest.raises(DataError, match="conv: the cost of channel 0 is not finite"):
        layer_costs(CALIBRATION, ROUNDED, IMAGES, Broken())


@pytest.mark.parametrize("inputs", [True, False])
def test_output_errors_are_the_same_whatever_is_held(inputs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs of every layer, or weight errors of all widths at once: bit for bit what the smaller of the two gives."""
    graph, images = digits_graph(), noise()
    calibration = calibrate(graph, images)
    rounded = {s.name: round_layer(s.weight.reshape(len(s.weight), -1), None) for s in calibration.lowered.convs}
    probe = Probe(calibration, rounded)
    expected = output_errors(probe, images)
    monkeypatch.setattr(errors, "_inputs_are_less", lambda *_: inputs)
    found = output_errors(probe, images)
    assert list(found) == list(expected) == [step.name for step in calibration.lowered.convs]
    for name, power in expected.items():
        assert np.array_equal(found[name].common, power.common) and np.array_equal(found[name].varying, power.varying)


def test_a_wide_layer_never_has_the_weight_errors_of_all_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 inputs, 1024 outputs on one position: 2 MiB of float weights, seven widths would be 14. The errors are the
    same; all numbers are multiples of 1/8, whose sums are exact in any order."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-16, 17, (1024, 512)).astype(np.float32) / 2
    nodes = (
        Node("x", Input((8, 8, 8)), ()),
        Node("flat", Flatten(), ("x",)),
        Node("wide", Linear(weight, np.zeros(1024, np.float32)), ("flat",)),
    )
    images = torch.randn(8, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    calibration = calibrate(Graph("wide", nodes, "wide"), images)
    quarter = ActivationQuantizer(0.25, 0)
    calibration = replace(calibration, activations={name: quarter for name in calibration.activations})
    codes = {b: rng.integers(-(2**b) // 2, max(1, 2**b // 2), weight.shape).astype(np.int8) for b in WIDTHS}
    table = RoundedLayer(WIDTHS, codes, {b: np.full(1024, 0.5) for b in WIDTHS}, np.ones((1024, len(WIDTHS))))
    probe = Probe(calibration, {"wide": table})
    whole = output_errors(probe, images, batch=3)["wide"]
    monkeypatch.setattr(errors, "SPLIT", weight.size - 1)
    tracemalloc.start()
    try:
        found = output_errors(probe, images, batch=3)["wide"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * weight.nbytes
    assert np.array_equal(found.common, whole.common) and np.array_equal(found.varying, whole.varying)
    assert whole.common[:, :7].min() > 0


def test_output_errors_are_those_of_the_maps() -> None:
    probe = Probe(CALIBRATION, ROUNDED)
    found = output_errors(probe, IMAGES, batch=5)["conv"]
    x = torch.nn.functional.pad(IMAGES, (1, 1, 1, 1))
    quantizer = CALIBRATION.activations["x"]
    levels = (torch.floor(x / quantizer.scale + 0.5)).clamp(-127 - quantizer.zero_point, 127 - quantizer.zero_point)
    lost = torch.from_numpy(GRAPH["conv"].op.weight) - torch.from_numpy(  # type: ignore[union-attr]
        probe.rows("conv", np.full(6, 3, np.int8))
    ).reshape(6, 1, 3, 3)
    error = torch.nn.functional.conv2d(levels * quantizer.scale, lost).double()
    three = WIDTHS.index(3)
    assert np.allclose(found.common[:, three], error.mean(dim=(2, 3)).var(dim=0, unbiased=False), rtol=1e-4, atol=1e-9)
    assert np.allclose(found.varying[:, three], error.var(dim=(2, 3), unbiased=False).mean(dim=0), rtol=1e-4, atol=1e-9)
    assert (np.diff(found.varying[:, 6:], axis=1) <= 0).all()
