"""The allocation: totals, histogram, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitloom.errors import BudgetError, OutputError
from bitloom.graph.allocation import BitAllocation


def example() -> BitAllocation:
    return BitAllocation({"a": np.array([0, 2, 8], np.int8), "b": np.array([3], np.int8)}, {"a": 9, "b": 5})


def test_totals() -> None:
    a = example()
    assert (a.weights, a.total_bits, a.bytes) == (32, 105, 14)
    assert a.mean_bits == 105 / 32
    assert a.histogram == {0: 9, 2: 9, 3: 5, 8: 9}


def test_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "bits.json"
    example().save(path)
    back = BitAllocation.load(path)
    assert back.inputs == example().inputs and list(back.bits) == ["a", "b"]
    assert all(np.array_equal(back.bits[n], b) and back.bits[n].dtype == np.int8 for n, b in example().bits.items())


@pytest.mark.parametrize("text", ["", "[]", '{"layers": {"a": {}}}', '{"layers": {"a": {"bits": [300], "inputs": 1}}}'])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bits.json"
    path.write_text(text)
    with pytest.raises(BudgetError, match=r"not a saved allocation; write it with BitAllocation\.save"):
        BitAllocation.load(path)


def test_missing_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="cannot be read"):
        BitAllocation.load(tmp_path / "none.json")
    with pytest.raises(OutputError, match="cannot be written"):
        example().save(tmp_path / "no" / "bits.json")


def test_illegal_width_and_missing_size() -> None:
    with pytest.raises(BudgetError, match="a: channel 1 has 9 bits; legal"):
        BitAllocation({"a": np.array([2, 9], np.int8)}, {"a": 3})
    with pytest.raises(BudgetError, match="a: the allocation lacks its number of weights per channel"):
        BitAllocation({"a": np.array([2], np.int8)}, {})
