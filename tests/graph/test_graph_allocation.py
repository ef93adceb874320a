"""The allocation: totals, histogram, and the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitloom.errors import BudgetError, OutputError
from bitloom.graph.allocation import BitAllocation, check_answers
from bitloom.graph.ir import Add, Conv, GlobalAvgPool, Graph, Input, Linear, Node


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


def _residual(silent: bool = False) -> Graph:
    """Stem, a branch beside its shortcut, classifier; silent: the branch has no weights."""
    one = np.ones((2, 2, 1, 1), np.float32)
    conv = lambda w: Conv(w, np.zeros(2, np.float32), (1, 1), (0, 0, 0, 0))  # noqa: E731
    nodes = (
        Node("image", Input((2, 4, 4)), ()),
        Node("stem", conv(one), ("image",)),
        Node("branch", conv(0 * one if silent else one), ("stem",)),
        Node("sum", Add(), ("branch", "stem")),
        Node("pool", GlobalAvgPool(), ("sum",)),
        Node("classes", Linear(np.ones((3, 2), np.float32), np.zeros(3, np.float32)), ("pool",)),
    )
    return Graph("net", nodes, "classes")


@pytest.mark.parametrize("gone", [{"stem"}, {"classes"}, {"stem", "branch", "classes"}])
def test_a_network_without_a_way_through_is_refused(gone: set[str]) -> None:
    bits = {
        n: np.full(3 if n == "classes" else 2, 0 if n in gone else 2, np.int8) for n in ("stem", "branch", "classes")
    }
    first = next(n for n in bits if n in gone)
    with pytest.raises(
        BudgetError, match=f"no way .* to 'classes': {len(gone)} of 3 .* whole, '{first}' first; give a l"
    ):
        check_answers(_residual(), BitAllocation(bits, dict.fromkeys(bits, 2)))


def test_a_way_around_a_pruned_layer_is_enough() -> None:
    bits = {"stem": np.array([0, 2], np.int8), "branch": np.zeros(2, np.int8), "classes": np.array([0, 0, 1], np.int8)}
    check_answers(_residual(), BitAllocation(bits, dict.fromkeys(bits, 2)))


def test_layers_without_weights_do_not_count_as_pruned() -> None:
    nodes = _residual(silent=True).nodes
    chain = Graph("chain", (*nodes[:3], Node("classes", nodes[-1].op, ("branch",))), "classes")
    bits = {"stem": np.full(2, 2, np.int8), "branch": np.zeros(2, np.int8), "classes": np.full(3, 2, np.int8)}
    check_answers(chain, BitAllocation(bits, dict.fromkeys(bits, 2)))
