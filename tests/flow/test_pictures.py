"""Calibration pictures divided: whatever their order in the folder, both parts are alike, view by view."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.errors import DataError
from bitloom.pictures import split_pictures


def pictures_in_order(count: int, views: int) -> torch.Tensor:
    """(views * count, 1, 2, 2): pixel values name the picture and, behind the point, the view."""
    names = torch.arange(count, dtype=torch.float32)[None, :] + torch.arange(views)[:, None] / 8
    return names.reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()


@settings(deadline=None)
@given(count=st.integers(6, 300), views=st.integers(1, 4))
def test_every_picture_is_in_one_part_with_all_its_views(count, views):
    parts = split_pictures(pictures_in_order(count, views), views)
    seen, held_out = parts.seen[:, 0, 0, 0], parts.held_out[:, 0, 0, 0]
    assert sorted([*seen.tolist(), *held_out.tolist()]) == list(range(count))
    assert len(seen) == 2 * count // 3
    every = parts.every_view[:, 0, 0, 0].reshape(views, -1)
    assert torch.equal(every, seen + torch.arange(views)[:, None] / 8)
    assert torch.equal(parts.by_picture()[:, 0, 0, 0], every.T.flatten())


def test_a_folder_in_the_order_of_its_classes_gives_both_parts_all_classes():
    """Ten classes of 20 pictures, one after the other; the first 64 of those seen serve bias correction."""
    parts = split_pictures(pictures_in_order(200, 1), 1)
    for part in (parts.seen, parts.seen[:64], parts.held_out):
        counts = torch.bincount(part[:, 0, 0, 0].long() // 20, minlength=10)
        assert counts.min() >= 1
        assert counts.max() <= len(part) / 4


def test_the_division_is_the_same_every_time():
    first, again = (split_pictures(pictures_in_order(50, 2), 2) for _ in range(2))
    assert torch.equal(first.every_view, again.every_view)
    assert torch.equal(first.held_out, again.held_out)


def test_pictures_that_cannot_be_divided():
    with pytest.raises(DataError, match="7 calibration images are no 2 views"):
        split_pictures(pictures_in_order(7, 1), 2)
    with pytest.raises(DataError, match="5 calibration images; give at least 6"):
        split_pictures(pictures_in_order(5, 1), 1)
