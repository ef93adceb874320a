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
_STAGE = ".bitloom-new"  #: folder inside, where files are made: none stands outside of it before the list names it


def write_board(
    arch: ArchConfig,
    device: Device,
    folder: Path,
    program: Program | None = None,
    network: NetworkFacts | None = None,
    settings: BoardSettings | None = None,
) -> Path:
    """Writes everything that a person with a board needs into `folder` and returns its README.

    What an earlier call wrote there, also one that was killed half way, is removed; files of others stay.
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
        shutil.rmtree(folder / _STAGE, ignore_errors=True)
        (folder / _STAGE).mkdir(parents=True)
        try:
            _write_all(arch, chosen, folder / _STAGE, program, network)
            _remove_listed(folder)
            _take_in(folder)
        except BaseException:  # a full disk, an interruption: neither half a board nor one of an earlier network
            remove_board(folder)
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


def _take_in(folder: Path) -> None:
    """Moves the files of the stage into `folder`; the list comes first and names them."""
    stage = folder / _STAGE
    names = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
    fresh = [name for name in names if not (folder / name).exists()]  # over a file of others: it stays theirs
    (stage / _WRITTEN).write_text("\n".join(fresh) + "\n")
    for name in (_WRITTEN, *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(folder / name)
    shutil.rmtree(stage)


def remove_board(folder: Path) -> None:
    """Removes the files that `write_board` wrote into `folder` and the folders that are empty then; others stay.

    Nothing happens where it wrote none. Raises OutputError where a file cannot be removed.
    """
    try:
        if (folder / _STAGE).is_dir():  # a call was killed
            shutil.rmtree(folder / _STAGE)
        _remove_listed(folder)
    except OSError as error:
        raise OutputError(
            f"{folder}: the board files of an earlier run cannot be removed ({error.strerror}); choose another folder"
        ) from None


def _remove_listed(folder: Path) -> None:
    """The list goes last: until then a later call finds what is left."""
    if not (folder / _WRITTEN).is_file():
        return
    listed = (folder / _WRITTEN).read_text().splitlines()
    inside = [Path(name) for name in listed if not Path(name).is_absolute() and ".." not in Path(name).parts]
    for name in (*inside, Path(_WRITTEN)):
        (folder / name).unlink(missing_ok=True)
    for parent in sorted({(folder / name).parent for name in inside}, reverse=True):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
