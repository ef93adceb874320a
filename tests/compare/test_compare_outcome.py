"""Outcomes: figures by hand, and intervals that a direct computation of all draws gives too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitloom.compare.outcome import Outcome, outcome_of, paired


def drawn(seed: int, n: int) -> Outcome:
    rng = np.random.default_rng(seed)
    return Outcome(rng.random(n) < 0.7, rng.random(n) ** 3, rng.random(n), rng.random(n) < 0.8)


def test_an_outcome_by_hand() -> None:
    target = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64))
    found = torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]], dtype=torch.float64))
    made = outcome_of(found, target, np.array([1, 1]))
    assert made.hit.tolist() == [True, False] and made.agree.tolist() == [False, True]
    assert made.kl == pytest.approx([0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.0])
    figures = made.figures()
    assert figures["top1"] == 50.0 and figures["agreement"] == 50.0 and figures["n"] == 2
    assert figures["loss"] == pytest.approx(-(np.log(0.75) + np.log(0.1)) / 2)
    assert figures["ci95"] == pytest.approx([50 - 98 / np.sqrt(2), 50 + 98 / np.sqrt(2)])


@pytest.mark.parametrize("n", [1, 7, 600])
def test_pairs_have_the_interval_of_all_draws_at_once(n: int) -> None:
    a, b = drawn(n, n), drawn(n + 1, n)
    found = paired(a, b)
    difference = a.hit.astype(int) - b.hit.astype(int)
    picks = np.random.default_rng(0).integers(0, n, (2000, n))
    assert found["top1_points"] == pytest.approx(100 * difference.mean())
    assert found["top1_ci95"] == np.percentile(100 * difference[picks].mean(axis=1), [2.5, 97.5]).tolist()
    ratios = a.kl[picks].mean(axis=1) / b.kl[picks].mean(axis=1)
    assert found["kl_ratio_ci95"] == np.percentile(ratios, [2.5, 97.5]).tolist()


def test_equal_outcomes_have_no_lead() -> None:
    same = drawn(3, 50)
    found = paired(same, same)
    assert found["top1_points"] == 0 and found["top1_ci95"] == [0, 0]
    assert found["mcnemar_p"] == 1 and found["kl_ratio"] == 1
