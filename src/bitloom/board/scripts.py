"""Fills the templates: IP packaging, project, device tree, README."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bitloom import __version__
from bitloom.board.settings import PS_PORTS, REGISTER_BYTES, BoardSettings, ps_ports
from bitloom.emit.parameters import rtl_parameters
from bitloom.emit.wrapper import WRAPPER, masters_of
from bitloom.program.commands import REGISTERS
from bitloom.program.container import PAGE, Program
from bitloom.target.arch import ArchConfig

#: File in the board folder, each from the template of its name and `.j2`.
SCRIPTS = ("package_ip.tcl", "project.tcl", "bitloom.dtso", "README.md")
_MIB = 1 << 20
_ACCESS = {"r": "read-only", "rw": "read-write"}


@dataclass(frozen=True)
class _Port:
    """A master, its port of the processing system, and that port's names in the block's configuration."""

    master: str
    place: str

    @property
    def number(self) -> int:
        return PS_PORTS[self.place]

    @property
    def interface(self) -> str:
        return f"S_AXI_{self.place}_FPD"

    @property
    def clock(self) -> str:
        return f"saxi{self.place.lower()}_fpd_aclk"


def memory_needed(program: Program) -> int:
    """Bytes of contiguous memory: program, input, output, scratch, each in whole pages, as the driver lays them out."""
    sizes = (
        len(program.image()),
        program.input_spec.bytes * program.batch,
        program.output_spec.bytes,
        program.scratch_bytes,
    )
    return sum(-(-size // PAGE) * PAGE for size in sizes)


def write_scripts(
    arch: ArchConfig, settings: BoardSettings, sources: tuple[str, ...], program: Program | None, folder: Path
) -> None:
    """Writes every file of SCRIPTS into `folder`. sources: names in `rtl/` in order."""
    needed = memory_needed(program) if program is not None else 64 * _MIB
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    values = {
        "version": __version__,
        "arch": arch,
        "parameters": rtl_parameters(arch),
        "settings": settings,
        "sources": sources,
        "top": WRAPPER,
        "ports": [_Port(master, place) for master, place in ps_ports(arch).items()],
        "interfaces": ["s_axi", *(f"m_axi_{master}" for master in masters_of(arch))],
        "registers": [(name, at, _ACCESS[access], doc or name) for name, at, access, doc in REGISTERS],
        "register_bytes": REGISTER_BYTES,
        "program": program,
        "buffer_bytes": settings.buffer_bytes or -(-needed // _MIB) * _MIB,
    }
    for name in SCRIPTS:
        (folder / name).write_text(environment.get_template(f"{name}.j2").render(values))
