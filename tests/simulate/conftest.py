"""A dummy accelerator (tests/simulate/rtl) that reads, copies and misbehaves on demand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitloom.emit.parameters import rtl_parameters, rtl_sources
from bitloom.simulate.build import BuildOptions, Design, SimBinary, build_design
from bitloom.simulate.job import SimOptions, Workload
from bitloom.simulate.run import RunResult, run_workload
from bitloom.target.arch import ArchConfig

ARCH = ArchConfig("dummy", 2, 8, 8, 4, 4, 8, 64, 2048, 64)
BURST = 256  #: bytes of the dummy's bursts
WEIGHTS, COPY, COMMANDS, NEVER_DONE = 1, 2, 4, 8


class Dummy:
    """The built dummy with its inputs; `run` drives it for one image, `runs` for several."""

    def __init__(self, binary: SimBinary) -> None:
        self.binary = binary
        rng = np.random.default_rng(7)
        self.program = rng.integers(0, 256, 4 << 20, dtype=np.uint8).tobytes()
        self.images = [rng.integers(0, 256, 200 * BURST, dtype=np.uint8).tobytes() for _ in range(3)]

    def runs(
        self, mode: int, bursts: int, images: int = 1, readers: int = 0, copier: int = 0, **options: object
    ) -> tuple[RunResult, ...]:
        """mode: sum of the constants above. readers, copier: kinds of misbehaviour (tests/simulate/rtl/bl_top.sv)."""
        knobs = mode | readers << 8 | copier << 12
        workload = Workload(ARCH.hash, self.program, bursts, 200 * BURST)
        chosen = SimOptions(**{"max_cycles": 60_000, "hardware_timeout": knobs, **options})  # type: ignore[arg-type]
        return run_workload(workload, self.images[:images], self.binary, chosen).runs

    def run(self, mode: int, bursts: int, **options: object) -> RunResult:
        return self.runs(mode, bursts, **options)[0]  # type: ignore[arg-type]


def dummy_design() -> Design:
    return Design("dummy", rtl_sources(Path(__file__).parent / "rtl"), rtl_parameters(ARCH))


@pytest.fixture(scope="session")
def dummy() -> Dummy:
    return Dummy(build_design(dummy_design(), BuildOptions()))
