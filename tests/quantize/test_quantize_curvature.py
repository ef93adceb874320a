"""Curvature draws have the softmax's covariance; coherence is what a common error costs beside a varying one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bitloom.errors import DataError
from bitloom.graph.ir import AvgPool, Conv, Flatten, Graph, Input, Linear, Node, Op, Relu
from bitloom.quantize.curvature import LIMIT, TEMPERATURE, coherence, curvature_draw
from bitloom.quantize.lower import lower
from bitloom.quantize.observe import calibrate
from bitloom.quantize.statistics import StatisticsOptions, layer_statistics
from bitloom.quantize.tables import round_network
from quantize.small_networks import images, residual_graph


def _graph(head: np.ndarray, *between: tuple[str, Op]) -> Graph:
    """3x8x8 images, a 3x3 convolution of four channels, what is given, then `head` (classes, inputs)."""
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32) / 5
    conv = Conv(weight, np.zeros(4, np.float32), (1, 1), (1, 1, 1, 1))
    linear = Linear(head.astype(np.float32), np.zeros(len(head), np.float32))
    chain: list[tuple[str, Op]] = [("in", Input((3, 8, 8))), ("c", conv), *between, ("f", Flatten()), ("fc", linear)]
    nodes = [Node(name, op, (chain[i - 1][0],) if i else ()) for i, (name, op) in enumerate(chain)]
    return Graph("maps", tuple(nodes), "fc")


def _pixels(n: int = 64) -> torch.Tensor:
    return torch.randn((n, 3, 8, 8), generator=torch.Generator().manual_seed(1))


def test_curvature_draws_have_the_covariance_of_the_softmax() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.0]])
    draws = curvature_draw(logits.repeat(200_000, 1), torch.Generator().manual_seed(0)).double()
    p = torch.softmax(logits[0], dim=0).double()
    wanted = torch.diag(p) - torch.outer(p, p)
    assert torch.allclose(draws.T @ draws / len(draws), wanted, atol=3e-3)
    assert draws.sum(dim=1).abs().max() < 1e-5


def test_coherence_is_the_ratio_of_measured_divergences() -> None:
    """Errors of equal power on the convolution's output: one the same at all positions, one without a mean."""
    rng = np.random.default_rng(2)
    head = (0.3 + rng.standard_normal((5, 4, 8, 8)) * 0.4 + rng.standard_normal((5, 4, 1, 1))) / 8
    graph = _graph(head.reshape(5, -1), ("r", Relu()))
    x, generator = _pixels(2000), torch.Generator().manual_seed(3)
    conv, linear = (n.op for n in graph.nodes if isinstance(n.op, Conv | Linear))
    maps = F.conv2d(x, torch.from_numpy(conv.weight), padding=1)

    def shifted(d: torch.Tensor) -> torch.Tensor:
        logits = (maps + 1e-2 * d).clamp(min=0).flatten(1) @ torch.from_numpy(linear.weight).T
        return F.log_softmax(logits.double() / TEMPERATURE, dim=1)

    target = shifted(torch.zeros(()))
    common = torch.randn(2000, 4, 1, 1, generator=generator)
    noise = torch.randn(2000, 4, 8, 8, generator=generator)
    noise = (noise - noise.mean(dim=(2, 3), keepdim=True)) * (64 / 63) ** 0.5
    lost = [float((target.exp() * (target - shifted(d))).sum(dim=1).mean()) for d in (common, noise)]
    found = coherence(lower(graph), x)["c"]
    assert found > 5 and found == pytest.approx(lost[0] / lost[1], rel=0.1)


def test_coherence_of_flat_rough_and_missing_gradients() -> None:
    rng = np.random.default_rng(4)
    averaged = _graph(rng.standard_normal((5, 4)), ("p", AvgPool((8, 8), (1, 1), (0, 0, 0, 0))))
    assert coherence(lower(averaged), _pixels()) == {"c": LIMIT, "fc": 1.0}
    rough = _graph(rng.standard_normal((5, 128)).repeat(2, axis=1) * np.tile([1, -1], 128))
    assert coherence(lower(rough), _pixels()) == {"c": 1.0, "fc": 1.0}
    assert coherence(lower(_graph(np.zeros((5, 256)))), _pixels()) == {"c": 1.0, "fc": 1.0}


def test_coherence_repeats_and_refuses_what_is_not_finite() -> None:
    lowered, x = lower(residual_graph()), images()
    assert coherence(lowered, x) == coherence(lowered, x)
    x[3, 0, 2, 2] = float("nan")
    with pytest.raises(DataError, match="c1: a gradient is NaN or infinite"):
        coherence(lowered, x)


def test_rounding_spares_the_mean_of_a_map_and_keeps_the_gain_of_the_signal() -> None:
    """Behind an average pool only an image's mean error matters; rounding that knows makes it smaller."""
    graph = _graph(np.random.default_rng(5).standard_normal((5, 4)), ("p", AvgPool((8, 8), (1, 1), (0, 0, 0, 0))))
    generator = torch.Generator().manual_seed(0)
    x, other = (
        torch.randn(128, 3, 8, 8, generator=generator) + torch.randn(128, 3, 1, 1, generator=generator)
        for _ in range(2)
    )
    calibration = calibrate(graph, x)
    weight = next(n.op.weight for n in graph.nodes if isinstance(n.op, Conv)).reshape(4, -1)

    def rounded(coherent: int) -> np.ndarray:
        table = round_network(calibration, statistics=StatisticsOptions(coherent=coherent))
        codes, scale = table["c"].pick(np.full(4, 3, np.int8))
        return codes * scale[:, None]

    def lost(rows: np.ndarray) -> float:
        missing = torch.from_numpy((weight - rows).astype(np.float32)).reshape(4, 3, 3, 3)
        return float(F.conv2d(other, missing, padding=1).mean(dim=(2, 3)).var(dim=0).sum())

    coherent = rounded(64)
    assert lost(coherent) < 0.8 * lost(rounded(0))
    plain = next(iter(layer_statistics(calibration))).covariance
    own, followed = ((weight @ plain * w).sum(axis=1) for w in (weight, coherent))
    np.testing.assert_allclose(followed, own, rtol=1e-3)
