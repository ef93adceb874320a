"""The board folder of a build: sources, IP packaging, project, device tree, driver, and the compiled network."""

from __future__ import annotations

import shutil
from pathlib import Path

from bitloom.board.network import NetworkFacts, write_network
from bitloom.board.rtl import write_rtl
from bitloom.board.scripts import write_scripts
from bitloom.board.settings import BoardSettings, settings_for
from bitloom.errors import OutputError, TargetError
from bitloom.program.container import Program, save
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

_DRIVER = Path(__file__).parent / "driver"
_WRITTEN = ".bitloom-files"  #: lists what was written here, so that a later run can take it away and nothing else


def write_board(
    arch: ArchConfig,
    device: Device,
    folder: Path,
    program: Program | None = None,
    network: NetworkFacts | None = None,
    settings: BoardSettings | None = None,
) -> Path:
    """Writes everything that a person with a board needs into `folder` and returns its README.

    What an earlier call wrote there is removed first; files of others stay.
    program, network: a compiled network that goes along in `folder/program` (None: hardware and driver alone).
    settings: None takes those of the device's data file. TargetError for a device that is no Zynq UltraScale+ MPSoC, or
    a program of another build; OutputError where the folder cannot be written.
    """
    chosen = settings_for(device) if settings is None else settings
    if program is not None and program.arch.hash != arch.hash:
        raise TargetError(
            f"the program '{program.name}' is for build '{program.arch.name}' (hash {program.arch.hash:08x}), not for "
            f"'{arch.name}' (hash {arch.hash:08x}); compile it for '{arch.name}'"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_board(folder)
        others = _files(folder)
        try:
            _write_all(arch, chosen, folder, program, network)
            names = sorted(path.relative_to(folder).as_posix() for path in _files(folder) - others)
            (folder / _WRITTEN).write_text("\n".join(names) + "\n")
        except BaseException:  # a full disk, an interruption: no later run would know these files for its own
            _remove(_files(folder) - others)
            raise
    except OSError as error:
        raise OutputError(
            f"{folder}: the board files cannot be written ({error.strerror}); free space or choose another folder"
        ) from None
    return folder / "README.md"


def _write_all(
    arch: ArchConfig, settings: BoardSettings, folder: Path, program: Program | None, network: NetworkFacts | None
) -> None:
    write_scripts(arch, settings, write_rtl(arch, folder / "rtl"), program, folder)
    (folder / "driver").mkdir(exist_ok=True)
    for path in sorted(_DRIVER.iterdir()):
        if path.is_file():
            shutil.copyfile(path, folder / "driver" / path.name)
    if program is not None:
        (folder / "program").mkdir(exist_ok=True)
        save(program, folder / "program" / "program.bitloom")
    if network is not None:
        write_network(network, folder / "program")


def remove_board(folder: Path) -> None:
    """Removes the files that `write_board` wrote into `folder` and the folders that are empty then; others stay.

    Nothing happens where it wrote none. Raises OutputError where a file cannot be removed.
    """
    try:
        listed = (folder / _WRITTEN).read_text().splitlines() if (folder / _WRITTEN).is_file() else []
        written = [folder / name for name in listed if not Path(name).is_absolute() and ".." not in Path(name).parts]
        _remove({*written, folder / _WRITTEN} if listed else set())
    except OSError as error:
        raise OutputError(
            f"{folder}: the board files of an earlier run cannot be removed ({error.strerror}); choose another folder"
        ) from None


def _remove(paths: set[Path]) -> None:
    """Removes files and the folders that are empty then."""
    for path in paths:
        path.unlink(missing_ok=True)
    for parent in sorted({path.parent for path in paths}, reverse=True):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}
