"""Simulated tensors against the integer reference: the first difference, and how much of every layer differs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from bitloom.errors import SimulationError
from bitloom.graph.qgraph import Int8Array, QuantGraph
from bitloom.program.container import Program
from bitloom.program.inputs import output_codes
from bitloom.reference.fast import run_fast
from bitloom.simulate.results import RunResult

#: Name of the output in DDR, beside the output tensor in the activation memory.
OUTPUT = "output in DDR"


@dataclass(frozen=True)
class Difference:
    """The first differing value of a tensor in (channel, y, x) order; how many of all values differ."""

    tensor: str
    channel: int
    y: int
    x: int
    expected: int
    got: int
    wrong: int
    total: int

    def text(self) -> str:
        """One line for people."""
        return (
            f"'{self.tensor}': channel {self.channel}, pixel (y {self.y}, x {self.x}): expected {self.expected}, "
            f"got {self.got}; {self.wrong} of {self.total} values differ"
        )


@dataclass(frozen=True)
class Comparison:
    """Tensors compared, in order of execution, and the difference of those that differ."""

    tensors: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def exact(self) -> bool:
        """True when something was compared and nothing differs."""
        return bool(self.tensors) and not self.differences

    @property
    def first(self) -> Difference | None:
        """The difference in the earliest tensor."""
        return self.differences[0] if self.differences else None

    def text(self) -> str:
        """A readable report: the first difference, then the other tensors that differ."""
        if not self.tensors:
            return "nothing was compared"
        if not self.differences:
            return f"{len(self.tensors)} tensors compared, all equal"
        first, *others = self.differences
        before = self.tensors.index(first.tensor)
        lines = [f"{len(self.tensors)} tensors compared, {len(self.differences)} differ; the first {before} are equal"]
        lines.append(f"first difference in {first.text()}")
        lines += [f"  also in {d.text()}" for d in others]
        return "\n".join(lines)


def compare_tensor(name: str, expected: Int8Array, got: Int8Array) -> Difference | None:
    """The first difference of two int8 (C, H, W) tensors, None when they are equal.

    Raises SimulationError when shapes or types differ.
    """
    if expected.shape != got.shape or expected.dtype != got.dtype or expected.ndim != 3:
        raise SimulationError(
            f"'{name}': reference is {expected.dtype} {expected.shape}, simulation gave {got.dtype} {got.shape}; "
            "both must be the same (C, H, W) int8"
        )
    wrong = expected != got
    if not wrong.any():
        return None
    channel, y, x = (int(i) for i in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    value, other = int(expected[channel, y, x]), int(got[channel, y, x])
    return Difference(name, channel, y, x, value, other, int(wrong.sum()), wrong.size)


def compare_tensors(expected: Mapping[str, Int8Array], got: Iterable[tuple[str, int, Int8Array]]) -> Comparison:
    """Compares (name, first row, rows of the tensor) in order of execution with the reference's tensors of these names.

    A tensor may come in several parts; the earliest part that differs is reported.
    """
    names: dict[str, None] = {}
    differences: dict[str, Difference] = {}
    for name, first_row, part in got:
        if name not in expected:
            raise SimulationError(f"the reference has no tensor '{name}'; it has: {', '.join(expected)}")
        names[name] = None
        rows = expected[name][:, first_row : first_row + part.shape[1]]
        found = compare_tensor(name, rows, part)
        if found is not None:
            before = differences.get(name)
            moved = replace(found, y=found.y + first_row, total=expected[name].size)
            differences[name] = moved if before is None else replace(before, wrong=before.wrong + moved.wrong)
    return Comparison(tuple(names), tuple(differences.values()))


def written_rows(program: Program, run: RunResult) -> Iterator[tuple[str, int, Int8Array]]:
    """(tensor, first row, rows) of every CONV and POOL command, as the memory stood when it ended.

    Raises SimulationError for a run without dumps, or one that stopped before its last layer.
    """
    arch = program.arch
    entries = {entry.command: entry for entry in program.trace}
    ended = sum(command.end >= 0 for command in run.commands)
    if entries and ended <= max(entries):
        layer = next(e.name for i, e in sorted(entries.items()) if i >= ended)
        raise SimulationError(f"layer '{layer}' did not end in the simulation")
    if entries and not any(len(command.rows) for command in run.commands):
        raise SimulationError("the run holds no dumps; simulate with SimOptions(dump=True)")
    for index, (_, memory) in enumerate(run.replay(arch.pixels, arch.act_rows, arch.channels)):
        entry = entries.get(index)
        if entry is not None:
            yield entry.tensor, entry.first_row, entry.read(memory)


def compare_run(program: Program, run: RunResult, expected: Mapping[str, Int8Array]) -> Comparison:
    """Every tensor that the run wrote, and its output in DDR, with the reference's: name -> int8 (C, H, W)."""
    output = output_codes(program.output_spec, run.output)
    return compare_tensors(expected, chain(written_rows(program, run), [(OUTPUT, 0, output)]))


def reference_tensors(qgraph: QuantGraph, codes: Int8Array) -> dict[str, Int8Array]:
    """All tensors of one image by the integer reference, codes int8 (C, H, W), and the output again under OUTPUT.

    Of a batch (N, C, H, W): the images' rows one below the other, (C, N*H, W), as a program of that batch has them.
    """
    images = codes[None] if codes.ndim == 3 else codes
    runs = [run_fast(qgraph, image[None], qgraph.tensors) for image in images]
    tensors = {name: np.concatenate([run[name][0] for run in runs], axis=1) for name in qgraph.tensors}
    return {**tensors, OUTPUT: tensors[qgraph.output]}
