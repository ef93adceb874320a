"""A grouped convolution is the dense one of block-diagonal weights: for calibration, costs and the integer network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bitloom.allocate.estimators.fisher import ChannelFisher
from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.estimators.truth import LayerTruth
from bitloom.allocate.sensitivity import Estimator, layer_costs
from bitloom.graph.allocation import BitAllocation
from bitloom.graph.execute import execute
from bitloom.graph.ir import Add, AvgPool, Conv, Flatten, Graph, Input, Linear, Node, Op, Relu
from bitloom.quantize.compensate import compensate
from bitloom.quantize.equalize import equalize
from bitloom.quantize.fake import FakeQuantized
from bitloom.quantize.finetune import FinetuneOptions, finetune
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.quantize import quantize
from bitloom.quantize.rounding import RoundedLayer, Rounding, round_layer
from bitloom.quantize.statistics import StatisticsOptions, layer_statistics
from bitloom.quantize.tables import round_network
from bitloom.quantize.trainable import TrainableNetwork
from bitloom.reference.fast import quantize_input, run_fast
from quantize.float_graphs import logit_error, random_conv
from quantize.small_networks import images

WIDTHS = (0, 2, 3, 4, 8)  # no binary weights: the dense twin has zeros
GROUPS = {"deep": 8, "pairs": 4}


def _graph(limit: float | None = None) -> Graph:
    """1x1 to 8 channels, a depthwise 3x3 of stride 2 (two outputs a channel) and a 3x3 of four groups, a sum."""
    rng = np.random.default_rng(4)

    def grouped(out: int, cin: int, groups: int, stride: int) -> Conv:
        return replace(random_conv(rng, out, cin // groups, 3, stride), groups=groups)

    head = Linear((rng.standard_normal((5, 16 * 9)) / 8).astype(np.float32), np.zeros(5, np.float32))
    nodes: tuple[tuple[str, Op, tuple[str, ...]], ...] = (
        ("in", Input((3, 12, 12)), ()),
        ("wide", random_conv(rng, 8, 3, 1), ("in",)),
        ("r1", Relu(limit), ("wide",)),
        ("deep", grouped(16, 8, GROUPS["deep"], 2), ("r1",)),
        ("r2", Relu(), ("deep",)),
        ("pairs", grouped(16, 16, GROUPS["pairs"], 1), ("r2",)),
        ("add", Add(), ("pairs", "r2")),
        ("ap", AvgPool((2, 2), (2, 2), (0, 0, 0, 0)), ("add",)),
        ("fl", Flatten(), ("ap",)),
        ("fc", head, ("fl",)),
    )
    return Graph("grouped", tuple(Node(*n) for n in nodes), "fc")


def _expand(rows: np.ndarray, groups: int) -> np.ndarray:
    """(Cout, Cin / groups, KH, KW) -> (Cout, Cin, KH, KW), zeros outside a row's group."""
    out, width, *kernel = rows.shape
    dense = np.zeros((out, width * groups, *kernel), rows.dtype)
    for row in range(out):
        first = row // (out // groups) * width
        dense[row, first : first + width] = rows[row]
    return dense


def _dense(graph: Graph) -> Graph:
    """The same function without groups."""
    nodes = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv) and op.groups > 1:
            op = replace(op, weight=_expand(op.weight, op.groups), groups=1)
        nodes.append(replace(node, op=op))
    return replace(graph, nodes=tuple(nodes))


def _twin(table: dict[str, RoundedLayer], calibration: Calibration) -> dict[str, RoundedLayer]:
    """The rounded rows of the dense network."""
    found = dict(table)
    for step in calibration.lowered.convs:
        if step.groups > 1:
            layer = table[step.name]
            shaped = {b: codes.reshape(step.weight.shape) for b, codes in layer.codes.items()}
            codes = {b: _expand(c, step.groups).reshape(len(c), -1) for b, c in shaped.items()}
            found[step.name] = replace(layer, codes=codes)
    return found


GRAPH = _graph()
CALIBRATION = calibrate(GRAPH, images())
TABLE = round_network(CALIBRATION, widths=WIDTHS)
TWIN = _dense(GRAPH)
TWIN_CALIBRATION = calibrate(TWIN, images())
TWIN_TABLE = _twin(TABLE, CALIBRATION)


