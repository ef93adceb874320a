"""Compensated rounding: widths kept, deterministic, never worse on held-out rows, closer to the float network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitloom.errors import DataError
from bitloom.graph.execute import execute
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.quantize.code_range import highest, lowest
from bitloom.quantize.compensate import CompensateOptions, compensate
from bitloom.quantize.lower import Lowered
from bitloom.quantize.rounding import round_rows
from bitloom.quantize.trainable import TrainableNetwork
from quantize.small_networks import images, start


def _error(qgraph: QuantGraph, x: torch.Tensor, target: torch.Tensor, lowered: Lowered) -> float:
    with torch.no_grad():
        return float((TrainableNetwork(lowered, qgraph)(x) - target).square().mean())


def test_it_comes_closer_to_float_and_keeps_widths_and_zeros() -> None:
    graph, calibration, first = start(choices=(0, 2, 2, 2, 3))
    better, choices = compensate(calibration.lowered, first, images(160, seed=5), CompensateOptions(batch=32))
    x = images(100, seed=11)
    target = execute(graph, x)[graph.output]
    assert _error(better, x, target, calibration.lowered) < 0.8 * _error(first, x, target, calibration.lowered)
    assert [c.name for c in choices] == ["c1", "c2", "c3", "fc"]
    assert all(c.after <= c.before and (c.strength is None) == (c.after == c.before) for c in choices)
    for a, b in zip(first.nodes, better.nodes, strict=True):
        if isinstance(a, QConv) and isinstance(b, QConv):
            flat = b.weight.reshape(len(b.bits), -1)
            assert np.array_equal(a.bits, b.bits)
            assert (flat.max(axis=1) <= [highest(int(w)) for w in b.bits]).all()
            assert (flat.min(axis=1) >= [lowest(int(w)) for w in b.bits]).all()
            assert not flat[b.bits == 0].any()


def test_it_is_deterministic_and_does_not_touch_its_start() -> None:
    _, calibration, first = start()
    kept = [n.weight.copy() for n in first.nodes if isinstance(n, QConv)]
    one, two = (compensate(calibration.lowered, first, images(40, seed=5))[0] for _ in range(2))
    for a, b in zip(one.nodes, two.nodes, strict=True):
        if isinstance(a, QConv) and isinstance(b, QConv):
            assert np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias)
    now = [n.weight for n in first.nodes if isinstance(n, QConv)]
    assert all(np.array_equal(a, b) for a, b in zip(kept, now, strict=True))


def test_too_wide_layers_stay_as_they_are() -> None:
    _, calibration, first = start()
    same, choices = compensate(calibration.lowered, first, images(), CompensateOptions(max_inputs=1))
    assert choices == ()
    for a, b in zip(first.nodes, same.nodes, strict=True):
        assert not isinstance(a, QConv) or (isinstance(b, QConv) and np.array_equal(a.weight, b.weight))


def test_bad_images_are_refused() -> None:
    _, calibration, first = start()
    with pytest.raises(DataError, match="3 images for rounding, need at least 8; give more images"):
        compensate(calibration.lowered, first, images(3))
    broken = images(20)
    broken[4, 0, 0, 0] = float("nan")
    with pytest.raises(DataError, match="images for rounding hold NaN or infinite pixels"):
        compensate(calibration.lowered, first, broken)


def test_constant_inputs_and_pruned_rows_give_finite_codes() -> None:
    weight = torch.randn((6, 10), generator=torch.Generator().manual_seed(0))
    bits = torch.tensor([0, 2, 3, 4, 8, 1])
    codes, scale = round_rows(weight, torch.zeros(10, 10), bits)
    assert bool(torch.isfinite(scale).all()) and bool((scale != 0).all())
    assert not codes[bits == 0].any() and bool((codes.amax(1) <= torch.tensor([0, 1, 3, 7, 127, 1])).all())
    assert bool((codes.amin(1) >= torch.tensor([0, -2, -4, -8, -127, -1])).all())
    assert round_rows(weight, torch.eye(10), torch.zeros(6, dtype=torch.int64))[0].abs().sum() == 0
