"""The C driver on the simulated accelerator: random networks equal the integer reference."""

from __future__ import annotations

import pytest

from bitloom.program.commands import COUNTERS
from bitloom.program.inputs import FoldSpec, LinearSpec
from board.conftest import Board, case


@pytest.mark.parametrize(
    ("seed", "mode", "stall"), [(11, "", 0.0), (9, "poll:", 0.2), (15, "", 0.1), (26, "poll:", 0.0)]
)
def test_networks_through_the_driver_equal_the_reference(board: Board, seed: int, mode: str, stall: float) -> None:
    """Folded and linear inputs (9, 26), tensors in DDR (9, 15, 26), interrupts and polling, stalls."""
    what = case(seed)
    with board.powered(stall) as where:
        outcome, result = board.classify(what, mode + where, "--repeat", "2")
    assert outcome.code == 0, outcome.err
    assert result is not None and (result == what.expected).all()


def test_a_batch_and_its_counters(board: Board) -> None:
    what = case(36, batch=3)
    with board.powered() as where:
        outcome, result = board.classify(what, where, "--top", "1")
    assert outcome.code == 0, outcome.err
    assert result is not None and (result == what.expected).all()
    rows = dict(line.split() for line in outcome.out.splitlines() if line.startswith(("CYCLES", "BEATS")))
    assert tuple(rows) == COUNTERS
    causes = sum(int(v) for k, v in rows.items() if k.startswith("CYCLES_") and k != "CYCLES_TOTAL")
    assert causes == int(rows["CYCLES_TOTAL"]) > 0
    assert int(rows["BEATS_WEIGHTS"]) == sum(map(len, what.program.weights)) // 16
    for image, codes in enumerate(what.expected):
        best = int(codes.argmax())
        assert f"codes\n  class {best}  code {codes.ravel()[best]}\n" in outcome.out, image


def test_the_networks_above_are_of_every_kind() -> None:
    programs = [case(seed).program for seed in (11, 9, 15, 26)]
    assert {type(p.input_spec) for p in programs} == {FoldSpec, LinearSpec}
    assert {p.scratch_bytes > 0 for p in programs} == {True, False}
    assert all(len(p.weights) == 2 and all(p.weights) for p in programs)
