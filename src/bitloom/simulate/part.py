"""One simulator process: the images of a part, one after the other without a reset, as on a board."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from bitloom.errors import SimulationError
from bitloom.simulate.build import SimBinary
from bitloom.simulate.job import SimOptions, Workload, write_job
from bitloom.simulate.results import RunResult, read_results

_MEANING = {2: "the job was refused", 3: "a rule was broken", 4: "the simulation timed out"}


def run_part(
    folder: Path,
    workload: Workload,
    program: Path,
    images: Sequence[bytes],
    first: int,
    binary: SimBinary,
    options: SimOptions,
) -> tuple[tuple[RunResult, ...], float]:
    """The runs of `images`, number `first` and following, in a new `folder`, and the process' peak memory in MiB.

    Raises SimulationError with the simulator's own words when it stops.
    """
    folder.mkdir()
    write_job(folder, workload, program, images, first, options)
    command = [str(binary.path), str(folder)]
    if binary.options.random_initial:
        command += ["+verilator+rand+reset+2", f"+verilator+seed+{options.seed % 2**31 + 1}"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        what = _MEANING.get(done.returncode, f"the simulator ended with code {done.returncode}")
        where = f"images {first}..{first + len(images) - 1}"
        raise SimulationError(f"{where}: {what}: " + ("; ".join(said[-5:]) or "no message"))
    return read_results(folder, binary.parameters["C"])
