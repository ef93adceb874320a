"""Locating the first difference, and reading tensors out of replayed memory."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.errors import SimulationError
from bitloom.program.commands import ErrorCode
from bitloom.quantize.qgraph import Int8Array
from bitloom.simulate.compare import Probe, compare_tensor, compare_tensors, read_tensors
from bitloom.simulate.results import CommandTrace, Memory, RunResult


def tensor(seed: int) -> Int8Array:
    return np.random.default_rng(seed).integers(-127, 128, (3, 4, 5), dtype=np.int8)


def test_equal_tensors_have_no_difference() -> None:
    assert compare_tensor("a", tensor(0), tensor(0).copy()) is None
    both = compare_tensors({"a": tensor(0), "b": tensor(1)}, [("a", tensor(0)), ("b", tensor(1))])
    assert both.exact and both.first is None and both.text() == "2 tensors compared, all equal"


def test_the_first_difference_is_found_in_order_of_execution() -> None:
    wrong_b, wrong_c = tensor(1), tensor(2)
    wrong_b[1, 2, 3] ^= 1
    wrong_b[2, 0, 0] ^= 1
    wrong_c[0, 0, 4] ^= 3
    result = compare_tensors(
        {name: tensor(i) for i, name in enumerate("abc")}, [("a", tensor(0)), ("b", wrong_b), ("c", wrong_c)]
    )
    first = result.first
    assert first is not None and not result.exact
    assert (first.tensor, first.channel, first.y, first.x, first.wrong, first.total) == ("b", 1, 2, 3, 2, 60)
    assert (first.expected, first.got) == (int(tensor(1)[1, 2, 3]), int(wrong_b[1, 2, 3]))
    lines = result.text().splitlines()
    assert lines[0] == "3 tensors compared, 2 differ; the first 1 are equal"
    assert lines[1] == (
        f"first difference in 'b': channel 1, pixel (y 2, x 3): expected {first.expected}, got {first.got}; "
        "2 of 60 values differ"
    )
    assert lines[2].startswith("  also in 'c': channel 0, pixel (y 0, x 4)") and lines[2].endswith(
        "1 of 60 values differ"
    )


def test_comparing_nothing_is_not_exact() -> None:
    assert not compare_tensors({}, []).exact and compare_tensors({}, []).text() == "nothing was compared"


def test_wrong_shapes_and_names_are_errors() -> None:
    with pytest.raises(SimulationError, match=r"'a': reference is int8 \(3, 4, 5\), simulation gave int8 \(3, 5, 4\)"):
        compare_tensor("a", tensor(0), tensor(0).transpose(0, 2, 1))
    with pytest.raises(SimulationError, match="the reference has no tensor 'z'; it has: a"):
        compare_tensors({"a": tensor(0)}, [("z", tensor(0))])


def command(layer: int, row: int, value: int, end: int = 10) -> CommandTrace:
    words = np.full((1, 4), value, np.int8)
    return CommandTrace(layer, 0, end, {}, np.zeros(1, np.uint32), np.full(1, row, np.uint32), words)


def run_of(*commands: CommandTrace) -> RunResult:
    return RunResult(ErrorCode.NONE, {}, 0, 0.0, commands, {}, (), None, b"", b"")


def extract(name: str, memory: Memory) -> Int8Array:
    return memory[:, int(name) : int(name) + 1].copy()


def test_tensors_are_read_after_the_last_command_of_their_layer() -> None:
    # Row 0 is written by both commands of layer 1, then reused by layer 2.
    run = run_of(command(1, 0, 5), command(1, 0, 6), command(2, 0, 7), command(2, 1, 8))
    got = dict(read_tensors(run, [Probe("0", 1), Probe("1", 2)], extract, (1, 2, 4)))
    assert (got["0"] == 6).all() and (got["1"] == 8).all()


def test_a_layer_that_did_not_end_is_an_error() -> None:
    run = run_of(command(1, 0, 5), command(2, 0, 7, end=-1))
    with pytest.raises(SimulationError, match=r"layer 2 \('1'\) did not end in the simulation"):
        list(read_tensors(run, [Probe("1", 2)], extract, (1, 2, 4)))
