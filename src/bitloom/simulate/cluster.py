"""Images spread over machines: a dask.distributed cluster runs the parts that processes would run here.

The simulator travels with the job, so that workers need this package and a machine of the same kind, but no Verilator.
A worker keeps it in its own build cache under the same key.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from distributed import Client

from bitloom import __version__
from bitloom.errors import SimulationError
from bitloom.simulate.build import SimBinary, cache_folder
from bitloom.simulate.job import SimOptions, Workload, write_program
from bitloom.simulate.part import run_part
from bitloom.simulate.results import RunResult

_JOIN_S = 30.0  #: how long a cluster may be without workers

Part = tuple[tuple[RunResult, ...], float]


def run_on_cluster(
    address: str,
    workload: Workload,
    images: Sequence[bytes],
    parts: Sequence[tuple[int, int]],
    binary: SimBinary,
    options: SimOptions,
) -> list[Part]:
    """Results of images[first:end] for every part, in order, computed by the cluster at `address` (host:port).

    Raises SimulationError when no cluster answers there within 10 s, no worker joins it within 30 s more, or a worker
    fails.
    """
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise SimulationError(
            f"no dask cluster answers at '{address}' ({error}); start one with `dask scheduler`"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_JOIN_S)
        except TimeoutError:
            raise SimulationError(
                f"the dask cluster at '{address}' has no worker; start one with `dask worker {address}`"
            ) from None
        try:
            program = client.scatter(binary.path.read_bytes(), broadcast=True)
            jobs = [
                client.submit(_remote, program, binary, workload, list(images[a:b]), a, options, pure=False)
                for a, b in parts
            ]
            results: list[Part] = client.gather(jobs)
        except SimulationError:
            raise
        except Exception as error:  # whatever a worker, or the way to it, raises
            raise SimulationError(
                f"a worker of the dask cluster at '{address}' failed ({type(error).__name__}: {error}); every worker "
                f"needs bitloom {__version__} and what it depends on, a writable BITLOOM_CACHE and a machine of the "
                "same kind"
            ) from error
    return results


def _remote(
    program: bytes, binary: SimBinary, workload: Workload, images: list[bytes], first: int, options: SimOptions
) -> Part:
    """On a worker: the simulator from the cache or from the job, then the part in a folder of its own."""
    place = cache_folder() / binary.key / binary.path.name
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        arriving = place.with_suffix(f".{uuid.uuid4().hex[:8]}")
        arriving.write_bytes(program)
        arriving.chmod(0o755)
        arriving.replace(place)
    with tempfile.TemporaryDirectory(prefix="bitloom-sim-") as name:
        root = Path(name)
        image = write_program(root, workload)
        return run_part(root / "part", workload, image, images, first, replace(binary, path=place), options)
