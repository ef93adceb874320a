"""Mean and covariance of layers' inputs: those of the rows, whatever the passes, the images and the samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitloom.errors import DataError
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.ir import (
    AvgPool,
    Input,
)
from bitloom.quantize.curvature import coherence
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.statistics import StatisticsOptions, layer_statistics
from bitloom.quantize.tables import round_network
from quantize.float_graphs import branching_graph, graph_of, images_of, random_conv


def test_statistics_are_the_covariance_of_the_rows() -> None:
    rng = np.random.default_rng(6)
    conv = ("c", random_conv(rng, 2, 3, 3, 2), ("in",))
    graph = graph_of(("in", Input((3, 6, 5)), ()), conv, ("p", AvgPool((2, 2), (1, 1), (0, 0, 0, 0)), ("c",)))
    calibration = calibrate(graph, images_of(graph, 10) + 0.5)
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
    graph = branching_graph()
    calibration, more = calibrate(graph, images_of(graph)), images_of(graph, 40)
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
    graph = branching_graph()
    calibration = calibrate(graph, images_of(graph))
    one = {s.name: s.covariance for s in layer_statistics(calibration)}
    many = {s.name: s.covariance for s in layer_statistics(calibration, StatisticsOptions(memory_mib=0))}
    assert one.keys() == many.keys() == {"c1", "c2", "c3", "fc"}
    assert all(np.allclose(one[n], many[n], atol=1e-5) for n in one)


def test_inputs_whose_squares_overflow_name_their_layer() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 3))
    net[0].weight.data.mul_(1e22)
    calibration = calibrate(from_torch(net, (1, 8, 8)), torch.randn(6, 1, 8, 8))
    with pytest.raises(DataError, match=r"'2': its inputs, \d\.\de\+2\d in the mean .* squares overflow; scale down"):
        round_network(calibration)


@pytest.mark.parametrize("seed", range(6))
def test_inputs_that_never_change_have_no_covariance(seed: int) -> None:
    """As behind a layer whose weights are zero; rounding of sums left a matrix that no damping could repair."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    nn.init.zeros_(net[2].weight)
    nn.init.uniform_(net[2].bias, 0.1, 0.4)
    calibration = calibrate(from_torch(net, (1, 8, 8)), torch.randn(12, 1, 8, 8))
    last = list(layer_statistics(calibration))[-1]
    assert not last.covariance.any() and last.mean.any()
    assert set(round_network(calibration)) == {"0", "2", "5"}
