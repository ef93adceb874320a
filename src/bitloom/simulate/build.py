"""Builds the simulator of an architecture with Verilator, once per content of sources, parameters and tools."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from bitloom.emit.parameters import TOP, rtl_parameters, rtl_sources, verilator_parameters
from bitloom.errors import SimulationError
from bitloom.program.c_header import c_header
from bitloom.simulate.toolchain import Toolchain, find_toolchain
from bitloom.target.arch import ArchConfig

_BINARY = "simulator"


@dataclass(frozen=True)
class BuildOptions:
    """How a simulator is built.

    fast: the array as one behavioural module (BITLOOM_FAST), else its DSP structure.  trace: DPI trace of writes and
    commands (BITLOOM_TRACE), needed for per-layer comparison.  assertions: SystemVerilog assertions stop the run.
    random_initial: registers without reset start with random values instead of zero.  jobs: parallel compilers.
    """

    fast: bool = True
    trace: bool = True
    assertions: bool = False
    random_initial: bool = False
    jobs: int = 2

    def defines(self) -> tuple[str, ...]:
        """Preprocessor names given to Verilator."""
        return tuple(name for name, on in (("BITLOOM_FAST", self.fast), ("BITLOOM_TRACE", self.trace)) if on)


@dataclass(frozen=True)
class Design:
    """What is simulated: a top module named bl_top with the ports of the accelerator, its sources and parameters.

    main: a C++ file that takes the place of the harness's main.cpp, which runs job folders (None: that one).
    """

    name: str
    sources: tuple[Path, ...]
    parameters: dict[str, int]
    main: Path | None = None


@dataclass(frozen=True)
class SimBinary:
    """A built simulator: its file, the hash it is cached under, the parameters, and whether this call built it."""

    path: Path
    key: str
    parameters: dict[str, int]
    options: BuildOptions
    built: bool


def accelerator(arch: ArchConfig) -> Design:
    """The design of an architecture."""
    return Design(arch.name, rtl_sources(), rtl_parameters(arch))


def build(arch: ArchConfig, options: BuildOptions | None = None) -> SimBinary:
    """The simulator of an architecture, from the cache or built now (minutes for large arrays).

    Raises SimulationError when a tool is missing or the build fails; the text names the log file.
    """
    return build_design(accelerator(arch), BuildOptions() if options is None else options)


def cache_folder() -> Path:
    """$BITLOOM_CACHE, else ~/.cache/bitloom."""
    chosen = os.environ.get("BITLOOM_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "bitloom"


def harness_sources() -> tuple[Path, ...]:
    """The C++ files of the harness, sorted."""
    return tuple(sorted((Path(__file__).parent / "cpp").glob("*.[ch]*")))


def _host_sources(design: Design) -> tuple[Path, ...]:
    harness = harness_sources()
    return harness if design.main is None else (*(p for p in harness if p.name != "main.cpp"), design.main)


def verilator_arguments(design: Design, options: BuildOptions) -> tuple[str, ...]:
    """Verilator's arguments without sources and folders."""
    unknowns = "unique" if options.random_initial else "fast"
    shape = (("WP", "WP"), ("P", "P"), ("C", "C"), ("ROWS", "ActRows"))
    macros = " ".join(f"-DBITLOOM_{macro}={design.parameters[name]}" for macro, name in shape)
    return (
        *("--cc", "--exe", "--top-module", TOP, "--prefix", f"V{TOP}", "-O3", "--output-split", "2000"),
        *("--x-assign", unknowns, "--x-initial", unknowns, "--assert" if options.assertions else "--no-assert"),
        *("-Wno-lint", "-Wno-style", "-Wno-fatal", "-CFLAGS", f"-std=c++20 -Wall {macros}"),
        *(f"-D{name}" for name in options.defines()),
        *verilator_parameters(design.parameters),
    )


