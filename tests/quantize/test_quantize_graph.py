"""From float graphs to integer networks: fusion, exactness of the parts, closeness of the whole, and every refusal.

Longer than most: one small graph of each kind of layer and one test a refusal, which share their builders.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bitloom.allocate.allocation import BitAllocation, uniform
from bitloom.errors import BudgetError, DataError, GraphError, UnsupportedLayerError, WeightsError
from bitloom.graph.execute import execute
from bitloom.graph.ir import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Op,
    Pads,
    Relu,
)
from bitloom.quantize.code_range import highest, lowest
from bitloom.quantize.curvature import coherence
from bitloom.quantize.fake import FakeQuantized
from bitloom.quantize.lower import ConvStep, PoolStep, lower
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.qgraph import QConcat, QConv, QPool, QuantGraph
from bitloom.quantize.quantize import QuantizeOptions, quantize
from bitloom.quantize.rounding import Rounding
from bitloom.quantize.skeleton import skeleton
from bitloom.quantize.statistics import StatisticsOptions, layer_statistics, round_network
from bitloom.reference.fast import quantize_input, run_fast
from bitloom.reference.naive import run_naive

ZERO: Pads = (0, 0, 0, 0)
ONE: Pads = (1, 1, 1, 1)


def _conv(rng: np.random.Generator, out: int, cin: int, k: int, stride: int = 1) -> Conv:
    weight = rng.standard_normal((out, cin, k, k)) / np.sqrt(cin * k * k)
    bias = 0.1 * rng.standard_normal(out)
    pad = k // 2
    return Conv(weight.astype(np.float32), bias.astype(np.float32), (stride, stride), (pad, pad, pad, pad))


def _graph(*nodes: tuple[str, Op, tuple[str, ...]]) -> Graph:
    return Graph("net", tuple(Node(*n) for n in nodes), nodes[-1][0])


def _residual_net() -> Graph:
    rng = np.random.default_rng(0)
    linear = Linear((rng.standard_normal((7, 21 * 6 * 6)) / 25).astype(np.float32), np.zeros(7, np.float32))
    return _graph(
        ("in", Input((3, 11, 10)), ()),
        ("c1", _conv(rng, 8, 3, 3), ("in",)),
        ("r1", Relu(), ("c1",)),
        ("c2", _conv(rng, 8, 8, 3), ("r1",)),
        ("add", Add(), ("c2", "r1")),
        ("r2", Relu(6.0), ("add",)),
        ("mp", MaxPool((3, 3), (2, 2), ZERO, True), ("r2",)),
        ("c3", _conv(rng, 5, 8, 1), ("mp",)),
        ("cat", Concat(), ("c3", "mp", "mp")),
        ("ap", AvgPool((2, 2), (1, 1), ONE), ("cat",)),
        ("fl", Flatten(), ("ap",)),
        ("fc", linear, ("fl",)),
    )


def _images(graph: Graph, n: int = 24) -> torch.Tensor:
    op = graph.input.op
    assert isinstance(op, Input)
    return torch.randn((n, *op.shape), generator=torch.Generator().manual_seed(3))


def _real(qgraph: QuantGraph, codes: np.ndarray, name: str) -> np.ndarray:
    tensor = qgraph.tensors[name]
    return (codes.astype(np.float64) - tensor.zero_point) * tensor.scale


def _error(graph: Graph, qgraph: QuantGraph, images: torch.Tensor) -> float:
    """Relative RMS error of the logits against float."""
    y = execute(graph, images)[graph.output].flatten(1).double().numpy()
    out = run_fast(qgraph, quantize_input(qgraph, images))[qgraph.output]
    return float(np.sqrt(np.square(_real(qgraph, out, qgraph.output).reshape(y.shape) - y).mean() / y.var()))


def test_fusion_of_a_residual_network() -> None:
    lowered = lower(_residual_net())
    assert [s.name for s in lowered.steps] == ["c1", "c2", "mp", "c3", "cat.copy2", "cat", "ap", "fc"]
    first, second, pool = lowered.steps[:3]
    assert isinstance(first, ConvStep) and first.output == "r1" and first.relu == Relu()
    assert isinstance(second, ConvStep) and second.residual == "r1" and second.relu == Relu(6.0)
    assert isinstance(pool, PoolStep) and pool.padding == (0, 0, 0, 1) and lowered.shapes["mp"] == (8, 5, 5)
    assert lowered.convs[-1].weight.shape == (7, 21, 6, 6)
    assert lowered.group["cat"] == lowered.group["mp"] == lowered.group["r2"] == lowered.group["cat.copy2"]


def test_the_addition_joins_the_convolution_computed_last() -> None:
    rng = np.random.default_rng(1)
    nodes = (
        ("in", Input((4, 6, 6)), ()),
        ("main", _conv(rng, 4, 4, 3), ("in",)),
        ("short", _conv(rng, 4, 4, 1), ("in",)),
        ("add", Add(), ("main", "short")),
        ("again", Add(), ("add", "add")),
        ("relu", Relu(), ("in",)),
        ("both", Add(), ("again", "relu")),
    )
    steps = lower(_graph(*nodes)).steps
    assert [(s.name, s.output) for s in steps] == [
        ("main", "main"), ("short", "add"), ("again", "again"), ("relu", "relu"), ("both", "both"),
    ]  # fmt: skip
    assert isinstance(steps[1], ConvStep) and steps[1].residual == "main"
    for step in steps[2:]:
        assert isinstance(step, PoolStep) and step.maximum and step.kernel == (1, 1)
    graph = _graph(*nodes)
    images = _images(graph)
    qgraph = quantize(graph, uniform(graph, 8), calibrate(graph, images))
    assert _error(graph, qgraph, images) < 0.02


@pytest.mark.parametrize("method", list(Rounding))
def test_integer_network_is_close_to_float_and_fake(method: Rounding) -> None:
    graph = _residual_net()
    images = _images(graph, 32)
    calibration = calibrate(graph, images)
    errors = []
    for bits in (8, 4, 2):
        qgraph = quantize(graph, uniform(graph, bits), calibration, QuantizeOptions(method))
        errors.append(_error(graph, qgraph, images))
        codes = quantize_input(qgraph, images)
        fast = run_fast(qgraph, codes, qgraph.tensors.keys())
        naive = run_naive(qgraph, codes[0])
        fake = FakeQuantized(qgraph).tensors(images)
        for name, tensor in qgraph.tensors.items():
            assert np.array_equal(naive[name], fast[name][0])
            off = np.abs(fake[name].double().numpy() / tensor.scale + tensor.zero_point - fast[name])
            assert off.max() < 1.1 and (off > 0.5).mean() < 0.001, name
    assert errors[0] < 0.016 and errors[1] < 0.12 and errors[0] < errors[1] < errors[2] < 0.6


def test_gptq_and_bias_correction_help() -> None:
    graph = _residual_net()
    images = _images(graph, 64)
    calibration = calibrate(graph, images)
    mix = uniform(graph, 3)
    nearest = _error(graph, quantize(graph, mix, calibration, QuantizeOptions(Rounding.NEAREST, False)), images)
    gptq = _error(graph, quantize(graph, mix, calibration, QuantizeOptions(Rounding.GPTQ, True)), images)
    assert gptq < 0.9 * nearest


def test_mixed_widths_and_codes_within_them() -> None:
    graph = _residual_net()
    images = _images(graph)
    calibration = calibrate(graph, images)
    rng = np.random.default_rng(5)
    base = uniform(graph, 4)
    bits = {name: rng.choice([0, 2, 3, 4, 5, 6, 7, 8], b.size).astype(np.int8) for name, b in base.bits.items()}
    allocation = BitAllocation(bits, base.inputs)
    table = round_network(calibration)
    qgraph = quantize(graph, allocation, calibration, None, table)
    for node in qgraph.nodes:
        if isinstance(node, QConv):
            assert np.array_equal(node.bits, bits[node.name])
            assert (node.weight.max(axis=(1, 2, 3)) <= [highest(int(b)) for b in node.bits]).all()
            assert (node.weight.min(axis=(1, 2, 3)) >= [lowest(int(b)) for b in node.bits]).all()
    codes = quantize_input(qgraph, images)
    naive = run_naive(qgraph, codes[1])
    assert all(np.array_equal(naive[n], t[1]) for n, t in run_fast(qgraph, codes, qgraph.tensors.keys()).items())


def test_pruned_channel_is_its_mean() -> None:
    rng = np.random.default_rng(2)
    graph = _graph(("in", Input((4, 8, 8)), ()), ("c", _conv(rng, 3, 4, 3), ("in",)))
    images = _images(graph, 16) + 1.0
    allocation = BitAllocation({"c": np.array([8, 0, 8], np.int8)}, {"c": 36})
    qgraph = quantize(graph, allocation, calibrate(graph, images))
    out = _real(qgraph, run_fast(qgraph, quantize_input(qgraph, images))["c"], "c")
    mean = execute(graph, images)["c"][:, 1].mean().item()
    assert np.ptp(out[:, 1]) == 0 and abs(out[0, 1, 0, 0] - mean) <= 0.51 * qgraph.tensors["c"].scale


def test_without_bias_correction_a_dead_channel_gives_its_bias() -> None:
    rng = np.random.default_rng(2)
    conv = _conv(rng, 3, 4, 3)
    conv.weight[1] = 0.0
    conv.weight[2] *= 1e-12
    graph = _graph(("in", Input((4, 8, 8)), ()), ("c", conv, ("in",)))
    images = _images(graph, 16)
    for correction in (False, True):
        qgraph = quantize(
            graph, uniform(graph, 4), calibrate(graph, images), QuantizeOptions(bias_correction=correction)
        )
        out = _real(qgraph, run_fast(qgraph, quantize_input(qgraph, images))["c"], "c")
        for channel in (1, 2):
            assert np.abs(out[:, channel] - conv.bias[channel]).max() <= 0.51 * qgraph.tensors["c"].scale


def test_a_network_whose_layers_are_all_dead() -> None:
    rng = np.random.default_rng(2)
    dead = Conv(-np.abs(_conv(rng, 4, 4, 3).weight), np.full(4, -9, np.float32), (1, 1), ONE)
    graph = _graph(
        ("in", Input((4, 8, 8)), ()), ("r0", Relu(), ("in",)), ("c", dead, ("r0",)), ("r", Relu(), ("c",)),
        ("d", _conv(rng, 2, 4, 3), ("r",)), ("g", GlobalAvgPool(), ("d",)),
    )  # fmt: skip
    images = _images(graph, 8)
    assert float(execute(graph, images, ["r"])["r"].abs().max()) == 0.0
    for bits in (0, 2, 8):
        qgraph = quantize(graph, uniform(graph, bits), calibrate(graph, images))
        out = _real(qgraph, run_fast(qgraph, quantize_input(qgraph, images))["g"], "g")
        assert np.abs(out - execute(graph, images)["g"].numpy()).max() <= 1.01 * qgraph.tensors["g"].scale


def test_average_pools_count_their_padding() -> None:
    rng = np.random.default_rng(4)
    graph = _graph(("in", Input((3, 7, 9)), ()), ("a", AvgPool((3, 3), (2, 2), ONE), ("in",)), ("r", Relu(), ("a",)))
    images = _images(graph, 16) + float(rng.random())
    qgraph = quantize(graph, uniform(graph, 8), calibrate(graph, images))
    assert [type(n) for n in qgraph.nodes] == [QPool] and qgraph.output == "r"
    assert _error(graph, qgraph, images) < 0.02


def test_concat_tensors_share_scale_and_stay_addresses() -> None:
    graph = _residual_net()
    qgraph = quantize(graph, uniform(graph, 8), calibrate(graph, _images(graph)), QuantizeOptions(Rounding.NEAREST))
    cat = next(n for n in qgraph.nodes if isinstance(n, QConcat))
    assert cat.inputs == ("c3", "mp", "cat.copy2")
    assert len({(qgraph.tensors[n].scale, qgraph.tensors[n].zero_point) for n in (*cat.inputs, "cat", "r2")}) == 1


def test_statistics_are_the_covariance_of_the_rows() -> None:
    rng = np.random.default_rng(6)
    conv = ("c", _conv(rng, 2, 3, 3, 2), ("in",))
    graph = _graph(("in", Input((3, 6, 5)), ()), conv, ("p", AvgPool((2, 2), (1, 1), (0, 0, 0, 0)), ("c",)))
    calibration = calibrate(graph, _images(graph, 10) + 0.5)
    (stats,) = layer_statistics(calibration)
    q = calibration.activations["in"]
    x = (torch.floor(calibration.images / q.scale + 0.5) + q.zero_point).clamp(-127, 127).sub(q.zero_point) * q.scale
    rows = torch.nn.functional.unfold(x, 3, padding=1, stride=2).transpose(1, 2).reshape(-1, 27).double().numpy()
    assert stats.rows == len(rows) == 10 * 9
    np.testing.assert_allclose(stats.mean, rows.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(stats.covariance, np.cov(rows.T, bias=True), atol=1e-4)
    assert np.array_equal(stats.felt, stats.covariance)
    weight = coherence(calibration.lowered, calibration.images)["c"]
    assert weight > 1
    common = np.cov(rows.reshape(10, 9, 27).mean(axis=1).T, bias=True)
    (coherent,) = layer_statistics(calibration, StatisticsOptions(coherent=10))
    np.testing.assert_allclose(coherent.covariance, stats.covariance, rtol=1e-6)
    np.testing.assert_allclose(coherent.felt, stats.covariance + (weight - 1) * common, rtol=1e-3, atol=1e-4)
    (diagonal,) = layer_statistics(calibration, StatisticsOptions(max_inputs=20, coherent=10))
    np.testing.assert_allclose(diagonal.covariance, np.diag(stats.covariance), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(diagonal.felt, np.diag(coherent.felt), rtol=1e-3, atol=1e-4)


def test_statistics_of_other_images_and_samples_by_inputs() -> None:
    graph = _residual_net()
    calibration, more = calibrate(graph, _images(graph)), _images(graph, 40)
    own, other = (list(layer_statistics(calibration, images=x)) for x in (None, more))
    assert [s.rows for s in own] == [24 * r for r in (110, 110, 25, 1)]
    assert [s.rows for s in other] == [40 * r for r in (110, 110, 25, 1)]
    assert other[1].mean.tolist() == list(layer_statistics(calibrate_as(calibration, more)))[1].mean.tolist()
    few = layer_statistics(calibration, StatisticsOptions(rows=24, rows_per_input=2))
    assert [s.rows for s in few] == [24 * min(r, -(-2 * k // 24)) for r, k in ((110, 27), (110, 72), (25, 8), (1, 756))]


def calibrate_as(calibration: Calibration, images: torch.Tensor) -> Calibration:
    """The same quantizers with other images."""
    return replace(calibration, images=images)


def test_small_memory_means_more_passes_with_the_same_result() -> None:
    graph = _residual_net()
    calibration = calibrate(graph, _images(graph))
    one = {s.name: s.covariance for s in layer_statistics(calibration)}
    many = {s.name: s.covariance for s in layer_statistics(calibration, StatisticsOptions(memory_mib=0))}
    assert one.keys() == many.keys() == {"c1", "c2", "c3", "fc"}
    assert all(np.allclose(one[n], many[n], atol=1e-5) for n in one)


def test_skeleton_has_the_nodes_of_the_real_network() -> None:
    graph = _residual_net()
    allocation = uniform(graph, 5)
    real = quantize(graph, allocation, calibrate(graph, _images(graph)), QuantizeOptions(Rounding.NEAREST, False))
    empty = skeleton(graph, allocation.bits)
    assert [(type(n), n.name, n.output) for n in real.nodes] == [(type(n), n.name, n.output) for n in empty.nodes]
    assert {n: t.shape for n, t in real.tensors.items()} == {n: t.shape for n, t in empty.tensors.items()}
    for a, b in zip(real.nodes, empty.nodes, strict=True):
        if isinstance(a, QConv):
            assert isinstance(b, QConv) and a.weight.shape == b.weight.shape and set(b.weight.strides) == {0}
            assert np.array_equal(a.bits, b.bits) and a.residual == b.residual


def test_bad_images() -> None:
    graph = _residual_net()
    good = _images(graph)
    with pytest.raises(DataError, match="2 calibration images, need at least 4"):
        calibrate(graph, good[:2])
    with pytest.raises(DataError, match="all 6 calibration images are equal"):
        calibrate(graph, good[:1].expand(6, -1, -1, -1))
    with pytest.raises(DataError, match=r"images have shape \(24, 3, 9, 10\), but 'net' needs \(N, 3, 11, 10\)"):
        calibrate(graph, good[:, :, :9])
    with pytest.raises(DataError, match=r"images are torch.uint8, but must be normalised floats"):
        calibrate(graph, torch.randint(0, 9, good.shape).to(torch.uint8))
    broken = good.clone()
    broken[5, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="image 5 holds NaN or infinite pixels"):
        calibrate(graph, broken)


def test_bad_weights_and_allocations() -> None:
    graph = _residual_net()
    calibration = calibrate(graph, _images(graph))
    fine = uniform(graph, 4)
    with pytest.raises(BudgetError, match="the allocation lacks layer 'c1'"):
        quantize(graph, BitAllocation({"fc": fine.bits["fc"]}, fine.inputs), calibration)
    with pytest.raises(BudgetError, match="c1: 3 widths, but 8 output channels"):
        quantize(graph, BitAllocation({**fine.bits, "c1": fine.bits["c1"][:3]}, fine.inputs), calibration)
    with pytest.raises(BudgetError, match="names 'zz', which is no layer"):
        quantize(graph, BitAllocation({**fine.bits, "zz": fine.bits["c1"]}, {**fine.inputs, "zz": 1}), calibration)
    with pytest.raises(BudgetError, match="c1: channel 0 has 9 bits; legal"):
        uniform(graph, 9)
    with pytest.raises(GraphError, match="calibration is of 'net', but the graph is 'other'"):
        quantize(Graph("other", graph.nodes, graph.output), fine, calibration)
    conv = graph["c2"].op
    assert isinstance(conv, Conv)
    conv.weight[0, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match="tensor 'r2' holds NaN or infinite values"):
        calibrate(graph, _images(graph))
    with pytest.raises(WeightsError, match="hold NaN or infinite values"):
        quantize(graph, fine, calibration, QuantizeOptions(Rounding.NEAREST))


def test_what_integers_cannot_express() -> None:
    rng = np.random.default_rng(0)
    ceil = _graph(("in", Input((2, 6, 6)), ()), ("a", AvgPool((3, 3), (2, 2), ZERO, True), ("in",)))
    with pytest.raises(UnsupportedLayerError, match=r"a: average pool in ceil mode .*use ceil_mode=False"):
        lower(ceil)
    conv = Conv(_conv(rng, 2, 2, 7).weight, np.zeros(2, np.float32), (1, 1), ZERO)
    with pytest.raises(GraphError, match=r"c: kernel 7x7 exceeds its padded input 3x3"):
        lower(_graph(("in", Input((2, 3, 3)), ()), ("c", conv, ("in",))))
