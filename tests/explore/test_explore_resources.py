"""The resource model: against the synthesis results of the repository, memories counted by hand, what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitloom.explore.blocks import BLOCKS, coefficients, lut_memory
from bitloom.explore.resources import (
    Margins,
    activation_memory,
    excess,
    resources,
    ring_bram36,
    ring_resources,
)
from bitloom.target.arch import NAMED, ArchConfig
from bitloom.target.device import load_device

DEVICE = load_device("xczu15eg")
TINY, FULL = NAMED["tiny"], NAMED["full"]
RESULT = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "resources.json"
ROWS: list[dict[str, Any]] = json.loads(RESULT.read_text())["configs"]


def arch_of(row: dict[str, Any]) -> ArchConfig:
    names = ("P", "C", "M", "WP", "DC", "T", "RingWords", "ActRows", "TapEntries")
    return ArchConfig(row["name"], *(row["arch"][name] for name in names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["name"]))
def test_model_against_synthesis(row: dict[str, Any]) -> None:
    """The stored counts of Yosys (make bench-resources): blocks exactly, logic within 10 %."""
    need = resources(arch_of(row), DEVICE)
    assert {k: getattr(need, k) for k in ("dsp", "bram36", "uram")} == {
        k: row["yosys"][k] for k in ("dsp", "bram36", "uram")
    }
    assert need.lut == pytest.approx(row["yosys"]["lut"], rel=0.10)
    assert need.ff == pytest.approx(row["yosys"]["ff"], rel=0.10)


def test_the_judged_are_not_the_fitted() -> None:
    fitted = set(json.loads((RESULT.parents[2] / "src/bitloom/explore/coefficients.json").read_text())["fitted"])
    assert {row["name"] for row in ROWS if row["fitted"]} == fitted


def test_every_block_has_coefficients() -> None:
    table = coefficients()
    assert set(table) == {b.name for b in BLOCKS}
    for block in BLOCKS:
        assert tuple(table[block.name]["lut"]) == block.lut and tuple(table[block.name]["ff"]) == block.ff
        assert all(x >= 0 for kind in table[block.name].values() for x in kind.values())


def test_the_full_build() -> None:
    need = resources(FULL, DEVICE)
    assert need.dsp == 3072 + 2 * 6 * 32 + 2 * 2 * 6 + 1
    assert ring_bram36(64, 32, 8192) == 64 * 7.5
    assert not excess(need, DEVICE, Margins())


@pytest.mark.parametrize("ring", [1024, 2048, 4096, 16384])
def test_only_the_lanes_depend_on_the_ring(ring: int) -> None:
    a, b = resources(FULL, DEVICE), resources(replace(FULL, ring_words=ring), DEVICE)
    x, y = ring_resources(64, 32, FULL.ring_words), ring_resources(64, 32, ring)
    for kind in ("dsp", "lut", "ff", "bram36", "uram"):
        assert getattr(b, kind) - getattr(a, kind) == getattr(y, kind) - getattr(x, kind)


def test_activation_memory() -> None:
    """A word of 256 bits is 29 bytes of nine bits; every half of a bank's rows has its own blocks."""
    assert activation_memory(FULL, uram=True) == (0, 12 * 8)  # two depths: 58 bytes in URAMs of eight bytes
    assert activation_memory(replace(FULL, act_rows=4096), uram=True) == (12 * 29 / 2, 0)  # two depths, pairs of bytes
    assert activation_memory(replace(FULL, act_rows=8192), uram=False) == (12 * 58 / 2, 0)
    assert activation_memory(replace(FULL, drain_channels=8, act_rows=8192), uram=True) == (0, 48)


@pytest.mark.parametrize(("depth", "reads", "luts"), [(32, 1, 8), (32, 2, 16), (64, 1, 16), (64, 2, 32), (128, 1, 46)])
def test_lut_memory_of_fourteen_bits(depth: int, reads: int, luts: int) -> None:
    assert lut_memory(14, depth, reads) == luts


@pytest.mark.parametrize("field", ["pixels", "vector", "acc_groups", "drain_channels", "ring_words", "weight_ports"])
def test_more_of_anything_never_costs_less(field: str) -> None:
    small = ArchConfig("s", 4, 16, 32, 1, 8, 16, 1024, 2048)
    large = replace(small, **{field: 2 * getattr(small, field)})
    a, b = resources(small, DEVICE), resources(large, DEVICE)
    assert (b.dsp, b.lut, b.ff, b.bram36) >= (a.dsp, a.lut, a.ff, a.bram36)
    assert all(getattr(b, k) >= getattr(a, k) for k in ("dsp", "lut", "ff", "bram36"))


def test_a_dsp48e1_device_pays_double_for_the_array() -> None:
    assert resources(TINY, load_device("xc7z020")).dsp == 2 * 32 + 3 * 2 * 4 + 2 * 2 + 1


def test_excess_names_kind_need_and_limit() -> None:
    over = excess(resources(FULL, load_device("xck26")), load_device("xck26"), Margins())
    assert over["dsp"] == (3481, 1248)
    assert over["uram"] == (96, 64)
    assert set(over) >= {"dsp", "lut", "bram36", "uram"}
