"""Writes the files that are generated from the command tables: `python -m bitloom.program.generate`."""

from __future__ import annotations

from pathlib import Path

from bitloom.program.c_header import c_header
from bitloom.program.commands import markdown, systemverilog_package

ROOT = Path(__file__).resolve().parents[3]

#: Generated file (relative to the repository) -> the function that makes its text.
GENERATED = {
    "src/bitloom/rtl/bl_pkg.sv": systemverilog_package,
    "docs/spec/commands.md": markdown,
    "src/bitloom/board/driver/bitloom_regs.h": c_header,
}


def main() -> None:
    """Rewrites every generated file."""
    for path, text in GENERATED.items():
        (ROOT / path).write_text(text())


if __name__ == "__main__":
    main()
