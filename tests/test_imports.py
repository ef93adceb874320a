"""Imports of the package go in no circle, neither of modules nor of folders."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import bitloom

ROOT = Path(bitloom.__file__).parent


def imports() -> dict[str, set[str]]:
    """Module -> modules of the package that it imports; packages stand for their __init__."""
    paths = {".".join(("bitloom", *p.relative_to(ROOT).with_suffix("").parts)): p for p in ROOT.rglob("*.py")}
    names = {name.removesuffix(".__init__"): path for name, path in paths.items() if ".driver." not in name}
    found: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in names:
                inner = {f"{node.module}.{alias.name}" for alias in node.names} & names.keys()
                found[name] |= inner or {node.module}
    return found


def folder(module: str) -> str:
    """The folder of the package, or the module that lies in none."""
    return ".".join(module.split(".")[:2])


def test_modules_import_in_no_circle() -> None:
    order = list(TopologicalSorter(imports()).static_order())  # raises CycleError, which names the circle
    assert order.index("bitloom.graph.ir") < order.index("bitloom.flow")


def test_folders_import_in_no_circle() -> None:
    folders: dict[str, set[str]] = {}
    for module, others in imports().items():
        mine = folders.setdefault(folder(module), set())
        mine |= {folder(other) for other in others} - {folder(module)}
    order = list(TopologicalSorter(folders).static_order())
    assert order.index("bitloom.quantize") < order.index("bitloom.allocate")
