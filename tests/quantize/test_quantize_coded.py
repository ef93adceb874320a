"""The network on integer codes: sums exact to the last bit, the same network as in float arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.allocate.probe import Probe
from bitloom.graph.execute import pad2d
from bitloom.graph.ir import Relu
from bitloom.quantize import coded
from bitloom.quantize.coded import CodedLayer, CodedNetwork
from bitloom.quantize.lower import ConvStep, Lowered
from bitloom.quantize.observe import ActivationQuantizer, calibrate
from bitloom.quantize.rounding import round_layer
from bitloom.quantize.stream import fake_quantize
from quantize.small_networks import images as make_images
from quantize.small_networks import residual_graph


@st.composite
def layers(draw: st.DrawFn) -> tuple[ConvStep, CodedLayer, ActivationQuantizer, ActivationQuantizer, torch.Tensor]:
    size = st.integers(1, 40)
    cin, cout, kernel, stride = draw(size), draw(size), draw(st.sampled_from([1, 2, 3, 5])), draw(st.integers(1, 2))
    pads = draw(st.tuples(*[st.integers(0, kernel - 1)] * 4))
    groups = draw(st.sampled_from([g for g in range(1, cin + 1) if cin % g == cout % g == 0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    codes = rng.integers(-127, 128, (cout, cin // groups, kernel, kernel)).astype(np.int8)
    scale = 2.0 ** rng.integers(-9, 2, cout).astype(np.float32)  # powers of two: float32 products are exact
    bias = rng.integers(-100, 100, cout).astype(np.float32)
    source = ActivationQuantizer(0.125, draw(st.integers(-127, 127)))
    target = ActivationQuantizer(0.25 * cin, draw(st.sampled_from([-127, -3, 90])))
    relu = draw(st.sampled_from([None, Relu(), Relu(6.0)]))
    step = ConvStep("c", "x", "y", codes.astype(np.float32), bias, (stride, stride), pads, relu, groups=groups)
    level = rng.integers(-150, 150, (3, cin, 9, 7)) + rng.uniform(-0.45, 0.45, (3, cin, 9, 7))  # off the ties
    x = torch.from_numpy((source.scale * level).astype(np.float32))
    return step, CodedLayer(codes, scale, bias), source, target, x


@settings(max_examples=60, deadline=None)
@given(layers(), st.booleans())
def test_a_layer_is_the_exact_sum_on_its_levels(
    drawn: tuple[ConvStep, CodedLayer, ActivationQuantizer, ActivationQuantizer, torch.Tensor], fast: bool
) -> None:
    step, layer, source, target, x = drawn
    lowered = Lowered("n", (step,), {}, {}, "x", "y")
    with pytest.MonkeyPatch.context() as patch:
        if not fast:
            patch.setattr(coded, "exact_kernels", lambda: False)
        found = CodedNetwork(lowered, {"x": source, "y": target}, {"c": layer}).logits(x)
    real = pad2d(fake_quantize(x, source).double(), step.padding, 0.0)
    weight = torch.from_numpy(layer.codes * layer.scale[:, None, None, None]).double()
    y = F.conv2d(real, weight, torch.from_numpy(layer.bias).double(), step.stride, groups=step.groups)
    y = y if step.relu is None else y.clamp(0.0, step.relu.limit)
    wanted = fake_quantize(y, target).flatten(1)
    differs = (found.double() - wanted).abs() / target.scale
    tie = (y / target.scale - torch.floor(y / target.scale) - 0.5).abs().flatten(1)
    assert (differs[tie > 1e-3] < 1e-3).all()  # only a value within float32 of a tie may go to the next level
    assert differs.max() < 1 + 1e-3


def test_the_network_is_the_float_one_on_the_same_weights_and_keeps_the_output_means() -> None:
    graph = residual_graph()
    images = make_images(24)
    calibration = calibrate(graph, images)
    convs = calibration.lowered.convs
    rounded = {s.name: round_layer(s.weight.reshape(len(s.weight), -1), None) for s in convs}
    probe = Probe(calibration, rounded)
    assert probe.coded() is None
    probe.place({s.name: np.full(len(s.weight), 8, np.int8) for s in convs})
    probe.correct()
    found = probe.coded()
    assert found is not None
    with torch.no_grad():
        wanted = probe.logits(images)
    step = calibration.activations[calibration.lowered.output].scale
    assert float((found.logits(images) - wanted).abs().max()) <= 2 * step
    assert float((found.logits(images) - wanted).abs().mean()) <= 0.05 * step
    probe.place(None, only=convs[0].name)
    assert probe.coded() is None
