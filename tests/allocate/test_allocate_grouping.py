"""Groups follow the curves: ordered, complete, dead channels apart, better than equal cuts where the curves part."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.allocate.grouping import curve_groups, group_channels

DECAY = 4.0 ** -np.arange(8.0)


def test_clusters_are_found_whatever_their_sizes() -> None:
    rng = np.random.default_rng(0)
    scale = rng.permutation(np.concatenate([np.full(50, 1e-4), np.full(3, 1.0), np.full(11, 1e-2)]))
    group = curve_groups(scale[:, None] * np.exp(rng.normal(0, 0.05, (64, 8))) * DECAY, 3)
    assert [set(np.round(np.log10(scale[group == g])).tolist()) for g in range(3)] == [{-4.0}, {-2.0}, {0.0}]


@pytest.mark.parametrize("most", [1, 4, 16, 100])
def test_numbers_are_complete_and_ordered(most: int) -> None:
    scale = np.exp(np.random.default_rng(1).normal(0, 1, 40))
    group = curve_groups(scale[:, None] * DECAY, most)
    assert np.array_equal(np.unique(group), np.arange(group.max() + 1)) and group.max() < min(most, 40)
    assert (np.diff(group[np.argsort(scale)]) >= 0).all()


def test_equal_channels_are_one_group_and_dead_ones_another() -> None:
    assert curve_groups(np.ones((5, 3)), 4).tolist() == [0] * 5
    cost = np.array([[3.0, 1.0], [0.0, 0.0], [2.0, 1.0], [0.0, 0.0]])
    assert curve_groups(cost, 2).tolist() == [1, 0, 1, 0]
    assert curve_groups(np.zeros((3, 2)), 4).tolist() == [0, 0, 0]


def test_forbidden_widths_do_not_count() -> None:
    cost = np.random.default_rng(2).uniform(1, 2, (20, 1)) * DECAY
    barred = cost.copy()
    barred[:, 0] = np.inf
    assert np.array_equal(curve_groups(barred, 4), curve_groups(cost[:, 1:], 4))


def test_layers_are_numbered_one_after_another() -> None:
    group = group_channels([np.arange(1.0, 7.0)[:, None] * DECAY, np.arange(1.0, 4.0)[:, None] * DECAY], 2)
    assert set(group[:6].tolist()) == {0, 1} and set(group[6:].tolist()) == {2, 3}
