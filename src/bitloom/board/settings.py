"""What board files are written for: part, clock, addresses, and the port of the processing system of every master."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bitloom.emit.wrapper import masters_of
from bitloom.errors import TargetError
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

#: Ports of the Zynq MPSoC's processing system by their names in its block: the configuration's number of the port.
PS_PORTS = {"HPC0": 0, "HPC1": 1, "HP0": 2, "HP1": 3, "HP2": 4, "HP3": 5}
#: By number of weight ports: the port of every master. HP1 and HP2 share a port of the DDR controller, so that two
#: weight ports take HP0 and HP3.
_PLACES = {
    1: {"w0": "HP0", "d": "HP1", "c": "HP3"},
    2: {"w0": "HP0", "w1": "HP3", "d": "HP1", "c": "HP2"},
    4: {"w0": "HP0", "w1": "HP1", "w2": "HP2", "w3": "HP3", "d": "HPC0", "c": "HPC1"},
}
REGISTER_BYTES = 4096  #: address range of the registers: a page
_APERTURE = range(0xA000_0000, 0xB000_0000)  #: what M_AXI_HPM0_FPD reaches


@dataclass(frozen=True)
class BoardSettings:
    """The defaults of the scripts; each is a setting at the head of `project.tcl` too.

    part: full name of the part.  clock_mhz: of the accelerator, above 0, at most 333 (limit of the memory ports).
    board_part: the vendor's name of a board whose preset configures the processing system ('': none).
    register_base: address of the registers, a multiple of 4096 in 0xA000_0000 .. 0xAFFF_FFFF.
    buffer_bytes: size of the contiguous buffer in the device tree (0: what the program needs, in whole MiB).
    """

    part: str
    clock_mhz: float
    board_part: str = ""
    register_base: int = 0xA000_0000
    buffer_bytes: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"xc[a-z0-9]+-[a-z0-9]+-[A-Za-z0-9-]+", self.part):
            raise TargetError(f"part '{self.part}' must be a full name such as 'xczu15eg-ffvb1156-2-i'")
        if self.board_part and not re.fullmatch(r"[\w.-]+(:[\w.-]+){3}", self.board_part):
            raise TargetError(f"board_part '{self.board_part}' must have the form vendor:board:part0:version")
        if not 0 < self.clock_mhz <= 333:
            raise TargetError(f"clock_mhz = {self.clock_mhz:g}; legal: above 0, at most 333 (the PS memory ports)")
        if self.register_base not in _APERTURE or self.register_base % REGISTER_BYTES:
            raise TargetError(
                f"register_base = {self.register_base:#x}; legal: multiples of 0x1000 from 0xa0000000 to 0xaffff000"
            )
        if self.buffer_bytes < 0:
            raise TargetError(f"buffer_bytes = {self.buffer_bytes}; legal: 0 (what the program needs) or more")


def settings_for(device: Device) -> BoardSettings:
    """The settings of a device's data file. TargetError for a device that is no Zynq UltraScale+ MPSoC."""
    if not device.mpsoc_part:
        raise TargetError(
            f"no board files for '{device.name}': they are written for Zynq UltraScale+ MPSoC; take a device whose "
            "file has mpsoc_part"
        )
    return BoardSettings(device.mpsoc_part, device.clock_mhz)


def ps_ports(arch: ArchConfig) -> dict[str, str]:
    """The port of the processing system of every AXI master (w0 .., d, c), each its own."""
    places = _PLACES[arch.weight_ports]
    return {master: places[master] for master in masters_of(arch)}
