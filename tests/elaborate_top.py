"""Verilator's elaboration of `bitloom_top`, with every word that it says of the wrapper itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bitloom.simulate.toolchain import find_toolchain

FLAGS = ("--lint-only", "-Wno-lint", "-Wno-style", "-Wwarn-WIDTH", "-Wwarn-PINMISSING", "--top-module", "bitloom_top")


def elaborate_top(*arguments: str, cwd: Path | None = None) -> None:
    """Fails where `bitloom_top` among the files of `arguments` does not elaborate without a word about it."""
    tools = find_toolchain()
    command = [*tools.verilator, *FLAGS, *arguments]
    done = subprocess.run(command, env=tools.environment, cwd=cwd, capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if "bitloom_top.v" in line]
    assert done.returncode == 0 and not told, done.stderr[-2000:]
