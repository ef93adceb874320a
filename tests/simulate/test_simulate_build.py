"""The build cache: keys, hits, two processes at once, failures with a reason."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bitloom.emit.parameters import rtl_parameters, rtl_sources
from bitloom.errors import SimulationError
from bitloom.simulate.build import BuildOptions, Design, SimBinary, build_design, build_key
from bitloom.simulate.job import Workload
from bitloom.simulate.run import run_workload
from bitloom.simulate.toolchain import find_toolchain
from bitloom.target.arch import ArchConfig

RTL = Path(__file__).parent / "rtl"
ARCH = ArchConfig("other", 2, 8, 8, 1, 4, 8, 64, 256, 64)
SCRIPT = """
import sys
from pathlib import Path
from bitloom.emit.parameters import rtl_parameters, rtl_sources
from bitloom.simulate.build import BuildOptions, Design, build_design
from bitloom.target.arch import ArchConfig
arch = ArchConfig("other", 2, 8, 8, 1, 4, 8, 64, 256, 64)
design = Design("other", rtl_sources(Path(sys.argv[1])), rtl_parameters(arch))
binary = build_design(design, BuildOptions(trace=False, jobs=1))
print(binary.built, binary.path)
"""


def other() -> Design:
    return Design("other", rtl_sources(RTL), rtl_parameters(ARCH))


def test_two_processes_build_once_and_both_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {**os.environ, "BITLOOM_CACHE": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", SCRIPT, str(RTL)], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(built for built, _ in said) == ["False", "True"]
    assert said[0][1] == said[1][1] and os.access(said[0][1], os.X_OK)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(("build-", "ready-"))]
    # A third call, in this process, is a hit; and the binary without trace refuses dumps.
    monkeypatch.setenv("BITLOOM_CACHE", str(tmp_path))
    binary = build_design(other(), BuildOptions(trace=False))
    assert not binary.built and str(binary.path) == said[0][1]
    run_checks(binary)


def run_checks(binary: SimBinary) -> None:
    from bitloom.simulate.job import SimOptions

    workload = Workload(ARCH.hash, bytes(4096), 2, 4096)
    image = bytes(range(256)) * 2
    result = run_workload(workload, [image], binary, SimOptions(hardware_timeout=2))
    assert result.runs[0].output[:512] == image and result.peak_rss_mib > 1
    with pytest.raises(SimulationError, match=r"dumps need a simulator built with BuildOptions\(trace=True\)"):
        run_workload(workload, [image], binary, SimOptions(dump=True))
    with pytest.raises(
        SimulationError, match=r"the program is for architecture 0x00000001, the simulator was built for"
    ):
        run_workload(replace(workload, arch_hash=1), [image], binary)
    with pytest.raises(SimulationError, match="no image to simulate"):
        run_workload(workload, [], binary)


def test_the_key_depends_on_everything_that_matters(tmp_path: Path) -> None:
    tools, options, design = find_toolchain(), BuildOptions(), other()
    keys = {build_key(design, options, tools)}
    keys.add(build_key(design, replace(options, fast=False), tools))
    keys.add(build_key(design, replace(options, trace=False), tools))
    keys.add(build_key(design, replace(options, assertions=True), tools))
    keys.add(build_key(design, replace(options, random_initial=True), tools))
    keys.add(build_key(design, options, replace(tools, compiler_version="g++ 99")))
    keys.add(build_key(replace(design, parameters={**design.parameters, "M": 16}), options, tools))
    changed = tmp_path / "bl_top.sv"
    changed.write_text((RTL / "bl_top.sv").read_text() + "\n")
    sources = tuple(changed if p.name == "bl_top.sv" else p for p in design.sources)
    keys.add(build_key(replace(design, sources=sources), options, tools))
    assert len(keys) == 8
    # Neither the design's name nor the number of compilers changes the binary.
    assert build_key(replace(design, name="x"), replace(options, jobs=1), tools) == build_key(design, options, tools)


def test_a_failed_build_names_the_error_and_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BITLOOM_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "bl_top.sv"
    broken.write_text("module bl_top (input logic clk_i;\nendmodule\n")
    with pytest.raises(
        SimulationError, match=r"could not be built: %Error: .*bl_top.sv:1:.* the whole log: (.*)"
    ) as raised:
        build_design(Design("broken", (broken,), rtl_parameters(ARCH)), BuildOptions())
    log = Path(str(raised.value).split("the whole log: ")[1])
    assert "verilator" in log.read_text() and log.parent == tmp_path / "cache"
    assert not [p for p in (tmp_path / "cache").iterdir() if p.is_dir()], "no half-built folder may stay"


def test_a_full_disk_is_named_and_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(design: Design, options: BuildOptions, tools: object, work: Path, log: Path) -> None:
        work.mkdir()
        (work / "Vbl_top").write_text("")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("BITLOOM_CACHE", str(tmp_path))
    monkeypatch.setattr("bitloom.simulate.build._compile", full)
    text = rf"the build cache {tmp_path} cannot be written \(No space left on device\); set BITLOOM_CACHE to"
    with pytest.raises(SimulationError, match=text):
        build_design(other(), BuildOptions())
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_a_build_removes_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(design: Design, options: BuildOptions, tools: object, work: Path, log: Path) -> None:
        work.mkdir()
        (work / "Vbl_top").write_text("")

    monkeypatch.setenv("BITLOOM_CACHE", str(tmp_path))
    monkeypatch.setattr("bitloom.simulate.build._compile", quick)
    key = build_key(other(), BuildOptions(), find_toolchain())
    for name in (f"build-{key}-0", f"ready-{key}-1", "build-another-2"):
        (tmp_path / name).mkdir()
    assert build_design(other(), BuildOptions()).built
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {key, "build-another-2"}


@pytest.mark.parametrize(("missing", "fix"), [("g++", "apt-get install g++"), ("make", "apt-get install make")])
def test_a_missing_tool_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, fix: str
) -> None:
    for tool in {"g++", "make", "perl"} - {missing}:
        (tmp_path / tool).write_text("#!/bin/sh\necho 1\n")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    text = f"the simulator cannot be built: '{missing}' is not on the PATH; install it: `{fix}`"
    with pytest.raises(SimulationError, match=re.escape(text)):
        build_design(other(), BuildOptions())


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BITLOOM_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SimulationError, match=r"cannot be made .*; set BITLOOM_CACHE to a folder you can write"):
        build_design(other(), BuildOptions())


def test_sources_come_packages_first() -> None:
    names: list[Any] = [p.name for p in rtl_sources()]
    assert names[0] == "bl_pkg.sv" and "bl_top.sv" in names and len(set(names)) == len(names)
    packages = [n.endswith("_pkg.sv") for n in names]
    assert packages == sorted(packages, reverse=True)
