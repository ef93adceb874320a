"""The resource model: its calibration build, the memories counted by hand, and what does not fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitloom.explore.resources import Margins, activation_memory, excess, lut_memory, resources, ring_bram36
from bitloom.target.arch import NAMED, ArchConfig
from bitloom.target.device import load_device

DEVICE = load_device("xczu15eg")
TINY, FULL = NAMED["tiny"], NAMED["full"]


def test_the_build_that_the_coefficients_come_from() -> None:
    """Yosys, P=2 C=8 M=8 T=8 DC=4 WP=1: 51 DSP48E2, 28 RAMB36 + 3 RAMB18, 14393 LUT, 12839 flip-flops."""
    need = resources(TINY, DEVICE)
    assert (need.dsp, need.bram36, need.uram) == (51, 30, 0)
    assert need.lut == pytest.approx(14393, rel=0.02)
    assert need.ff == pytest.approx(12839, rel=0.02)


def test_the_full_build() -> None:
    need = resources(FULL, DEVICE)
    assert need.dsp == 3072 + 2 * 6 * 32 + 3 * 6 + 1
    assert need.uram == 6 * 4 * 4
    assert ring_bram36(64, 32, 8192) == 512
    assert not excess(need, DEVICE, Margins())


def test_activation_memory_without_uram_goes_to_block_ram() -> None:
    """256 bits a bank: 29 blocks of 9 × 4096, 15 of 18 × 2048, 8 of 36 × 1024."""
    assert activation_memory(replace(FULL, act_rows=4096), uram=False) == (6 * 29, 0)
    assert activation_memory(replace(FULL, act_rows=2048), uram=True) == (6 * 15, 0)
    assert activation_memory(replace(FULL, act_rows=1024), uram=True) == (6 * 8, 0)
    assert activation_memory(replace(FULL, drain_channels=4, act_rows=4096), uram=True) == (0, 6 * 8)


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
    assert resources(TINY, load_device("xc7z020")).dsp == 2 * 32 + 3 * 2 * 4 + 2 + 1


def test_excess_names_kind_need_and_limit() -> None:
    over = excess(resources(FULL, load_device("xck26")), load_device("xck26"), Margins())
    assert over["dsp"] == (3475, 1248)
    assert over["uram"] == (96, 64)
    assert set(over) >= {"dsp", "lut", "bram36", "uram"}
