"""What a simulation returns: counters, stamps of every command, memory dumps, output bytes; read from a job folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitloom.errors import SimulationError
from bitloom.program.commands import CAUSES, ErrorCode
from bitloom.simulate.job import FILL, OUTPUT_BASE, SCRATCH_BASE

Memory = npt.NDArray[np.uint8]  #: (P, act_rows, C): the activation memory, codes as bytes


@dataclass(frozen=True)
class PortStats:
    """One AXI port: bursts and beats; cycles in which a due beat got no bandwidth (`starved`) or the master did not
    take it (`held`; writes: response not taken); mean cycles from address to first beat (writes: to response); most
    bursts outstanding."""

    bursts: int
    beats: int
    starved: int
    held: int
    mean_latency: float
    outstanding_max: int


@dataclass(frozen=True, eq=False)
class CommandTrace:
    """One command: layer number, first and last cycle from the start of the run (last -1: it did not end).

    causes: cycles by cause between the end of the previous command and its own end; empty without trace counters.
    banks (n,), rows (n,), words (n, C): what it, and a LOAD beside it, wrote to the activation memory."""

    layer: int
    start: int
    end: int
    causes: dict[str, int]
    banks: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.uint32]
    words: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class RunResult:
    """One image: register values by name, error code, cycles from start to the end seen by the host, wall seconds,
    commands in order, AXI ports by name (w0_read, d_write ...), faults that fired, the first DDR address outside
    all regions (None: all inside), bytes of OUTPUT and, with dumps, of SCRATCH."""

    error: ErrorCode
    registers: dict[str, int]
    host_cycles: int
    wall_s: float
    commands: tuple[CommandTrace, ...]
    ports: dict[str, PortStats]
    fired: tuple[bool, ...]
    outside: int | None
    output: bytes
    scratch: bytes

    @property
    def cycles(self) -> int:
        """Register CYCLES_TOTAL: start to done."""
        return self.registers["CYCLES_TOTAL"]

    def replay(self, banks: int, rows: int, channels: int) -> Iterator[tuple[CommandTrace, Memory]]:
        """After every command, in order: the command and the activation memory as it stood then.

        One array is reused: copy what must last. Words never written hold -128 (0x80). Needs dumps of all rows.
        """
        memory = np.full((banks, rows, channels), FILL, np.uint8)
        for command in self.commands:
            memory[command.banks, command.rows] = command.words
            yield command, memory

    def layer_cycles(self) -> dict[int, dict[str, int]]:
        """Cycles by cause of every layer number, over all its commands."""
        table: dict[int, dict[str, int]] = {}
        for command in self.commands:
            row = table.setdefault(command.layer, dict.fromkeys(CAUSES, 0))
            for cause, count in command.causes.items():
                row[cause] += count
        return table


def read_results(folder: Path, channels: int) -> tuple[tuple[RunResult, ...], float]:
    """The runs of a job folder and the peak memory of the simulator in MiB. channels: C, bytes of a memory word."""
    lines = (folder / "results.txt").read_text().splitlines()
    if not lines or lines[0] != "bitloom-results 1" or lines[-1] != "end":
        raise SimulationError(f"the results in {folder} are incomplete")
    dump = (folder / "dump.bin").read_bytes()
    output = (folder / "output.bin").read_bytes()
    runs: list[RunResult] = []
    rows: list[list[str]] = []
    peak = 0.0
    for line in lines[1:-1]:
        words = line.split()
        if words[0] == "endrun":
            runs.append(_run(rows, dump, output, channels))
            rows = []
        elif words[0] == "rss_kib":
            peak = int(words[1]) / 1024
        else:
            rows.append(words)
    return tuple(runs), peak


def _run(rows: list[list[str]], dump: bytes, output: bytes, channels: int) -> RunResult:
    single = {row[0]: row[1] for row in rows if len(row) == 2}
    start = int(single["start"])
    registers = {row[1]: int(row[2]) for row in rows if row[0] == "register"}
    outside = [int(row[1]) for row in rows if row[0] == "outside"]
    data = {int(row[1]): output[int(row[2]) : int(row[2]) + int(row[3])] for row in rows if row[0] == "output"}
    commands: list[CommandTrace] = []
    before = (0,) * len(CAUSES)
    for row in (r for r in rows if r[0] == "command"):
        _, layer, first, last, known, *numbers = row
        totals, (offset, count) = tuple(map(int, numbers[:6])), map(int, numbers[6:])
        causes = (
            dict(zip(CAUSES, (a - b for a, b in zip(totals, before, strict=True)), strict=True)) if known == "1" else {}
        )
        before = totals if known == "1" else before
        head = np.frombuffer(dump, np.uint32, 2 * count, offset).reshape(count, 2)
        words = np.frombuffer(dump, np.uint8, count * channels, offset + 8 * count).reshape(count, channels)
        end = int(last) - start if int(last) else -1
        commands.append(CommandTrace(int(layer), int(first) - start, end, causes, head[:, 0], head[:, 1], words))
    ports = {row[1]: _port([int(v) for v in row[2:]]) for row in rows if row[0] == "port"}
    return RunResult(
        ErrorCode(registers["ERROR"]),
        registers,
        int(single["cycles"]),
        float(single["wall_s"]),
        tuple(commands),
        ports,
        tuple(row[1] == "1" for row in rows if row[0] == "fired"),
        outside[0] if outside else None,
        data.get(OUTPUT_BASE, b""),
        data.get(SCRATCH_BASE, b""),
    )


def _port(values: list[int]) -> PortStats:
    bursts, beats, starved, held, latency, most = values
    return PortStats(bursts, beats, starved, held, latency / bursts if bursts else 0.0, most)
