"""From float graphs to integer networks: exactness of the parts, closeness of the whole, and every refusal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitloom.errors import BudgetError, DataError, GraphError, WeightsError
from bitloom.graph.allocation import BitAllocation, uniform
from bitloom.graph.execute import execute
from bitloom.graph.ir import (
    AvgPool,
    Conv,
    GlobalAvgPool,
    Graph,
    Input,
    Relu,
)
from bitloom.graph.qgraph import QConcat, QConv, QPool
from bitloom.quantize.code_range import highest, lowest
from bitloom.quantize.fake import FakeQuantized
from bitloom.quantize.observe import calibrate
from bitloom.quantize.quantize import QuantizeOptions, quantize
from bitloom.quantize.rounding import Rounding
from bitloom.quantize.skeleton import skeleton
from bitloom.quantize.tables import round_network
from bitloom.reference.fast import quantize_input, run_fast
from bitloom.reference.naive import run_naive
from quantize.float_graphs import ONE, branching_graph, graph_of, images_of, logit_error, random_conv, reals


@pytest.mark.parametrize("method", list(Rounding))
def test_integer_network_is_close_to_float_and_fake(method: Rounding) -> None:
    graph = branching_graph()
    images = images_of(graph, 32)
    calibration = calibrate(graph, images)
    errors = []
    for bits in (8, 4, 2):
        qgraph = quantize(graph, uniform(graph, bits), calibration, QuantizeOptions(method))
        errors.append(logit_error(graph, qgraph, images))
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
    graph = branching_graph()
    images = images_of(graph, 64)
    calibration = calibrate(graph, images)
    mix = uniform(graph, 3)
    nearest = logit_error(graph, quantize(graph, mix, calibration, QuantizeOptions(Rounding.NEAREST, False)), images)
    gptq = logit_error(graph, quantize(graph, mix, calibration, QuantizeOptions(Rounding.GPTQ, True)), images)
    assert gptq < 0.9 * nearest


def test_mixed_widths_and_codes_within_them() -> None:
    graph = branching_graph()
    images = images_of(graph)
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
    graph = graph_of(("in", Input((4, 8, 8)), ()), ("c", random_conv(rng, 3, 4, 3), ("in",)))
    images = images_of(graph, 16) + 1.0
    allocation = BitAllocation({"c": np.array([8, 0, 8], np.int8)}, {"c": 36})
    qgraph = quantize(graph, allocation, calibrate(graph, images))
    out = reals(qgraph, run_fast(qgraph, quantize_input(qgraph, images))["c"], "c")
    mean = execute(graph, images)["c"][:, 1].mean().item()
    assert np.ptp(out[:, 1]) == 0 and abs(out[0, 1, 0, 0] - mean) <= 0.51 * qgraph.tensors["c"].scale


def test_without_bias_correction_a_dead_channel_gives_its_bias() -> None:
    rng = np.random.default_rng(2)
    conv = random_conv(rng, 3, 4, 3)
    conv.weight[1] = 0.0
    conv.weight[2] *= 1e-12
    graph = graph_of(("in", Input((4, 8, 8)), ()), ("c", conv, ("in",)))
    images = images_of(graph, 16)
    for correction in (False, True):
        qgraph = quantize(
            graph, uniform(graph, 4), calibrate(graph, images), QuantizeOptions(bias_correction=correction)
        )
        out = reals(qgraph, run_fast(qgraph, quantize_input(qgraph, images))["c"], "c")
        for channel in (1, 2):
            assert np.abs(out[:, channel] - conv.bias[channel]).max() <= 0.51 * qgraph.tensors["c"].scale


@pytest.mark.parametrize(("sign", "bias"), [(-1, -9.0), (-1, -1e5), (1, -1e5), (1, -1e12)])
def test_a_network_whose_layers_are_all_dead(sign: int, bias: float) -> None:
    rng = np.random.default_rng(2)
    dead = Conv(sign * np.abs(random_conv(rng, 4, 4, 3).weight), np.full(4, bias, np.float32), (1, 1), ONE)
    graph = graph_of(
        ("in", Input((4, 8, 8)), ()), ("r0", Relu(), ("in",)), ("c", dead, ("r0",)), ("r", Relu(), ("c",)),
        ("d", random_conv(rng, 2, 4, 3), ("r",)), ("g", GlobalAvgPool(), ("d",)),
    )  # fmt: skip
    images = images_of(graph, 8)
    assert float(execute(graph, images, ["r"])["r"].abs().max()) == 0.0
    for bits in (0, 2, 8):
        qgraph = quantize(graph, uniform(graph, bits), calibrate(graph, images))
        out = reals(qgraph, run_fast(qgraph, quantize_input(qgraph, images))["g"], "g")
        assert np.abs(out - execute(graph, images)["g"].numpy()).max() <= 1.01 * qgraph.tensors["g"].scale


def test_average_pools_count_their_padding() -> None:
    rng = np.random.default_rng(4)
    graph = graph_of(("in", Input((3, 7, 9)), ()), ("a", AvgPool((3, 3), (2, 2), ONE), ("in",)), ("r", Relu(), ("a",)))
    images = images_of(graph, 16) + float(rng.random())
    qgraph = quantize(graph, uniform(graph, 8), calibrate(graph, images))
    assert [type(n) for n in qgraph.nodes] == [QPool] and qgraph.output == "r"
    assert logit_error(graph, qgraph, images) < 0.02


def test_concat_tensors_share_scale_and_stay_addresses() -> None:
    graph = branching_graph()
    qgraph = quantize(graph, uniform(graph, 8), calibrate(graph, images_of(graph)), QuantizeOptions(Rounding.NEAREST))
    cat = next(n for n in qgraph.nodes if isinstance(n, QConcat))
    assert cat.inputs == ("c3", "mp", "cat.copy2")
    assert len({(qgraph.tensors[n].scale, qgraph.tensors[n].zero_point) for n in (*cat.inputs, "cat", "r2")}) == 1


def test_skeleton_has_the_nodes_of_the_real_network() -> None:
    graph = branching_graph()
    allocation = uniform(graph, 5)
    real = quantize(graph, allocation, calibrate(graph, images_of(graph)), QuantizeOptions(Rounding.NEAREST, False))
    empty = skeleton(graph, allocation.bits)
    assert [(type(n), n.name, n.output) for n in real.nodes] == [(type(n), n.name, n.output) for n in empty.nodes]
    assert {n: t.shape for n, t in real.tensors.items()} == {n: t.shape for n, t in empty.tensors.items()}
    for a, b in zip(real.nodes, empty.nodes, strict=True):
        if isinstance(a, QConv):
            assert isinstance(b, QConv) and a.weight.shape == b.weight.shape and set(b.weight.strides) == {0}
            assert np.array_equal(a.bits, b.bits) and a.residual == b.residual


def test_bad_images() -> None:
    graph = branching_graph()
    good = images_of(graph)
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
    graph = branching_graph()
    calibration = calibrate(graph, images_of(graph))
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
        calibrate(graph, images_of(graph))
    with pytest.raises(WeightsError, match="hold NaN or infinite values"):
        quantize(graph, fine, calibration, QuantizeOptions(Rounding.NEAREST))
