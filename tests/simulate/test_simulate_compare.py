"""Locating the first difference, and reading tensors out of replayed memory."""

from __future__ import annotations

import numpy as np
import pytest

from bitloom.errors import SimulationError
from bitloom.graph.qgraph import Int8Array
from bitloom.program.commands import ErrorCode
from bitloom.program.container import Program, TraceEntry
from bitloom.program.inputs import LinearSpec
from bitloom.program.regions import Layout, Placement
from bitloom.simulate.compare import compare_tensor, compare_tensors, written_rows
from bitloom.simulate.results import CommandTrace, RunResult
from bitloom.target.arch import ArchConfig


def tensor(seed: int) -> Int8Array:
    return np.random.default_rng(seed).integers(-127, 128, (3, 4, 5), dtype=np.int8)


def test_equal_tensors_have_no_difference() -> None:
    assert compare_tensor("a", tensor(0), tensor(0).copy()) is None
    both = compare_tensors({"a": tensor(0), "b": tensor(1)}, [("a", 0, tensor(0)), ("b", 0, tensor(1))])
    assert both.exact and both.first is None and both.text() == "2 tensors compared, all equal"


def test_the_first_difference_is_found_in_order_of_execution() -> None:
    wrong_b, wrong_c = tensor(1), tensor(2)
    wrong_b[1, 2, 3] ^= 1
    wrong_b[2, 0, 0] ^= 1
    wrong_c[0, 0, 4] ^= 3
    result = compare_tensors(
        {name: tensor(i) for i, name in enumerate("abc")}, [("a", 0, tensor(0)), ("b", 0, wrong_b), ("c", 0, wrong_c)]
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
        compare_tensors({"a": tensor(0)}, [("z", 0, tensor(0))])


def test_parts_of_a_tensor_count_together() -> None:
    wrong = tensor(1)
    wrong[0, 3, 1] ^= 1
    wrong[2, 1, 1] ^= 1
    parts = [("b", 0, wrong[:, :2]), ("b", 2, wrong[:, 2:])]
    found = compare_tensors({"b": tensor(1)}, parts)
    assert found.tensors == ("b",) and len(found.differences) == 1
    first = found.first
    assert first is not None and (first.channel, first.y, first.x, first.wrong, first.total) == (2, 1, 1, 2, 60)
    (only,) = compare_tensors({"b": tensor(1)}, [("b", 3, wrong[:, 3:])]).differences
    assert (only.channel, only.y, only.x) == (0, 3, 1), "rows count from the top of the tensor"


ARCH = ArchConfig("four", 2, 4, 4, 1, 4, 8, 64, 64)


def program_of(*entries: tuple[int, str, int]) -> Program:
    """Entries (command, tensor, base): tensors of 4 channels, 1 row of 2 pixels."""
    trace = tuple(
        TraceEntry(at, at, f"layer {name}", Placement(name, (4,), 0, 1, 2, Layout(False, 2), base, 1), 0, 1)
        for at, name, base in entries
    )
    spec = LinearSpec((4, 1, 2), (4,), Layout(False, 2), 4, 4)
    return Program("p", ARCH, b"", (b"",), spec, spec, (), trace, {}, "")


def command(layer: int, row: int, value: int, end: int = 10) -> CommandTrace:
    """Writes `value` into both banks of a row."""
    words = np.full((2, 4), value, np.uint8)
    return CommandTrace(layer, 0, end, {}, np.arange(2, dtype=np.uint32), np.full(2, row, np.uint32), words)


def run_of(*commands: CommandTrace) -> RunResult:
    return RunResult(ErrorCode.NONE, {}, 0, 0.0, commands, {}, (), None, b"", b"")


def test_tensors_are_read_as_their_own_command_left_them() -> None:
    # Row 0 is written by two commands and then reused by a third for another tensor.
    run = run_of(command(0, 5, 1), command(1, 0, 5), command(1, 0, 6), command(2, 0, 200))
    program = program_of((2, "a", 0), (3, "b", 0))
    (a_name, a_row, a), (b_name, b_row, b) = written_rows(program, run)
    assert (a_name, a_row, b_name, b_row) == ("a", 0, "b", 0)
    assert a.shape == (4, 1, 2) and (a == 6).all() and (b == 200 - 256).all()


def test_a_layer_that_did_not_end_is_an_error() -> None:
    run = run_of(command(0, 0, 5), command(1, 0, 5, end=-1))
    with pytest.raises(SimulationError, match=r"layer 'layer b' did not end in the simulation"):
        list(written_rows(program_of((0, "a", 0), (1, "b", 0)), run))
