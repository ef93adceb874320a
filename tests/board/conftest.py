"""The driver built with sanitizers against a simulated board: the Verilated accelerator behind a Unix socket."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from bitloom.graph.qgraph import Int8Array, QuantGraph
from bitloom.program.container import Program, save
from bitloom.program.lower import lower
from bitloom.program.plan import plan
from bitloom.reference.fast import run_fast
from bitloom.simulate.build import BuildOptions, SimBinary, accelerator, build_design
from bitloom.target.arch import ArchConfig
from random_networks import random_codes, random_network

HERE = Path(__file__).parent
DRIVER = Path(str(files("bitloom") / "board" / "driver"))
#: Two weight ports, and so few rows that some networks keep tensors in DDR.
ARCH = ArchConfig("board", 4, 16, 16, 2, 8, 8, 2048, 64)
SANITIZE = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
MEMORY = 1 << 21


@dataclass(frozen=True, eq=False)
class Case:
    """A random network with its program, images of one run (N, C, H, W) and the results of the integer reference."""

    graph: QuantGraph
    program: Program
    images: Int8Array
    expected: Int8Array


def case(seed: int, batch: int = 1, arch: ArchConfig = ARCH) -> Case:
    rng = np.random.default_rng(seed)
    graph = random_network(rng, largest_map=20)
    images = np.stack([random_codes(rng, graph.tensors[graph.input].shape) for _ in range(batch)])
    program = lower(graph, plan(graph, arch, batch))
    return Case(graph, program, images, run_fast(graph, images)[graph.output])


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class Board:
    """bitloom_run with the socket back end, and simulators to run it on."""

    def __init__(self, binary: SimBinary, folder: Path) -> None:
        self.binary, self.folder = binary, folder
        self.count = 0

    @contextmanager
    def powered(self, stall: float = 0.0, fault: tuple[str, ...] = (), bytes_: int = MEMORY) -> Iterator[str]:
        """A running board; gives the text that the back end wants. It must end without a broken rule."""
        self.count += 1
        socket = self.folder / f"s{self.count}"
        command = [str(self.binary.path), str(socket), str(bytes_), str(stall), *fault]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            for _ in range(500):
                if socket.exists() or process.poll() is not None:
                    break
                time.sleep(0.01)
            time.sleep(0.05)
            yield f"{socket},{bytes_}"
            try:
                _, said = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert process.returncode == 0, said

    def run(self, *arguments: str) -> Outcome:
        done = subprocess.run(
            [str(self.folder / "bitloom_run"), *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def write(self, what: Case) -> tuple[str, list[str]]:
        """The program file and the images as raw codes."""
        path = self.folder / f"{what.program.graph_hash[:8]}-{what.program.batch}.bitloom"
        save(what.program, path)
        images = []
        for i, image in enumerate(what.images):
            images.append(f"{path}.{i}.codes")
            Path(images[-1]).write_bytes(image.tobytes())
        return str(path), images

    def classify(self, what: Case, where: str, *options: str) -> tuple[Outcome, Int8Array | None]:
        """Runs the images; the result (N, C, H, W), None when the run failed."""
        program, images = self.write(what)
        out = self.folder / "result"
        out.unlink(missing_ok=True)
        outcome = self.run("--where", where, "--out", str(out), *options, program, *images)
        if not out.exists():
            return outcome, None
        return outcome, np.frombuffer(out.read_bytes(), np.int8).reshape(what.expected.shape)


def make(folder: Path, target: str, flags: str) -> None:
    """Builds a target of the driver's Makefile in a copy of its folder."""
    shutil.copytree(DRIVER, folder, dirs_exist_ok=True)
    command = [
        "make",
        "-s",
        "-C",
        str(folder),
        target,
        f"CFLAGS={flags}",
        f"BACKEND={HERE / 'cpp' / 'bitloom_socket.c'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def server() -> SimBinary:
    design = replace(accelerator(ARCH), name="board", main=HERE / "cpp" / "server.cpp")
    return build_design(design, BuildOptions(trace=False))


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bitloom_run, built with sanitizers and the socket back end."""
    folder = tmp_path_factory.mktemp("driver")
    make(folder, "bitloom_run", SANITIZE)
    return folder


@pytest.fixture(scope="session")
def board(server: SimBinary, driver: Path) -> Board:
    return Board(server, driver)
