"""Groups of channels by their sensitivity curves: those that a layer treats alike get one number.

A channel's curve is the logarithm of its cost at every width. Inside a layer the curves differ mostly by a shift and a
little by their steepness, so their first principal component orders the channels; Lloyd's iterations on that order
(Lloyd 1982, one-dimensional k-means) put the cuts where the curves part, not where the count says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def group_channels(costs: Sequence[FloatArray], most: int) -> IntArray:
    """Group number of every channel of all layers, (sum of Cout,): numbers rise from layer to layer without gaps.

    costs: (Cout, k) of each layer, +inf where a width is not allowed. most: groups of one layer, at most.
    """
    numbers, base = [], 0
    for cost in costs:
        own = curve_groups(cost, most)
        numbers.append(base + own)
        base += int(own.max()) + 1
    return np.concatenate(numbers)


def curve_groups(cost: FloatArray, most: int, rounds: int = 20) -> IntArray:
    """Groups of one layer's channels, (Cout,), 0 the least sensitive; no more than `most`, none empty.

    Channels that cost nothing are a group of their own. Deterministic.
    """
    score = _score(cost)
    order = np.argsort(score, kind="stable")
    ranked = score[order]
    count = min(most, len(np.unique(ranked)))
    span = max(float(ranked[-1] - ranked[0]), 1e-300)
    labels = np.minimum(((ranked - ranked[0]) / span * count).astype(np.int64), count - 1)
    for _ in range(rounds):
        sums, members = np.bincount(labels, ranked), np.bincount(labels)
        centres = (sums / np.maximum(members, 1))[members > 0]
        new = np.searchsorted((centres[1:] + centres[:-1]) / 2, ranked, side="left")
        if np.array_equal(new, labels):
            break
        labels = new
    _, labels = np.unique(labels, return_inverse=True)
    group = np.empty(len(ranked), np.int64)
    group[order] = labels
    return group


def _score(cost: FloatArray) -> FloatArray:
    """Projection of the log curves on their first principal component, larger for more sensitive channels."""
    used = np.isfinite(cost).all(axis=0)
    finite = cost[:, used]
    live = finite.sum(axis=1) > 0
    score: FloatArray = np.zeros(len(cost))
    if live.sum() < 2:
        score[live] = 1.0
        return score
    floor = 1e-9 * float(finite[live].max())
    curves = np.log(np.maximum(finite[live], floor))
    centred = curves - curves.mean(axis=0)
    axis = np.linalg.svd(centred, full_matrices=False)[2][0]
    projected = centred @ (axis if axis.sum() >= 0 else -axis)
    score[live] = projected
    # Far below the rest, so that dead channels are not averaged with live ones.
    score[~live] = projected.min() - 10 * max(float(np.ptp(projected)), 1.0)
    return score