def _mixed(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {s.name: rng.choice(WIDTHS, len(s.weight)).astype(np.int8) for s in CALIBRATION.lowered.convs}


def test_the_twin_computes_the_same() -> None:
    x = images(6, 9)
    torch.testing.assert_close(execute(GRAPH, x)["fc"], execute(TWIN, x)["fc"], rtol=1e-5, atol=1e-5)
    for name, q in CALIBRATION.activations.items():
        assert TWIN_CALIBRATION.activations[name].zero_point == q.zero_point
        assert TWIN_CALIBRATION.activations[name].scale == pytest.approx(q.scale, rel=1e-5)


@pytest.mark.parametrize("coherent", [0, 10])
def test_covariances_are_the_blocks_of_the_dense_one(coherent: int) -> None:
    options = StatisticsOptions(coherent=coherent)
    dense = {s.name: s for s in layer_statistics(TWIN_CALIBRATION, options)}
    for own in layer_statistics(CALIBRATION, options):
        groups = GROUPS.get(own.name)
        if groups is None:
            continue
        size = own.mean.shape[1]
        assert own.covariance.shape == own.felt.shape == (groups, size, size)
        whole = dense[own.name]
        np.testing.assert_allclose(own.mean.ravel(), whole.mean, rtol=1e-4, atol=1e-5)
        for g in range(groups):
            part = slice(g * size, (g + 1) * size)
            np.testing.assert_allclose(own.covariance[g], whole.covariance[part, part], rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(own.felt[g], whole.felt[part, part], rtol=2e-3, atol=2e-3)


def test_every_group_is_rounded_under_its_own_covariance() -> None:
    stats = {s.name: s for s in layer_statistics(CALIBRATION)}
    for name, groups in GROUPS.items():
        step = next(s for s in CALIBRATION.lowered.convs if s.name == name)
        rows = step.weight.reshape(groups, -1, int(np.prod(step.weight.shape[1:])))
        for g in (0, groups - 1):
            own = TABLE[name]
            alone = round_layer(rows[g], stats[name].felt[g], WIDTHS, Rounding.GPTQ, None, stats[name].covariance[g])
            part = slice(g * rows.shape[1], (g + 1) * rows.shape[1])
            same = [own.codes[b][part] == alone.codes[b] for b in WIDTHS]  # sums in another order may tip a tie
            assert np.mean(same) > 0.99
            np.testing.assert_allclose(own.error[part], alone.error, rtol=1e-2, atol=1e-3 * alone.error.max())


@pytest.mark.parametrize("estimator", [GradientShare(), ChannelFisher(), LayerTruth((0, 2, 3, 4), images=16, batch=8)])
def test_costs_are_those_of_the_dense_network(estimator: Estimator) -> None:
    held_out = images(30, 11)
    own = layer_costs(CALIBRATION, TABLE, held_out, estimator)
    dense = layer_costs(TWIN_CALIBRATION, TWIN_TABLE, held_out, estimator)
    for name, layer in own.items():
        np.testing.assert_allclose(layer.cost, dense[name].cost, rtol=0.02, atol=1e-3 * dense[name].cost.max())
    assert own["deep"].weights == 9 and dense["deep"].weights == 72


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_integer_network_is_that_of_the_dense_one(seed: int) -> None:
    bits = _mixed(seed)
    sizes = {s.name: int(np.prod(s.weight.shape[1:])) for s in CALIBRATION.lowered.convs}
    own = quantize(GRAPH, BitAllocation(bits, sizes), CALIBRATION, None, TABLE)
    # the twin with the very same activations: their float32 sums differ in the last bits
    same = replace(CALIBRATION, lowered=TWIN_CALIBRATION.lowered)
    dense = quantize(TWIN, BitAllocation(bits, sizes), same, None, TWIN_TABLE)
    x = images(12, 20 + seed)
    codes = quantize_input(own, x)
    kept = (*own.tensors,)
    found, wanted = run_fast(own, codes, kept), run_fast(dense, codes, kept)
    assert all(np.array_equal(found[name], wanted[name]) for name in kept)
    fake = FakeQuantized(own)(x).argmax(dim=1).numpy()
    assert (found["fc"].reshape(len(x), -1).argmax(axis=1) == fake).mean() >= 0.9


def test_eight_bits_are_close_to_float() -> None:
    bits = {s.name: np.full(len(s.weight), 8, np.int8) for s in CALIBRATION.lowered.convs}
    sizes = {s.name: int(np.prod(s.weight.shape[1:])) for s in CALIBRATION.lowered.convs}
    own = quantize(GRAPH, BitAllocation(bits, sizes), CALIBRATION, None, TABLE)
    assert logit_error(GRAPH, own, images(16, 30)) < 0.05


def test_training_and_refining_keep_the_groups() -> None:
    sizes = {s.name: int(np.prod(s.weight.shape[1:])) for s in CALIBRATION.lowered.convs}
    start = quantize(GRAPH, BitAllocation(_mixed(5), sizes), CALIBRATION, None, TABLE)
    again = TrainableNetwork(CALIBRATION.lowered, start).harden()
    assert [getattr(n, "groups", 1) for n in again.nodes] == [getattr(n, "groups", 1) for n in start.nodes]
    x = images()
    trained = finetune(GRAPH, CALIBRATION.lowered, start, x, options=FinetuneOptions(20, 8)).qgraph
    assert logit_error(GRAPH, trained, x) < logit_error(GRAPH, start, x)
    fitted, choices = compensate(CALIBRATION.lowered, start, x)
    assert [c.name for c in choices] == ["wide", "fc"]  # grouped layers stay as they are
    assert np.array_equal(fitted.nodes[1].weight, start.nodes[1].weight)  # type: ignore[union-attr]


def test_equalization_keeps_the_function() -> None:
    changed = equalize(GRAPH, images())
    x = images(8, 5)
    torch.testing.assert_close(execute(changed, x)["fc"], execute(GRAPH, x)["fc"], rtol=1e-4, atol=1e-5)
    assert not np.array_equal(changed["deep"].op.weight, GRAPH["deep"].op.weight)  # type: ignore[union-attr]
