"""Allocation and its verifier, layouts, channel slots."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitloom.errors import ProgramError
from bitloom.program.regions import (
    Layout,
    Region,
    allocate,
    canonical_segments,
    chunk_count,
    peak_rows,
    slots,
    split_layout,
    verify_regions,
)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=12))
def test_allocations_never_overlap_in_time_and_space(raw: list[tuple[int, int, int]]) -> None:
    regions = tuple(Region(f"r{i}", rows, first, first + life) for i, (rows, first, life) in enumerate(raw))
    total = sum(r.rows for r in regions)
    placed = allocate(regions, total)
    assert placed is not None
    for i, a in enumerate(placed):
        for b in placed[:i]:
            times = set(range(a.first, a.last + 1)) & set(range(b.first, b.last + 1))
            rows = set(range(a.base, a.base + a.rows)) & set(range(b.base, b.base + b.rows))
            assert not (times and rows)
    peak, _ = peak_rows(regions)
    assert allocate(regions, peak - 1) is None
    brute = max(sum(r.rows for r in regions if r.first <= t <= r.last) for t in range(15))
    assert peak == brute


def test_verifier_names_both_regions() -> None:
    a, b = Region("a", 10, 0, 3, 0), Region("b", 5, 3, 4, 9)
    with pytest.raises(ProgramError, match=r"regions 'a' \(rows 0..9\) and 'b' \(rows 9..13\) overlap .* in step 3"):
        verify_regions((a, b), 64)
    verify_regions((a, replace(b, first=4)), 64)
    with pytest.raises(ProgramError, match=r"region 'b' occupies rows 9..13, but the memory has 12 rows"):
        verify_regions((a, replace(b, first=4)), 12)


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([2, 4, 6, 8]))
def test_flat_positions_are_distinct_and_inside(rows: int, width: int, pixels: int) -> None:
    y, x = np.arange(rows)[:, None], np.arange(width)[None, :]
    for layout in (Layout(False, width + 1), split_layout(rows, -(-width // 2), pixels)):
        flat = layout.flat(y, x).ravel()
        assert len(set(flat.tolist())) == rows * width
        assert flat.min() >= 0 and flat.max() < layout.positions(rows)


def test_split_phases_start_half_the_banks_apart() -> None:
    for rows in range(1, 12):
        layout = split_layout(rows, 5, 6)
        assert layout.phase_pixels % 6 == 3 and 0 <= layout.phase_pixels - -(-rows // 2) * 5 < 6


@given(st.lists(st.integers(1, 20), min_size=1, max_size=5), st.sampled_from([4, 8, 16]))
def test_canonical_segments_keep_every_slot(parts: list[int], channels: int) -> None:
    merged = canonical_segments(tuple(parts), channels)
    assert chunk_count(merged, channels) == chunk_count(tuple(parts), channels)
    np.testing.assert_array_equal(slots(merged, channels), slots(tuple(parts), channels))
    assert all(s % channels for s in merged[:-1])
