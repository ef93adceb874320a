"""Runs images on a built simulator, spread over processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from bitloom.errors import SimulationError
from bitloom.graph.qgraph import Int8Array
from bitloom.program.commands import ErrorCode
from bitloom.program.container import Program
from bitloom.program.inputs import output_codes
from bitloom.program.lower import input_image
from bitloom.simulate.build import SimBinary, build
from bitloom.simulate.job import SimOptions, Workload, write_program
from bitloom.simulate.part import run_part
from bitloom.simulate.results import RunResult


@dataclass(frozen=True, eq=False)
class WorkloadResult:
    """Runs in the order of the images; wall seconds of the whole call; the largest simulator process in MiB."""

    runs: tuple[RunResult, ...]
    wall_s: float
    peak_rss_mib: float


@dataclass(frozen=True, eq=False)
class SimResult:
    """outputs: output codes int8 (N, C, H, W), the logits of a classifier; the rest as in WorkloadResult."""

    outputs: Int8Array
    runs: tuple[RunResult, ...]
    wall_s: float
    peak_rss_mib: float

    @property
    def cycles(self) -> tuple[int, ...]:
        """Cycles of every image, start to done."""
        return tuple(run.cycles for run in self.runs)


def simulate(
    program: Program,
    images: Int8Array,
    binary: SimBinary | None = None,
    options: SimOptions | None = None,
    cluster: str | None = None,
) -> SimResult:
    """Runs images of codes, int8 (N, C, H, W), through the RTL; binary None: `build(program.arch)`.

    N must be a multiple of the program's batch: a run takes so many images. Raises SimulationError like `run_workload`,
    DataError for wrong images.
    """
    built = build(program.arch) if binary is None else binary
    size = program.batch
    batches = [input_image(program, images[at : at + size]) for at in range(0, len(images), size)]
    result = run_workload(workload_of(program), batches, built, options, cluster)
    stacked = np.stack([output_codes(program.output_spec, run.output) for run in result.runs])
    runs, c, rows, w = stacked.shape
    outputs = stacked.reshape(runs, c, size, rows // size, w).swapaxes(1, 2).reshape(-1, c, rows // size, w)
    return SimResult(outputs, result.runs, result.wall_s, result.peak_rss_mib)


def workload_of(program: Program) -> Workload:
    """The simulator's view of a program."""
    spec = program.output_spec
    return Workload(program.arch.hash, program.image(), program.command_beats, spec.bytes, program.scratch_bytes)


def run_workload(
    workload: Workload,
    images: Sequence[bytes],
    binary: SimBinary,
    options: SimOptions | None = None,
    cluster: str | None = None,
) -> WorkloadResult:
    """Runs every image (bytes of the INPUT region) and returns what the hardware did.

    Images of one process run one after the other without a reset, as on a board. cluster: address of a dask scheduler
    whose workers run the processes instead of this machine, with the same results. Raises SimulationError when the
    simulator stops (protocol violation, time-out, wrong build) or when an image without a planned fault ends with an
    error code.
    """
    chosen = SimOptions() if options is None else options
    if not images:
        raise SimulationError("no image to simulate; give at least one")
    _check(workload, chosen, len(images), binary)
    start = time.monotonic()
    parts = _spread(len(images), min(chosen.processes, len(images)))
    if cluster is not None:
        from bitloom.simulate.cluster import run_on_cluster  # half a second that only clusters need

        done = run_on_cluster(cluster, workload, images, parts, binary, chosen)
    else:
        done = _run_here(workload, images, parts, binary, chosen)
    runs = tuple(run for part, _ in done for run in part)
    planned = {fault.image for fault in chosen.faults}
    for index, run in enumerate(runs):
        if run.error is not ErrorCode.NONE and index not in planned:
            raise SimulationError(_error_text(index, run))
    return WorkloadResult(runs, time.monotonic() - start, max(peak for _, peak in done))


def _run_here(
    workload: Workload, images: Sequence[bytes], parts: list[tuple[int, int]], binary: SimBinary, options: SimOptions
) -> list[tuple[tuple[RunResult, ...], float]]:
    with tempfile.TemporaryDirectory(prefix="bitloom-sim-") as name:
        root = Path(name)
        program = write_program(root, workload)
        # The work is in the child processes: threads are enough to wait for them.
        done: list[tuple[tuple[RunResult, ...], float]] = Parallel(n_jobs=len(parts), prefer="threads")(
            delayed(run_part)(root / f"part{first}", workload, program, images[first:end], first, binary, options)
            for first, end in parts
        )
    return done


def _check(workload: Workload, options: SimOptions, images: int, binary: SimBinary) -> None:
    built = binary.parameters["ArchHash"]
    if workload.arch_hash != built:
        raise SimulationError(
            f"the program is for architecture {workload.arch_hash:#010x}, the simulator was built for {built:#010x}; "
            "build it from the program's architecture"
        )
    if options.dump and not binary.options.trace:
        raise SimulationError("dumps need a simulator built with BuildOptions(trace=True)")
    ports = [*(f"w{i}" for i in range(binary.parameters["WP"])), "d", "c"]
    for fault in options.faults:
        if fault.port not in ports or (fault.write and fault.port != "d"):
            raise SimulationError(f"fault on port '{fault.port}'; legal: {', '.join(ports)}, and d for writes")
        if not 0 <= fault.image < images:
            raise SimulationError(f"fault in image {fault.image}; legal: 0 .. {images - 1}")


def _spread(images: int, processes: int) -> list[tuple[int, int]]:
    bounds = [images * i // processes for i in range(processes + 1)]
    return list(pairwise(bounds))


def _error_text(index: int, run: RunResult) -> str:
    text = f"image {index}: the accelerator stopped with error {run.error.value} ({run.error.name}) in layer "
    text += f"{run.registers['LAYER']} after {run.cycles} cycles"
    if run.outside is not None:
        text += f"; DDR address {run.outside:#x} lies outside program, input, output and scratch"
    return text
