"""Simulated tensors against the integer reference: the first difference, and how much of every layer differs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bitloom.errors import SimulationError
from bitloom.quantize.qgraph import Int8Array
from bitloom.simulate.results import Memory, RunResult


@dataclass(frozen=True)
class Probe:
    """Where a tensor can be read: in the activation memory as the last command of this layer number leaves it."""

    tensor: str
    layer: int


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


def compare_tensors(expected: Mapping[str, Int8Array], got: Iterable[tuple[str, Int8Array]]) -> Comparison:
    """Compares (name, tensor) pairs, in order of execution, with the reference's tensors of these names."""
    names: list[str] = []
    differences: list[Difference] = []
    for name, tensor in got:
        if name not in expected:
            raise SimulationError(f"the reference has no tensor '{name}'; it has: {', '.join(expected)}")
        names.append(name)
        difference = compare_tensor(name, expected[name], tensor)
        if difference is not None:
            differences.append(difference)
    return Comparison(tuple(names), tuple(differences))


def read_tensors(
    run: RunResult, probes: Iterable[Probe], extract: Callable[[str, Memory], Int8Array], shape: tuple[int, int, int]
) -> Iterable[tuple[str, Int8Array]]:
    """Yields (name, tensor) of every probe in order of execution, replaying one activation memory.

    extract: (tensor name, memory) -> int8 (C, H, W).  shape: (banks, rows, channels) of the memory. Raises
    SimulationError for a probe whose layer never ended.
    """
    waiting: dict[int, list[str]] = {}
    for probe in probes:
        waiting.setdefault(probe.layer, []).append(probe.tensor)
    last = {command.layer: i for i, command in enumerate(run.commands) if command.end >= 0}
    missing = sorted(set(waiting) - set(last))
    if missing:
        raise SimulationError(f"layer {missing[0]} ('{waiting[missing[0]][0]}') did not end in the simulation")
    for index, (command, memory) in enumerate(run.replay(*shape)):
        if last.get(command.layer) == index:
            for tensor in waiting.get(command.layer, ()):
                yield tensor, extract(tensor, memory)
