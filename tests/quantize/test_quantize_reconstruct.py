"""Block reconstruction: no block worse than its start on held-out images, widths kept, seeds, clear refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from bitloom.errors import DataError, TrainingError
from bitloom.graph.execute import execute
from bitloom.graph.qgraph import QConv
from bitloom.quantize.augment import Augment
from bitloom.quantize.code_range import highest, lowest
from bitloom.quantize.reconstruct import ReconstructOptions, reconstruct
from bitloom.quantize.trainable import TrainableNetwork
from quantize.small_networks import images, start

SHORT = ReconstructOptions(steps=60, batch=16, every=20)


def test_blocks_come_closer_to_float_and_widths_hold() -> None:
    graph, calibration, first = start(choices=(0, 2, 2, 3))
    better, choices = reconstruct(calibration.lowered, first, images(100, seed=5), SHORT)
    assert [c.output for c in choices] == ["mp", "r3", "fc"]
    assert all(c.after <= c.before for c in choices) and choices[1].after < 0.9 * choices[1].before
    x = images(60, seed=11)
    target = execute(graph, x)[graph.output]
    with torch.no_grad():
        errors = [
            float((TrainableNetwork(calibration.lowered, q)(x) - target).square().mean()) for q in (first, better)
        ]
    assert errors[1] < errors[0]
    for node in better.nodes:
        if isinstance(node, QConv):
            flat = node.weight.reshape(len(node.bits), -1)
            assert (flat.max(axis=1) <= [highest(int(b)) for b in node.bits]).all()
            assert (flat.min(axis=1) >= [lowest(int(b)) for b in node.bits]).all()
            assert not flat[node.bits == 0].any()


def test_a_useless_rate_leaves_the_start() -> None:
    _, calibration, first = start()
    wild = replace(SHORT, latent_rate=50.0, scale_rate=0.0, bias_rate=0.0, steps=4, every=4)
    same, choices = reconstruct(calibration.lowered, first, images(40), wild)
    assert all(c.after == c.before for c in choices)
    for a, b in zip(first.nodes, same.nodes, strict=True):
        assert not isinstance(a, QConv) or (isinstance(b, QConv) and np.array_equal(a.weight, b.weight))


def test_it_is_deterministic_by_seed() -> None:
    _, calibration, first = start()
    options = replace(SHORT, steps=10, every=5, augment=Augment(1), copies=2)
    runs = [reconstruct(calibration.lowered, first, images(30), replace(options, seed=s)) for s in (0, 0, 1)]
    assert runs[0][1] == runs[1][1] and runs[0][1] != runs[2][1]


def test_bad_input_is_refused() -> None:
    _, calibration, first = start()
    with pytest.raises(DataError, match="4 images for reconstruction, need at least 10"):
        reconstruct(calibration.lowered, first, images(4))
    broken = images(20)
    broken[3] = float("nan")
    with pytest.raises(DataError, match="images for reconstruction hold NaN"):
        reconstruct(calibration.lowered, first, broken)
    with pytest.raises(TrainingError, match=r"\w+: the block error is (nan|inf) at step \d+; lower latent_rate"):
        reconstruct(calibration.lowered, first, images(20), replace(SHORT, scale_rate=1e6))
