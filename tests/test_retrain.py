"""Fine-tuning in phases: widths solved again on the way, trained rows kept, interruption, and the journey around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from bitloom.allocate.hbp import LayerCosts, allocate
from bitloom.errors import BudgetError, DataError
from bitloom.graph.allocation import WIDTHS, BitAllocation
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.journal import Journal
from bitloom.quantize.augment import Augment
from bitloom.quantize.fake import dequantized
from bitloom.quantize.finetune import FinetuneOptions
from bitloom.quantize.quantize import quantize
from bitloom.retrain import Retrained, Training, keep_trained, retrain
from quantize.small_networks import images, mixed_widths, start

OPTIONS = FinetuneOptions(steps=13, batch=16, latent_rate=0.03, augment=Augment(1), every=2, warmup=2)


@dataclass(frozen=True)
class _Solution:
    allocation: BitAllocation


def _run(folder: Path, resolve: int = 1, report: object = None, mean_bits: float = 2.5) -> Retrained[_Solution]:
    graph, calibration, first = start()

    def solve(costs: Mapping[str, LayerCosts]) -> _Solution:
        return _Solution(allocate(costs, WIDTHS, int(mean_bits * allocation.weights)).allocation)

    allocation = mixed_widths(graph)
    training = Training(images(48), options=OPTIONS, resolve=resolve)
    journal = Journal(folder, quiet=True)
    return retrain(
        graph, calibration, first, _Solution(allocation), solve, images(20, 7), training, journal, "key", report
    )


def _convs(qgraph: QuantGraph) -> list[QConv]:
    return [node for node in qgraph.nodes if isinstance(node, QConv)]


def test_widths_are_solved_again_between_phases(tmp_path: Path) -> None:
    result = _run(tmp_path)
    assert [len(losses) for losses in result.losses] == [4, 3]  # 7 and 6 steps, a loss every second and at the end
    assert len(result.changed) == 1 and 0 < result.changed[0] <= 1
    assert result.solution.allocation.mean_bits <= 2.5
    for node in _convs(result.qgraph):
        assert np.array_equal(node.bits, result.solution.allocation.bits[node.name])


def test_without_resolving_the_widths_stay(tmp_path: Path) -> None:
    result = _run(tmp_path, resolve=0)
    graph, _, first = start()
    assert result.changed == ()
    assert all(np.array_equal(v, mixed_widths(graph).bits[k]) for k, v in result.solution.allocation.bits.items())
    for node, before in zip(_convs(result.qgraph), _convs(first), strict=True):
        assert np.array_equal(node.bits, before.bits)
    assert not list(tmp_path.glob("*.pt")), "the checkpoint of a phase that is done"


def test_interrupted_in_the_second_phase_it_ends_the_same(tmp_path: Path) -> None:
    whole = _run(tmp_path / "whole")

    class Stop(Exception):
        pass

    calls: list[int] = []

    def interrupt(step: int, loss: float) -> None:
        calls.append(step)
        if len(calls) == 6:
            raise Stop

    with pytest.raises(Stop):
        _run(tmp_path / "cut", report=interrupt)
    assert calls == [2, 4, 6, 7, 2, 4]
    seen: list[int] = []
    continued = _run(tmp_path / "cut", report=lambda step, _: seen.append(step))
    assert seen == [4, 6] and continued.losses == whole.losses
    for a, b in zip(_convs(continued.qgraph), _convs(whole.qgraph), strict=True):
        assert np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias)


def test_trained_rows_are_kept_where_the_width_stays() -> None:
    graph, calibration, first = start(choices=(2, 4))
    nodes = tuple(replace(n, weight=-n.weight, bias=n.bias + 1000) if isinstance(n, QConv) else n for n in first.nodes)
    trained = replace(first, nodes=nodes)
    fresh = quantize(graph, mixed_widths(graph, 1, (2, 4)), calibration)
    merged = keep_trained(calibration, trained, fresh)
    kept = 0
    for old, new, one in zip(_convs(trained), _convs(fresh), _convs(merged), strict=True):
        same = old.bits == new.bits
        kept += int(same.sum())
        assert np.array_equal(one.bits, new.bits)
        source = merged.tensors[one.input]
        for of, rows in ((old, same), (new, ~same)):
            for a, b in zip(dequantized(one, source), dequantized(of, source), strict=True):
                np.testing.assert_allclose(a.numpy()[rows], b.numpy()[rows], rtol=1e-3, atol=1e-4)
    assert 0 < kept < sum(len(node.bits) for node in _convs(fresh))


def test_widths_without_a_way_through_the_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"no way from the image .* give a larger budget"):
        _run(tmp_path, mean_bits=0.0)


def test_impossible_phases_are_refused() -> None:
    with pytest.raises(DataError, match="widths solved again 13 times in 13 steps; legal: 0 to 12"):
        Training(images(20), options=OPTIONS, resolve=13)
