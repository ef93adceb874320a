"""The trainable twin: blocks, gradients, and an exact hand-over in both directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitloom.errors import DataError
from bitloom.graph.execute import execute
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.quantize.blocks import blocks_of
from bitloom.quantize.code_range import highest, lowest
from bitloom.quantize.lower import lower
from bitloom.quantize.straight import quantize_activation, quantize_weight
from bitloom.quantize.teacher import FloatNetwork
from bitloom.quantize.trainable import TrainableNetwork
from bitloom.reference.fast import quantize_input, run_fast
from quantize.small_networks import images, residual_graph, start


def _logits(qgraph: QuantGraph, x: torch.Tensor) -> torch.Tensor:
    output = qgraph.tensors[qgraph.output]
    codes = run_fast(qgraph, quantize_input(qgraph, x))[qgraph.output].reshape(len(x), -1)
    return torch.from_numpy((codes.astype(np.float64) - output.zero_point) * output.scale)


def test_blocks_are_residual_blocks_and_pools_join_them() -> None:
    blocks = blocks_of(lower(residual_graph()))
    assert [[s.name for s in b.steps] for b in blocks] == [["c1", "mp"], ["c2", "c3"], ["ap", "fc"]]
    assert [(b.input, b.output) for b in blocks] == [("in", "mp"), ("mp", "r3"), ("r3", "fc")]


def test_straight_through_gradients() -> None:
    x = torch.tensor([-3.0, 0.26, 0.74, 100.0], requires_grad=True)
    y = quantize_activation(x, 0.5, -127, -127, -121)
    assert y.tolist() == [0.0, 0.5, 0.5, 3.0]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    latent = torch.tensor([[0.6, -3.0], [0.2, 5.0]], requires_grad=True)
    scale = torch.tensor([[0.5], [2.0]], requires_grad=True)
    w = quantize_weight(latent, scale, torch.tensor([[2], [0]]))
    assert w.tolist() == [[0.5, -1.0], [0.0, 0.0]]
    w.sum().backward()
    assert latent.grad is not None and latent.grad.tolist() == [[0.5, 0.0], [2.0, 0.0]]
    assert scale.grad is not None and scale.grad.tolist() == [[-1.0], [0.0]]
    binary = torch.tensor([[0.1, -0.2, 1.4, -1.6]], requires_grad=True)
    w = quantize_weight(binary, torch.tensor([[0.5]]), torch.tensor([[1]]))
    assert w.tolist() == [[0.5, -0.5, 0.5, -0.5]]
    w.sum().backward()
    assert binary.grad is not None and binary.grad.tolist() == [[0.5, 0.5, 0.5, 0.0]]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_hand_over_is_exact_in_both_directions(seed: int) -> None:
    _, calibration, first = start(seed)
    network = TrainableNetwork(calibration.lowered, first)
    again = network.harden()
    for a, b in zip(first.nodes, again.nodes, strict=True):
        if isinstance(a, QConv) and isinstance(b, QConv):
            assert np.array_equal(a.weight, b.weight) and np.array_equal(a.bits, b.bits)
            live = a.weight.reshape(len(a.bits), -1).any(axis=1)
            np.testing.assert_allclose(a.weight_scale[live], b.weight_scale[live], rtol=1e-5)
            assert np.abs(a.bias - b.bias)[live].max(initial=0) <= 1
    x = images(64, seed=9)
    with torch.no_grad():
        ours = network(x).double()
    theirs = _logits(again, x)
    step = first.tensors[first.output].scale
    assert float((ours - theirs).abs().max()) <= 2.01 * step
    assert float((ours.argmax(1) == theirs.argmax(1)).float().mean()) >= 0.98
    assert float(((ours - theirs).abs() < step / 2).float().mean()) > 0.97


def test_codes_stay_within_their_widths_whatever_the_latents() -> None:
    _, calibration, first = start()
    network = TrainableNetwork(calibration.lowered, first)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
        for step in calibration.lowered.convs:
            network.layer(step.name).log_scale.clamp_(-6, 0)
    for node in network.harden().nodes:
        if isinstance(node, QConv):
            flat = node.weight.reshape(len(node.bits), -1)
            assert (flat.max(axis=1) <= [highest(int(b)) for b in node.bits]).all()
            assert (flat.min(axis=1) >= [lowest(int(b)) for b in node.bits]).all()


def test_broken_parameters_are_refused() -> None:
    _, calibration, first = start()
    network = TrainableNetwork(calibration.lowered, first)
    with torch.no_grad():
        network.layer("c2").bias[1] = float("nan")
    with pytest.raises(DataError, match="c2: bias is NaN or infinite after training; lower the learning rate"):
        network.harden()


def test_the_teacher_is_the_float_network() -> None:
    graph = residual_graph()
    x = images(5)
    expected = execute(graph, x)[graph.output]
    torch.testing.assert_close(FloatNetwork(lower(graph))(x), expected, rtol=1e-4, atol=1e-5)
    assert float((FloatNetwork(lower(graph), mixed=True)(x) - expected).abs().max()) < 0.05 * float(
        expected.abs().max()
    )
