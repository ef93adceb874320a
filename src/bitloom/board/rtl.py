"""The folder `rtl/`: every source under one name, the wrapper of the build, and their order."""

from __future__ import annotations

import re
from pathlib import Path

from bitloom.emit.parameters import rtl_sources
from bitloom.emit.wrapper import WRAPPER, wrapper
from bitloom.synthesize.hierarchy import DEFINES
from bitloom.target.arch import ArchConfig

TOP_FILE = f"{WRAPPER}.v"
LIST = "files.f"


def write_rtl(arch: ArchConfig, folder: Path) -> tuple[str, ...]:
    """Writes the sources, the wrapper and `files.f` into `folder` and returns their names in order.

    A file that knows one of the defines of the real structure gets that define as its first line: a packaged IP does
    not keep the defines of a project. Everything else is the source as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for path in rtl_sources():
        text = path.read_text()
        used = [name for name in DEFINES if re.search(rf"`ifdef {name}\b", text)]
        (folder / path.name).write_text("".join(f"`define {name}\n" for name in used) + text)
        names.append(path.name)
    (folder / TOP_FILE).write_text(wrapper(arch))
    names.append(TOP_FILE)
    (folder / LIST).write_text("\n".join(names) + "\n")
    return tuple(names)
