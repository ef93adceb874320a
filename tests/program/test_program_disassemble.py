"""The disassembler's text, against a golden file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitloom.program.container import Program
from bitloom.program.disassemble import disassemble
from bitloom.program.lower import lower
from bitloom.program.plan import plan
from bitloom.target.arch import ArchConfig
from random_networks import NetworkMaker

GOLDEN = Path(__file__).parent / "golden" / "disassembly.txt"


def _program() -> Program:
    make = NetworkMaker(np.random.default_rng(2024), (3, 9, 9))
    x = make.conv("image", 6, (3, 3), (1, 1), (1, 1, 1, 1), None)
    y = make.conv(x, 6, (3, 3), (1, 1), (1, 1, 1, 1), x)
    z = make.conv(y, 10, (3, 3), (2, 2), (1, 1, 1, 1), None)
    y = make.conv(y, 10, (3, 3), (1, 1), (1, 1, 1, 1), None)
    z = make.conv(y, 10, (1, 1), (2, 2), (0, 0, 0, 0), z)
    z = make.pool(z, False, (5, 5), (1, 1), (0, 0, 0, 0), None)
    out = make.conv(z, 4, (1, 1), (1, 1), (0, 0, 0, 0), None)
    graph = make.graph("golden", out)
    return lower(graph, plan(graph, ArchConfig("tiny", 2, 8, 8, 1, 4, 8, 512, 2048)))


def test_text_is_the_golden_one() -> None:
    assert disassemble(_program(), taps=True) == GOLDEN.read_text(), f"if this is meant, rewrite {GOLDEN.name}"


def test_taps_are_optional_and_layers_are_named() -> None:
    text = disassemble(_program())
    assert "tap 0" not in text
    for name in ("load image", "conv0", "t1.split", "pool5", "store t6"):
        assert name in text
