"""Devices as data: one TOML file each in `devices/`, a source for every figure."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from bitloom.errors import TargetError

_DSP_KINDS = ("DSP48E2", "DSP48E1")


@dataclass(frozen=True)
class Device:
    """What one device offers. Counts are whole blocks; `sources` has the origin of every figure by field name.

    dsp_kind: DSP48E2 holds the four-product packing (27 × 18 bits); DSP48E1 (25 × 18) needs two slices for it.
    ddr_gb_per_s: peak of all channels together, 1e9 bytes.  ddr_ports × ddr_port_bits: memory ports of the logic.
    clock_mhz: clock at which times are reported.  static_w: static power, watts, an assumption.
    mpsoc_part: the vendor's full name of the part, package and speed grade, that board files are written for; only a
    Zynq UltraScale+ MPSoC has one, '' otherwise.
    """

    name: str
    title: str
    dsp_kind: str
    dsp: int
    lut: int
    ff: int
    bram36: int
    uram: int
    lutram: int
    ddr_gb_per_s: float
    ddr_ports: int
    ddr_port_bits: int
    clock_mhz: float
    static_w: float
    mpsoc_part: str = ""
    sources: dict[str, str] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        if self.dsp_kind not in _DSP_KINDS:
            raise TargetError(f"device '{self.name}': dsp_kind = {self.dsp_kind!r}; legal: {', '.join(_DSP_KINDS)}")
        for name in ("dsp", "lut", "ff", "bram36", "lutram", "ddr_gb_per_s", "ddr_ports", "ddr_port_bits", "clock_mhz"):
            if not getattr(self, name) > 0:
                raise TargetError(f"device '{self.name}': {name} = {getattr(self, name)}; must be positive")
        if self.uram < 0 or self.static_w < 0:
            raise TargetError(f"device '{self.name}': uram and static_w must not be negative")

    @property
    def dsps_per_quad(self) -> int:
        """DSP slices for four products of 5 × 8 bits."""
        return 1 if self.dsp_kind == "DSP48E2" else 2

    def ddr_bytes_per_cycle(self, efficiency: float) -> float:
        """Bytes that DDR delivers in one clock cycle at `efficiency` (0..1] of its peak."""
        return self.ddr_gb_per_s * 1e3 / self.clock_mhz * efficiency


#: Figures of a device file: a table with `value` and `source` each.
FIGURES = tuple(f.name for f in fields(Device) if f.name not in ("name", "title", "dsp_kind", "mpsoc_part", "sources"))
_PART = "mpsoc_part"  #: a table of the same form that may be absent, its value a text


def _folder() -> Path:
    return Path(str(files("bitloom.target") / "devices"))


def device_names() -> tuple[str, ...]:
    """Names of the devices that come with Bitloom."""
    return tuple(sorted(p.stem for p in _folder().glob("*.toml")))


def read_device(path: Path) -> Device:
    """A device file; raises TargetError when a figure, its value or its source is missing, or one is unknown."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise TargetError(f"device file '{path.name}' cannot be read: {error}") from error
    for key in ("name", "title", "dsp_kind", *FIGURES):
        if key not in data:
            raise TargetError(
                f"device file '{path.name}' lacks '{key}'; needed: name, title, dsp_kind, {', '.join(FIGURES)}"
            )
    unknown = set(data) - {"name", "title", "dsp_kind", _PART, *FIGURES}
    if unknown:
        raise TargetError(
            f"device file '{path.name}': unknown figure '{sorted(unknown)[0]}'; legal: {', '.join(FIGURES)}"
        )
    given = (*FIGURES, _PART) if _PART in data else FIGURES
    for key in given:
        entry = data[key]
        if not isinstance(entry, dict) or "value" not in entry or not str(entry.get("source", "")).strip():
            raise TargetError(f"device file '{path.name}': '{key}' needs a value and a source")
        if key == _PART:
            if not isinstance(entry["value"], str) or not entry["value"].startswith("xc"):
                raise TargetError(
                    f"device file '{path.name}': {_PART} = {entry['value']!r}; legal: a full name such as "
                    "'xczu15eg-ffvb1156-2-i'"
                )
        elif isinstance(entry["value"], bool) or not isinstance(entry["value"], int | float):
            raise TargetError(f"device file '{path.name}': {key} = {entry['value']!r} must be a number")
    values = {key: data[key]["value"] for key in given}
    sources = {key: str(data[key]["source"]) for key in given}
    return Device(str(data["name"]), str(data["title"]), str(data["dsp_kind"]), **values, sources=sources)


@lru_cache
def load_device(name: str) -> Device:
    """The device `name` (its file's stem); raises TargetError listing the legal names."""
    names = device_names()
    if name not in names:
        raise TargetError(f"unknown device '{name}'; legal: {', '.join(names)}")
    return read_device(_folder() / f"{name}.toml")