def build_key(design: Design, options: BuildOptions, tools: Toolchain) -> str:
    """The hash of everything that the binary depends on."""
    digest = hashlib.sha256()
    facts = {
        "arguments": verilator_arguments(design, options),
        "verilator": version("verilator"),
        "compiler": tools.compiler_version,
        "registers": c_header(),
        "make": _make_variables(tools),
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    for path in (*design.sources, *_host_sources(design)):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def build_design(design: Design, options: BuildOptions) -> SimBinary:
    """Like `build` for any top with the accelerator's ports."""
    tools = find_toolchain()
    key = build_key(design, options, tools)
    cache = cache_folder()
    binary = cache / key / _BINARY
    if binary.is_file():
        return SimBinary(binary, key, design.parameters, options, built=False)
    _make_folder(cache)
    with _locked(cache / f"{key}.lock"):
        if binary.is_file():  # another process has built it meanwhile
            return SimBinary(binary, key, design.parameters, options, built=False)
        work = cache / f"build-{key}-{uuid.uuid4().hex[:8]}"
        log = cache / f"{key}.log"
        for left in (*cache.glob(f"build-{key}-*"), *cache.glob(f"ready-{key}-*")):  # of a build that was killed
            shutil.rmtree(left, ignore_errors=True)
        start = time.monotonic()
        _say(f"building the simulator '{design.name}' ({', '.join(options.defines()) or 'plain'}), log: {log}")
        ready = cache / f"ready-{key}-{uuid.uuid4().hex[:8]}"
        try:
            _compile(design, options, tools, work, log)
            ready.mkdir()
            shutil.copy2(work / f"V{TOP}", ready / _BINARY)
            facts = {"design": design.name, "parameters": design.parameters, "options": asdict(options)}
            (ready / "build.json").write_text(json.dumps(facts, indent=1) + "\n")
            ready.rename(cache / key)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            shutil.rmtree(ready, ignore_errors=True)  # what became of it has another name
        _say(f"built '{design.name}' in {time.monotonic() - start:.0f} s")
    return SimBinary(binary, key, design.parameters, options, built=True)


def _compile(design: Design, options: BuildOptions, tools: Toolchain, work: Path, log: Path) -> None:
    work.mkdir(parents=True)
    (work / "bitloom_regs.h").write_text(c_header())
    cpp = [p for p in _host_sources(design) if p.suffix == ".cpp"]
    include = f"-I{harness_sources()[0].parent} -I{work}"
    arguments = [*verilator_arguments(design, options), "-CFLAGS", include, "--Mdir", str(work)]
    _logged([*tools.verilator, *arguments, *map(str, design.sources), *map(str, cpp)], tools, log, "w", work)
    make = [tools.make, "-C", str(work), "-f", f"V{TOP}.mk", f"-j{options.jobs}", *_make_variables(tools), f"V{TOP}"]
    _logged(make, tools, log, "a", work)


def _make_variables(tools: Toolchain) -> tuple[str, ...]:
    """The wheel's makefile names the tools of the machine that built it; these override them."""
    return (
        *(
            f"CXX={tools.compiler}",
            f"LINK={tools.compiler}",
            "AR=ar",
            f"PERL={tools.perl}",
            f"PYTHON3={sys.executable}",
        ),
        *("OPT_FAST=-O2", "OPT_SLOW=-O1", "OPT_GLOBAL=-O2"),
        *("CFG_CXXFLAGS_PCH_I=-include", "CFG_LDLIBS_THREADS=-pthread"),
    )


def _logged(command: list[str], tools: Toolchain, log: Path, mode: str, work: Path) -> None:
    with log.open(mode) as sink:
        sink.write(" ".join(command) + "\n")
        sink.flush()
        done = subprocess.run(
            command, stdout=sink, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=tools.environment, check=False
        )
    if done.returncode != 0:
        lines = [line for line in log.read_text(errors="replace").splitlines() if "rror" in line]
        first = lines[0].replace(str(work), ".").strip() if lines else f"exit code {done.returncode}"
        raise SimulationError(f"the simulator could not be built: {first}; the whole log: {log}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SimulationError(
            f"the build cache {folder} cannot be made ({error.strerror}); set BITLOOM_CACHE to a folder you can write"
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock of the file; the system frees it at the process' end. OSError becomes SimulationError."""
    try:
        with path.open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise SimulationError(
            f"the build cache {path.parent} cannot be written ({error.strerror}); set BITLOOM_CACHE to a folder that "
            "you can write, with some gigabytes free"
        ) from error


def _say(text: str) -> None:
    print(f"bitloom: {text}", file=sys.stderr, flush=True)
