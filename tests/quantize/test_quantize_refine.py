"""Refinement after the allocation: the stages asked for, none worse than the start, the best by held-out images."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bitloom.errors import DataError
from bitloom.quantize.finetune import FinetuneOptions
from bitloom.quantize.refine import RefinedNetwork, Refinement, best, divergence, learning_options, refine
from quantize.small_networks import images, start

SHORT = FinetuneOptions(steps=10, batch=16, latent_rate=0.004, every=5)


def test_every_stage_is_there_and_the_best_is_not_worse_than_gptq() -> None:
    graph, calibration, first = start(choices=(0, 2, 2, 3))
    found = refine(graph, calibration.lowered, first, images(64), images(64, seed=8), Refinement.BOTH, SHORT)
    assert [c.stage for c in found] == [Refinement.GPTQ, Refinement.COMPENSATED, Refinement.BOTH]
    assert found[0].qgraph is first and best(found).divergence <= found[0].divergence
    assert found[1].divergence < found[0].divergence
    for c in found:
        assert c.divergence == pytest.approx(divergence(calibration.lowered, c.qgraph, images(64, seed=8)), rel=1e-6)
    only = refine(graph, calibration.lowered, first, images(64), images(64, seed=8), Refinement.COMPENSATED)
    assert [c.stage for c in only] == [Refinement.GPTQ, Refinement.COMPENSATED]
    learned = refine(graph, calibration.lowered, first, images(64), images(64, seed=8), Refinement.LEARNED, SHORT)
    assert [c.stage for c in learned] == [Refinement.GPTQ, Refinement.LEARNED]


def test_a_failed_stage_is_left_out() -> None:
    _, _, first = start()
    worse = RefinedNetwork(Refinement.LEARNED, replace(first), 2.0)
    assert best((RefinedNetwork(Refinement.GPTQ, first, 1.0), worse)).stage is Refinement.GPTQ


def test_it_needs_images_to_compare() -> None:
    graph, calibration, first = start()
    with pytest.raises(DataError, match="no held-out images to compare roundings"):
        refine(graph, calibration.lowered, first, images(20), torch.empty(0, 3, 12, 12), Refinement.COMPENSATED)


def test_options_follow_the_images() -> None:
    few = learning_options(torch.zeros(5, 3, 28, 28))
    assert few.batch == 5 and few.latent_rate == 0
