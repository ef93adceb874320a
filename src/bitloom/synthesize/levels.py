"""LUT levels between registers, and fan-out, of a hierarchical design; a walk over the mapped netlists.

A level is one LUT on a combinational path, also the LUT that reads a LUT memory or selects a tap of a shift register.
Carry chains and wide multiplexers lie beside the LUTs and count as none. Paths run through units: a unit is summarized
by the levels from its registers to each output bit, from each input bit to its registers, and from input to output.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from bitloom.errors import TargetError
from bitloom.synthesize.hierarchy import Unit
from bitloom.synthesize.yosys import synthesize

Bit = tuple[str, int]  # a port of a unit and the index of its bit
#: Cells with combinational arcs from every input to every output: levels of the arc.
_LOGIC = {
    **{f"LUT{n}": 1 for n in range(1, 7)}, "LUT6_2": 1, "INV": 1, "CARRY4": 0, "CARRY8": 0, "MUXF7": 0, "MUXF8": 0,
    "MUXF9": 0,
}  # fmt: skip
#: LUT memories and shift registers: the prefixes of the pins that lead to the outputs within the cycle.
_READ_PINS = {
    "SRL16E": ("A0", "A1", "A2", "A3"), "SRLC32E": ("A",), "RAM32X1D": ("DPRA",), "RAM64X1D": ("DPRA",),
    "RAM128X1D": ("DPRA",), "RAM256X1D": ("DPRA",), "RAM32M": ("ADDR",), "RAM64M": ("ADDR",), "RAM32M16": ("ADDR",),
    "RAM64M8": ("ADDR",), "RAM32X1S": ("A",), "RAM64X1S": ("A",),
}  # fmt: skip
_CLOCKS = ("C", "CLK", "WCLK", "CLK_A", "CLKARDCLK", "CLKBWRCLK")


@dataclass(frozen=True)
class Path:
    """A longest path: its levels and the nets from start to end, each with the unit that it lies in."""

    levels: int
    nets: tuple[str, ...]


@dataclass(frozen=True)
class Timing:
    """Summary of one unit. worst: the longest path between registers that ends or begins inside it.

    leaves: from its registers to an output bit.  enters: from an input bit to its registers.  passes: from an input bit
    to an output bit.  loads: cell pins behind an input bit.  fan_out: the net with most pins, and their number.
    bare_multipliers: DSPs without any register of their own.
    """

    unit: Unit
    worst: Path
    leaves: dict[Bit, Path]
    enters: dict[Bit, Path]
    passes: dict[Bit, dict[Bit, Path]]
    loads: dict[Bit, int]
    fan_out: tuple[str, int]
    bare_multipliers: int


@dataclass(frozen=True)
class _Arc:
    source: int
    target: int
    levels: int
    nets: tuple[str, ...]  # inside a child


def timings(top: Unit) -> dict[Unit, Timing]:
    """Summaries of `top` and all units below it, children first."""
    done: dict[Unit, Timing] = {}

    def visit(unit: Unit) -> None:
        if unit in done:
            return
        for child, _ in unit.children:
            visit(child)
        children = {child.module: done[child] for child, _ in unit.children}
        done[unit] = analyse(unit, synthesize(unit).module(), children)

    visit(top)
    return done


def analyse(unit: Unit, module: Any, children: dict[str, Timing]) -> Timing:
    """The summary of one netlist module (Yosys JSON). Raises TargetError on a combinational loop."""
    graph = _Graph(unit, module, children)
    order = graph.order()
    forward = _Longest(graph, order, graph.arcs_to, graph.launch)
    back_start = {net: _reversed(path) for net, path in graph.capture.items()}
    backward = _Longest(graph, order[::-1], _turned(graph.arcs_from), back_start)
    output_names = {port.name for port in unit.ports if port.output}
    outputs = {bit: net for bit, net in graph.port_bits.items() if bit[0] in output_names}
    inputs = {bit: net for bit, net in graph.port_bits.items() if bit[0] not in output_names}
    leaves = {bit: forward.path(net) for bit, net in outputs.items() if net in forward.level}
    enters = {bit: _reversed(backward.path(net)) for bit, net in inputs.items() if net in backward.level}
    reach = _reaches(order, graph.arcs_from, set(outputs.values()))
    passes: dict[Bit, dict[Bit, Path]] = {}
    for bit, net in inputs.items():
        if net in reach:
            through = _Longest(graph, order, graph.arcs_to, {net: Path(0, (graph.name(net),))})
            passes[bit] = {out: through.path(n) for out, n in outputs.items() if n in through.level}
    loads = {bit: graph.pins[net] for bit, net in inputs.items()}
    net, pins = max(graph.pins.items(), key=lambda item: item[1], default=(-1, 0))
    return Timing(
        unit, _worst(forward, graph.capture), leaves, enters, passes, loads, (graph.name(net), pins), graph.bare
    )


class _Graph:
    """Nets as nodes; arcs through cells and children; where paths begin and end."""

    def __init__(self, unit: Unit, module: Any, children: dict[str, Timing]) -> None:
        self.unit = unit
        self.arcs_to: dict[int, list[_Arc]] = {}
        self.arcs_from: dict[int, list[_Arc]] = {}
        self.launch: dict[int, Path] = {}  # a register or a child drives the net
        self.capture: dict[int, Path] = {}  # the net ends in a register or a child
        self.pins: Counter[int] = Counter()
        self.clocks: set[int] = set()
        self.bare = 0
        self._names: dict[int, str] = {}
        for name, net in module["netnames"].items():
            for index, bit in enumerate(net["bits"]):
                if isinstance(bit, int) and (bit not in self._names or net["hide_name"] == 0):
                    self._names[bit] = f"{name}[{index}]" if len(net["bits"]) > 1 else str(name)
        self.port_bits: dict[Bit, int] = {
            (name, index): bit
            for name, port in module["ports"].items()
            for index, bit in enumerate(port["bits"])
            if isinstance(bit, int)
        }
        for cell in module["cells"].values():
            self._add(cell, children)
        for net in self.clocks:
            del self.pins[net]

    def name(self, net: int) -> str:
        """`unit:net`."""
        return f"{self.unit.module}:{self._names.get(net, net)}"

    def order(self) -> list[int]:
        try:
            return list(
                TopologicalSorter({n: [a.source for a in arcs] for n, arcs in self.arcs_to.items()}).static_order()
            )
        except CycleError as error:
            nets = ", ".join(self.name(net) for net in error.args[1][:6])
            raise TargetError(f"{self.unit.title}: combinational loop through {nets}") from error

    def _add(self, cell: Any, children: dict[str, Timing]) -> None:
        kind, pins, directions = cell["type"], cell["connections"], cell["port_directions"]
        inputs = {(p, i): b for p, bits in pins.items() if directions[p] == "input" for i, b in enumerate(bits)}
        inputs = {pin: net for pin, net in inputs.items() if isinstance(net, int)}
        outputs = {(p, i): b for p, bits in pins.items() if directions[p] == "output" for i, b in enumerate(bits)}
        if kind in children:
            self._child(children[kind], inputs, outputs)
            return
        for (pin, _), net in inputs.items():
            self.pins[net] += 1
            if pin in _CLOCKS and kind not in _LOGIC:
                self.clocks.add(net)
        bare = kind == "DSP48E2" and not any(
            int(str(cell["parameters"].get(r, "0")), 2) for r in ("AREG", "BREG", "MREG", "PREG")
        )
        self.bare += bare
        if kind in _LOGIC or bare:
            through, levels = inputs, _LOGIC.get(kind, 1)
        else:
            wanted = _READ_PINS.get(kind, ())
            through, levels = {pin: net for pin, net in inputs.items() if pin[0].startswith(wanted or ("?",))}, 1
        for pin, net in inputs.items():
            if pin not in through and net not in self.clocks:
                self._end(net, Path(0, (self.name(net),)))
        for (out, _), net in outputs.items():
            if not through or kind in _READ_PINS:
                base = 1 if kind in _READ_PINS else 0
                self._begin(net, Path(base, (self.name(net),)))
            for source in {net_in for pin, net_in in through.items() if _depends(cell, out, pin[0])}:
                self._arc(_Arc(source, net, levels, ()))

    def _child(self, child: Timing, inputs: dict[Bit, int], outputs: dict[Bit, int]) -> None:
        for bit, net in inputs.items():
            self.pins[net] += child.loads.get(bit, 0)
            if bit[0] == "clk_i":
                self.clocks.add(net)
            if bit in child.enters:
                self._end(net, child.enters[bit])
            for out, path in child.passes.get(bit, {}).items():
                if out in outputs:
                    self._arc(_Arc(net, outputs[out], path.levels, path.nets))
        for bit, net in outputs.items():
            if bit in child.leaves:
                self._begin(net, child.leaves[bit])

    def _arc(self, arc: _Arc) -> None:
        self.arcs_to.setdefault(arc.target, []).append(arc)
        self.arcs_from.setdefault(arc.source, []).append(arc)

    def _begin(self, net: int, path: Path) -> None:
        if net not in self.launch or path.levels > self.launch[net].levels:
            self.launch[net] = path

    def _end(self, net: int, path: Path) -> None:
        if net not in self.capture or path.levels > self.capture[net].levels:
            self.capture[net] = path


def _depends(cell: Any, output: str, pin: str) -> bool:
    """Whether an output depends on an input: the halves of a LUT6_2 are looked at (I5 is tied high), others do."""
    if cell["type"] != "LUT6_2" or pin == "I5":
        return True
    table = int(str(cell["parameters"]["INIT"]), 2) >> (32 if output == "O6" else 0)
    step = 1 << int(pin[1:])
    return any((table >> i & 1) != (table >> (i ^ step) & 1) for i in range(32))


class _Longest:
    """Longest path from any start to every net that one reaches; names are gathered when a path is asked for."""

    def __init__(
        self, graph: _Graph, order: Iterable[int], arcs_to: dict[int, list[_Arc]], start: dict[int, Path]
    ) -> None:
        self.level = {net: path.levels for net, path in start.items()}
        self._graph, self._start = graph, start
        self._via: dict[int, _Arc] = {}
        for net in order:
            for arc in arcs_to.get(net, ()):
                if arc.source in self.level and self.level[arc.source] + arc.levels > self.level.get(net, -1):
                    self.level[net] = self.level[arc.source] + arc.levels
                    self._via[net] = arc

    def path(self, net: int) -> Path:
        """The path to `net`, which must be reached; nets from its start on."""
        parts: list[tuple[str, ...]] = []
        at = net
        while at in self._via:
            parts.append((*self._via[at].nets, self._graph.name(at)))
            at = self._via[at].source
        nets = (*self._start[at].nets, *(name for part in reversed(parts) for name in part))
        return Path(self.level[net], nets)


def _turned(arcs_from: dict[int, list[_Arc]]) -> dict[int, list[_Arc]]:
    """The arcs for a walk against the signals."""
    return {
        source: [_Arc(arc.target, source, arc.levels, arc.nets[::-1]) for arc in arcs]
        for source, arcs in arcs_from.items()
    }


def _reversed(path: Path) -> Path:
    return Path(path.levels, path.nets[::-1])


def _worst(forward: _Longest, capture: dict[int, Path]) -> Path:
    ends = {net: forward.level[net] + path.levels for net, path in capture.items() if net in forward.level}
    if not ends:
        return Path(0, ())
    net = max(ends, key=lambda n: ends[n])
    return Path(ends[net], (*forward.path(net).nets, *capture[net].nets))


def _reaches(order: list[int], arcs_from: dict[int, list[_Arc]], outputs: set[int]) -> set[int]:
    found = set(outputs)
    for net in reversed(order):
        if any(arc.target in found for arc in arcs_from.get(net, ())):
            found.add(net)
    return found
