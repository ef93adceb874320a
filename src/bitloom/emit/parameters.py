"""The one place that turns an architecture into RTL parameters and a file list."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from bitloom.errors import TargetError
from bitloom.target.arch import ArchConfig

TOP = "bl_top"


def rtl_parameters(arch: ArchConfig) -> dict[str, int]:
    """Parameters of `bl_top` by name; ArchHash is an unsigned 32-bit number."""
    return {
        "P": arch.pixels,
        "C": arch.channels,
        "M": arch.vector,
        "T": arch.acc_groups,
        "DC": arch.drain_channels,
        "WP": arch.weight_ports,
        "RingWords": arch.ring_words,
        "ActRows": arch.act_rows,
        "TapEntries": arch.tap_entries,
        "ArchHash": arch.hash,
    }


def literal(name: str, value: int) -> str:
    """The SystemVerilog literal of a parameter: a sized one for ArchHash, which may need all 32 bits."""
    return f"32'h{value:08X}" if name == "ArchHash" else str(value)


def verilator_parameters(parameters: dict[str, int]) -> tuple[str, ...]:
    """`-GNAME=VALUE` arguments."""
    return tuple(f"-G{name}={literal(name, value)}" for name, value in parameters.items())


def rtl_root() -> Path:
    """The folder of the SystemVerilog sources inside the installed package."""
    return Path(str(files("bitloom") / "rtl"))


def rtl_sources(root: Path | None = None) -> tuple[Path, ...]:
    """Every `*.sv` below `root` (default: the package's RTL), packages first, `bl_pkg.sv` before all.

    The order inside both groups is alphabetical by path, so that a build is reproducible.
    Raises TargetError when the folder holds no `bl_pkg.sv`.
    """
    base = rtl_root() if root is None else root
    found = sorted(base.rglob("*.sv"))
    packages = [p for p in found if p.stem.endswith("_pkg")]
    first = [p for p in packages if p.name == "bl_pkg.sv"]
    if not first:
        raise TargetError(f"no bl_pkg.sv below {base}; reinstall bitloom, or run `make generate` in a checkout")
    rest = [p for p in packages if p.name != "bl_pkg.sv"]
    return (*first, *rest, *(p for p in found if p not in packages))
