"""The instance tree of a design as synthesis sees it: units with their parameters, ports, and how often each occurs.

A unit is synthesized once for each set of parameters; instances are counted, not synthesized again. Modules that are no
unit are flattened into the unit around them. Elaboration is pyslang's, so that no count is written twice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyslang.ast
import pyslang.driver

from bitloom.emit.parameters import rtl_sources
from bitloom.errors import TargetError

DEFINES = ("BITLOOM_DSP48E2", "BITLOOM_ADD3")
PRIMITIVES = Path(__file__).parent / "primitives.sv"
#: Modules that are synthesized on their own.
UNITS = frozenset(
    {
        "bl_top",
        "bl_regs",
        "bl_cmd_fetch",
        "bl_sequencer",
        "bl_issue",
        "bl_pool_issue",
        "bl_coords",
        "bl_reader",
        "bl_reader_lane",
        "bl_weights",
        "bl_weight_engine",
        "bl_weight_lane",
        "bl_weight_port",
        "bl_axi_reader",
        "bl_axi_writer",
        "bl_compute",
        "bl_weight_regs",
        "bl_params",
        "bl_accum",
        "bl_accum_bank",
        "bl_mac_array",
        "bl_dsp_column",
        "bl_pool",
        "bl_pool_queue",
        "bl_drain",
        "bl_drain_addr",
        "bl_drain_pick",
        "bl_drain_residual",
        "bl_requant",
        "bl_act_mem",
        "bl_ram_rr",
        "bl_dma",
        "bl_dma_load",
        "bl_dma_store",
    }
)


@dataclass(frozen=True)
class Port:
    """One port of a unit: packed width in bits."""

    name: str
    output: bool
    width: int


@dataclass(frozen=True)
class Unit:
    """A module with its parameters. `flattened` are the modules inside it, `children` (unit, instances) below it."""

    module: str
    parameters: tuple[tuple[str, int], ...]
    ports: tuple[Port, ...]
    flattened: frozenset[str]
    children: tuple[tuple[Unit, int], ...]

    @property
    def title(self) -> str:
        """`module(P=2, C=8)`."""
        return f"{self.module}({', '.join(f'{name}={value}' for name, value in self.parameters)})"


def elaborate(top: str, parameters: dict[str, int], units: frozenset[str] = UNITS) -> Unit:
    """The unit tree of `top`. Raises TargetError when the design does not elaborate, naming the first message."""
    driver = pyslang.driver.Driver()
    driver.addStandardArgs()
    words = ["slang", "--top", top, *(w for d in DEFINES for w in ("-D", d))]
    words += [w for name, value in parameters.items() for w in ("-G", f"{name}={number(value)}")]
    words += [str(path) for path in (*rtl_sources(), PRIMITIVES)]
    options = pyslang.driver.CommandLineOptions()
    if not (driver.parseCommandLine(" ".join(words), options) and driver.processOptions() and driver.parseAllSources()):
        raise TargetError(f"{top}: the sources cannot be read; run the RTL lint for the messages")
    compilation = driver.createCompilation()
    tops = compilation.getRoot().topInstances
    if len(tops) != 1:
        raise TargetError(f"no module '{top}'; legal: {', '.join(sorted(p.stem for p in rtl_sources()))}")
    for diagnostic in compilation.getAllDiagnostics():
        severity = driver.diagEngine.getSeverity(diagnostic.code, diagnostic.location)
        if severity.value >= pyslang.DiagnosticSeverity.Error.value:
            raise TargetError(f"{top} with {parameters}: {driver.diagEngine.formatMessage(diagnostic)}")
    return _unit(tops[0], units, {})


def number(value: int) -> str:
    """A parameter's value on a command line: plain literals are signed 32-bit numbers, a quote would need escaping."""
    return str(value) if value < 1 << 31 else str(value - (1 << 32))


def instances(unit: Unit) -> Counter[Unit]:
    """How often every unit occurs below (and including) `unit`."""
    total: Counter[Unit] = Counter()
    level = Counter({unit: 1})
    while level:
        total += level
        below: Counter[Unit] = Counter()
        for parent, times in level.items():
            for child, number in parent.children:
                below[child] += times * number
        level = below
    return total


def _unit(instance: Any, units: frozenset[str], seen: dict[Any, Unit]) -> Unit:
    """The unit of a pyslang instance; equal modules and parameters are visited once."""
    body = instance.body
    name = str(body.definition.name)
    parameters = tuple((str(p.name), _integer(p)) for p in body.parameters if not p.isLocalParam)
    key = (name, parameters)
    if key not in seen:
        children: Counter[Unit] = Counter()
        flattened = {name}
        _walk(body, units, seen, children, flattened)
        kinds: dict[str, Unit] = {}
        for child in children:
            other = kinds.setdefault(child.module, child)
            if other != child:
                raise TargetError(f"{name} holds {other.title} and {child.title}; take one of them out of the units")
        ports = tuple(
            Port(str(p.name), p.direction == pyslang.ast.ArgumentDirection.Out, int(p.type.bitWidth))
            for p in body.portList
        )
        ordered = tuple(sorted(children.items(), key=lambda item: item[0].module))
        seen[key] = Unit(name, parameters, ports, frozenset(flattened), ordered)
    return seen[key]


def _walk(scope: Any, units: frozenset[str], seen: dict[Any, Unit], children: Counter[Unit], flat: set[str]) -> None:
    kind = pyslang.ast.SymbolKind
    for member in scope:
        if member.kind == kind.Instance:
            module = str(member.body.definition.name)
            if module in units:
                children[_unit(member, units, seen)] += 1
            elif module.startswith("bl_"):
                flat.add(module)
                _walk(member.body, units, seen, children, flat)
        elif (
            member.kind == kind.GenerateBlock and not member.isUninstantiated
        ) or member.kind == kind.GenerateBlockArray:
            _walk(member, units, seen, children, flat)


def _integer(parameter: Any) -> int:
    return int(parameter.value.value)
