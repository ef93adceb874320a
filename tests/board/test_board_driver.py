"""The C driver drives the simulated accelerator: networks equal the integer reference, and every failure is a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from board.conftest import Board, case
from bitloom.program.c_header import COUNTERS
from bitloom.simulate.run import simulate


@pytest.mark.parametrize(("seed", "mode", "stall"), [(0, "", 0.0), (1, "poll:", 0.2), (2, "", 0.1), (3, "poll:", 0.0)])
def test_networks_through_the_driver_equal_the_reference(board: Board, seed: int, mode: str, stall: float) -> None:
    what = case(seed)
    with board.powered(stall) as where:
        outcome, result = board.classify(what, mode + where, "--repeat", "2")
    assert outcome.code == 0, outcome.err
    assert result is not None and (result == what.expected).all()


def test_a_batch_and_its_counters(board: Board) -> None:
    what = case(5, batch=3)
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
