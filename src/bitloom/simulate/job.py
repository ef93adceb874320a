"""What a simulation is told: the workload, DDR timing, stalls and faults; and the job folder that carries it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bitloom.errors import SimulationError
from bitloom.program.commands import BEAT_BYTES, COUNTERS, FORMAT_VERSION, HARDWARE_ID, REGISTERS

FaultKind = Literal["response", "early_last", "late_last", "stuck_address", "stuck_data", "stuck_response"]

#: Base addresses: above 4 GiB and with different high words, so that every HI register matters.
PROGRAM_BASE, INPUT_BASE, OUTPUT_BASE, SCRATCH_BASE = 0x4_8000_0000, 0x5_4000_0000, 0x6_2000_0000, 0x7_1000_0000
#: What input, output and scratch hold before every image: -128 is no legal activation code.
FILL = 0x80
_ADDRESS = {name: address for name, address, _, _ in REGISTERS}


@dataclass(frozen=True)
class DdrTiming:
    """The memory: a peak rate shared by all ports, the sustained share of it, latency and refresh.

    efficiency: sustained bytes over peak bytes, refresh included, in (0, 1].  Latency runs from the address handshake
    to the first beat of a read, and from the last beat to the response of a write.  refresh_interval_us = 0: none.
    outstanding: bursts that a port queues, 1..32.  Defaults: 64-bit DDR4-2400 at the sustained 85 % of 19.2 GB/s.
    """

    clock_mhz: float = 300.0
    peak_gb_s: float = 19.2
    efficiency: float = 0.85
    read_latency_ns: float = 150.0
    write_latency_ns: float = 100.0
    refresh_interval_us: float = 7.8
    refresh_ns: float = 350.0
    outstanding: int = 16

    def __post_init__(self) -> None:
        positive = {"clock_mhz": self.clock_mhz, "peak_gb_s": self.peak_gb_s}
        for name, value in positive.items():
            if not (math.isfinite(value) and value > 0):
                raise SimulationError(f"DDR timing: {name} = {value}; it must be positive")
        for name, value in (("read_latency_ns", self.read_latency_ns), ("write_latency_ns", self.write_latency_ns)):
            if not (math.isfinite(value) and value >= 0):
                raise SimulationError(f"DDR timing: {name} = {value}; it must not be negative")
        if not 1 <= self.outstanding <= 32:
            raise SimulationError(f"DDR timing: outstanding = {self.outstanding}; legal: 1 .. 32")
        if not 0 < self.efficiency <= 1 - self.refresh_share:
            raise SimulationError(
                f"DDR timing: efficiency = {self.efficiency}; legal: above 0, at most {1 - self.refresh_share:.4f} "
                "(what refresh leaves)"
            )

    @property
    def peak_bytes(self) -> float:
        """Bytes per cycle on the pins."""
        return self.peak_gb_s * 1000 / self.clock_mhz

    @property
    def refresh_cycles(self) -> int:
        """Cycles of one refresh."""
        return math.ceil(self.refresh_ns * self.clock_mhz / 1000) if self.refresh_interval_us > 0 else 0

    @property
    def refresh_every(self) -> int:
        """Cycles from refresh to refresh."""
        return max(1, round(self.refresh_interval_us * self.clock_mhz))

    @property
    def refresh_share(self) -> float:
        """The share of time that refresh takes."""
        return self.refresh_cycles / self.refresh_every

    @property
    def rate_bytes(self) -> float:
        """Bytes per cycle between refreshes, such that the mean over refreshes is efficiency * peak."""
        return self.peak_bytes * self.efficiency / (1 - self.refresh_share)

    @property
    def read_latency(self) -> int:
        """Cycles, rounded up."""
        return math.ceil(self.read_latency_ns * self.clock_mhz / 1000)

    @property
    def write_latency(self) -> int:
        """Cycles, rounded up."""
        return math.ceil(self.write_latency_ns * self.clock_mhz / 1000)


@dataclass(frozen=True)
class FaultPlan:
    """One fault in the run of one image.

    kind: `response` (SLVERR), `early_last` (the burst ends too soon), `late_last` (one beat too many), or a channel
    that stays not ready / not valid: `stuck_address`, `stuck_data`, `stuck_response`.  port: w0.., d, c.
    at: beat of the port in this run from which it fires (burst for stuck_address, response for write responses).
    write: on the write channels of port d.  image: index of the image.
    """

    kind: FaultKind
    port: str
    at: int = 0
    write: bool = False
    image: int = 0


@dataclass(frozen=True)
class SimOptions:
    """How a workload is run.

    stall_probability: per channel and cycle, 0..0.9, drawn from `seed`, which also shifts the refresh.
    max_cycles: of one image, then SimulationError.  hardware_timeout: register TIMEOUT (0: never).
    poll_cycles: 0 waits for the interrupt; else CTRL is read every so many cycles.  dump: keep what every command wrote
    to the activation memory.  dump_rows: only these row ranges [first, end); empty: all.  processes: over the images.
    """

    timing: DdrTiming = field(default_factory=DdrTiming)
    stall_probability: float = 0.0
    seed: int = 0
    max_cycles: int = 50_000_000
    hardware_timeout: int = 100_000
    poll_cycles: int = 0
    dump: bool = False
    dump_rows: tuple[tuple[int, int], ...] = ()
    faults: tuple[FaultPlan, ...] = ()
    processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.stall_probability <= 0.9:
            raise SimulationError(f"stall_probability = {self.stall_probability}; legal: 0 .. 0.9")
        for name, value, low in (
            ("seed", self.seed, 0),
            ("max_cycles", self.max_cycles, 1),
            ("hardware_timeout", self.hardware_timeout, 0),
            ("poll_cycles", self.poll_cycles, 0),
            ("processes", self.processes, 1),
        ):
            if not low <= value < 2**53:
                raise SimulationError(f"{name} = {value}; it must be at least {low}")


@dataclass(frozen=True)
class Workload:
    """What the simulator needs of a program: bytes and sizes.

    program: the bytes behind the PROGRAM base.  command_beats: register COMMAND_BEATS.  output_bytes, scratch_bytes:
    sizes of the OUTPUT and SCRATCH regions.
    """

    arch_hash: int
    program: bytes
    command_beats: int
    output_bytes: int
    scratch_bytes: int = 0


def _beats(size: int) -> int:
    return -(-size // BEAT_BYTES)


def _padded(size: int) -> int:
    return max(1, _beats(size)) * BEAT_BYTES


def write_program(folder: Path, workload: Workload) -> Path:
    """Writes the PROGRAM region to `folder/program.bin`, which jobs share."""
    path = folder / "program.bin"
    path.write_bytes(workload.program)
    return path


def write_job(
    folder: Path, workload: Workload, program: Path, images: Sequence[bytes], first: int, options: SimOptions
) -> None:
    """Writes `job.txt` and `input.bin`. `first` is the index of images[0] among all, which faults count by."""
    timing = options.timing
    phase = (options.seed * 7919) % timing.refresh_every
    params: dict[str, float] = {
        "peak_bytes": timing.peak_bytes,
        "rate_bytes": timing.rate_bytes,
        "read_latency": timing.read_latency,
        "write_latency": timing.write_latency,
        "refresh_every": timing.refresh_every,
        "refresh_cycles": timing.refresh_cycles,
        "refresh_phase": phase,
        "outstanding": timing.outstanding,
        "stall_probability": options.stall_probability,
        "seed": options.seed + 1_000_003 * first,
        "max_cycles": options.max_cycles,
        "poll_cycles": options.poll_cycles,
        "settle_cycles": 100_000,
        "dump": int(options.dump),
    }
    program_bytes = program.stat().st_size
    input_bytes = max([_padded(len(i)) for i in images], default=16)
    lines = ["bitloom-job 1", *(f"param {name} {value!r}" for name, value in params.items())]
    lines += [
        f"region program {PROGRAM_BASE:#x} {_padded(program_bytes)} 0 0",
        f"region input {INPUT_BASE:#x} {input_bytes} {FILL} 1",
        f"region output {OUTPUT_BASE:#x} {_padded(workload.output_bytes)} {FILL} 1",
        f"region scratch {SCRATCH_BASE:#x} {_padded(workload.scratch_bytes)} {FILL} 1",
        f"load {PROGRAM_BASE:#x} {_relative(program, folder)} 0 {program_bytes}",
    ]
    for name, value in (("ID", HARDWARE_ID), ("VERSION", FORMAT_VERSION), ("ARCH_HASH", workload.arch_hash)):
        lines.append(f"expect {name} {_ADDRESS[name]:#x} {value:#x}")
    lines += [f"readback {name} {_ADDRESS[name]:#x}" for name in ("ERROR", "LAYER", *COUNTERS)]
    lines += [f"dump_rows {first_row} {end}" for first_row, end in options.dump_rows]
    at = 0
    for number, image in enumerate(images, first):
        lines += ["run", f"load {INPUT_BASE:#x} input.bin {at} {len(image)}"]
        lines += [f"write {name} {_ADDRESS[name]:#x} {value:#x}" for name, value in _setup(workload, options).items()]
        lines += [
            f"fault {f.kind} {f.port} {'write' if f.write else 'read'} {f.at}"
            for f in options.faults
            if f.image == number
        ]
        lines.append(f"read {OUTPUT_BASE:#x} {workload.output_bytes}")
        if workload.scratch_bytes and options.dump:
            lines.append(f"read {SCRATCH_BASE:#x} {workload.scratch_bytes}")
        at += len(image)
    (folder / "input.bin").write_bytes(b"".join(images))
    (folder / "job.txt").write_text("\n".join(lines) + "\n")


def _relative(path: Path, folder: Path) -> str:
    text = f"../{path.name}" if path.parent == folder.parent else path.name
    if " " in text:
        raise SimulationError(f"the file name '{path.name}' holds a blank; rename it")
    return text


def _setup(workload: Workload, options: SimOptions) -> dict[str, int]:
    values: dict[str, int] = {}
    bases = (("PROGRAM", PROGRAM_BASE), ("INPUT", INPUT_BASE), ("OUTPUT", OUTPUT_BASE), ("SCRATCH", SCRATCH_BASE))
    for name, base in bases:
        values[f"{name}_LO"], values[f"{name}_HI"] = base & 0xFFFFFFFF, base >> 32
    values["TIMEOUT"] = options.hardware_timeout
    values["COMMAND_BEATS"] = workload.command_beats
    return values
