"""The folder as it is written: sources and their defines, lint of the top, back ends compile, device tree, errors."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bitloom.board.scripts import memory_needed
from bitloom.board.settings import BoardSettings, ps_ports
from bitloom.board.write import remove_board, write_board
from bitloom.emit.parameters import rtl_sources
from bitloom.errors import OutputError, TargetError
from bitloom.synthesize.hierarchy import PRIMITIVES
from bitloom.target.arch import NAMED, named_arch
from bitloom.target.device import load_device
from board.conftest import ARCH, DRIVER, case
from elaborate_top import elaborate_top

DEVICE = load_device("xczu15eg")
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wpedantic", "-Wshadow", "-Wconversion", "-fsyntax-only"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board")
    what = case(11)
    assert write_board(ARCH, DEVICE, out, what.program) == out / "README.md"
    return out


def test_sources_are_copies_and_the_real_structure_is_chosen(folder: Path) -> None:
    names = (folder / "rtl" / "files.f").read_text().split()
    assert sorted(names) == sorted(p.name for p in (folder / "rtl").iterdir() if p.name != "files.f")
    assert names[0] == "bl_pkg.sv" and names[-1] == "bitloom_top.v"
    defined = {}
    for path in rtl_sources():
        text = (folder / "rtl" / path.name).read_text()
        head, body = text[: -len(path.read_text())], text[-len(path.read_text()) :]
        assert body == path.read_text()
        defined[path.name] = head.splitlines()
    assert {name: lines for name, lines in defined.items() if lines} == {
        "bl_dsp_quad.sv": ["`define BITLOOM_DSP48E2"],
        "bl_dsp_mac.sv": ["`define BITLOOM_DSP48E2"],
        "bl_add3.sv": ["`define BITLOOM_ADD3"],
    }


def test_what_was_written_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    """Before a second network is written, and where a later run writes no board."""
    remove_board(tmp_path / "none")
    (tmp_path / "mine").write_text("")
    write_board(ARCH, DEVICE, tmp_path, case(11).program)
    (tmp_path / "driver" / "bitloom_run").write_text("built by a user")
    write_board(ARCH, DEVICE, tmp_path)
    assert (tmp_path / "project.tcl").is_file() and not (tmp_path / "program").exists()
    remove_board(tmp_path)
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*"))
    assert left == ["driver", "driver/bitloom_run", "mine"]


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_the_packaged_sources_elaborate_in_their_order(name: str, tmp_path: Path) -> None:
    write_board(named_arch(name), DEVICE, tmp_path)
    names = (tmp_path / "rtl" / "files.f").read_text().split()
    elaborate_top("--bbox-unsup", str(PRIMITIVES), *names, cwd=tmp_path / "rtl")


def test_the_linux_back_end_builds_and_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "driver", tmp_path / "driver")
    done = subprocess.run(["make", "-s", "-C", str(tmp_path / "driver")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    program = str(folder / "program" / "program.bitloom")
    whole = subprocess.run(
        [str(tmp_path / "driver" / "bitloom_run"), "--check", program], capture_output=True, text=True
    )
    assert whole.returncode == 0 and "whole and consistent" in whole.stdout
    lost = subprocess.run([str(tmp_path / "driver" / "bitloom_run"), program, "x"], capture_output=True, text=True)
    assert lost.returncode == 1 and "no UIO device is called 'bitloom'; load bitloom.dtso" in lost.stderr


@pytest.mark.parametrize("path", sorted(DRIVER.glob("*.c")), ids=lambda path: path.stem)
def test_every_c_file_compiles_without_a_word(path: Path, tmp_path: Path) -> None:
    (tmp_path / "xil_cache.h").write_text(
        "#include <stdint.h>\ntypedef intptr_t INTPTR;\n"
        "void Xil_DCacheFlushRange(INTPTR at, INTPTR bytes);\n"
        "void Xil_DCacheInvalidateRange(INTPTR at, INTPTR bytes);\n"
    )
    (tmp_path / "xtime_l.h").write_text(
        "#include <stdint.h>\ntypedef uint64_t XTime;\n#define COUNTS_PER_SECOND 100000000u\n"
        "void XTime_GetTime(XTime *ticks);\n"
    )
    done = subprocess.run(["cc", *STRICT, f"-I{tmp_path}", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_the_buffer_is_what_the_program_needs(folder: Path) -> None:
    size = re.search(r"size = <0x([0-9a-f]+)>;", (folder / "bitloom.dtso").read_text())
    assert size is not None
    needed = memory_needed(case(11).program)
    assert needed <= int(size[1], 16) < needed + (1 << 20)


@pytest.mark.parametrize("arch", sorted(NAMED))
def test_the_overlay_is_well_formed(arch: str, tmp_path: Path) -> None:
    write_board(named_arch(arch), DEVICE, tmp_path)
    text = (tmp_path / "bitloom.dtso").read_text()
    if shutil.which("dtc"):
        command = ["dtc", "-@", "-I", "dts", "-O", "dtb", "-o", str(tmp_path / "o"), str(tmp_path / "bitloom.dtso")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    nodes = parse_tree(text)
    bus = nodes["/fragment@1/__overlay__/"]
    device, buffer = nodes["/fragment@1/__overlay__/bitloom@a0000000/"], nodes["/fragment@1/__overlay__/udmabuf@0/"]
    assert bus["#address-cells"] == bus["#size-cells"] == "<2>"
    assert device["reg"] == "<0x0 0xa0000000 0x0 0x1000>" and device["interrupts"] == "<0 89 4>"
    assert buffer["device-name"] == '"udmabuf-bitloom"'
    widths = nodes["/fragment@1/__overlay__/afi0/"]["config-afi"]
    assert len(widths.split(",")) == 2 * len(ps_ports(named_arch(arch))) + 1


def parse_tree(text: str) -> dict[str, dict[str, str]]:
    """Node path -> properties; every statement must be a node or a property, every brace must close."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    assert text.split()[:2] == ["/dts-v1/;", "/plugin/;"]
    body = text.split("/plugin/;")[1]
    nodes: dict[str, dict[str, str]] = {}
    path: list[str] = []
    tokens = re.findall(r'\s*((?:[^;{}"]|"[^"]*")*)([;{}])', body)
    assert re.sub(r"\s", "", "".join(a + b for a, b in tokens)) == re.sub(r"\s", "", body), "text outside statements"
    for statement, end in tokens:
        words = statement.strip()
        if end == "{":
            found = re.fullmatch(r"(?:[\w]+: )?(/|[\w,.-]+(?:@[0-9a-f]+)?)", words)
            assert found, words
            path.append("" if found[1] == "/" else found[1])
            nodes["/".join(path) + "/"] = {}
        elif end == "}":
            assert not words and path
            path.pop()
        elif words:
            found = re.fullmatch(r"([\w,#-]+)(?: = (.+))?", words, re.DOTALL)
            assert found and path, words
            value = found[2] or ""
            assert all(
                re.fullmatch(r'\s*(<[\w&\s]*>|"[^"]*")\s*', part) for part in value.split(",")
            ) or value.startswith('"')
            nodes["/".join(path) + "/"][found[1]] = value
    assert not path
    return nodes


def test_other_devices_and_programs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        TargetError, match=r"no board files for 'xc7z020': they are written for Zynq UltraScale\+ MPSoC"
    ):
        write_board(named_arch("tiny"), load_device("xc7z020"), tmp_path)
    with pytest.raises(
        TargetError, match=r"is for build 'board' \(hash .*\), not for 'tiny' \(hash .*; compile it for 'tiny'"
    ):
        write_board(named_arch("tiny"), DEVICE, tmp_path, case(11).program)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the board files cannot be written"):
        write_board(named_arch("tiny"), DEVICE, tmp_path / "file" / "board")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_what_could_not_be_finished_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """A full disk or an interruption half way: no file stays that a later run would take for somebody else's."""

    def fails(source: Path, target: Path) -> None:
        target.write_text("half")
        raise error

    (tmp_path / "rtl").mkdir()
    (tmp_path / "rtl" / "mine.v").write_text("")
    monkeypatch.setattr("bitloom.board.write.shutil.copyfile", fails)
    full = "No space left on device.; free space or choose another"
    expected, text = (OutputError, full) if isinstance(error, OSError) else (KeyboardInterrupt, None)
    with pytest.raises(expected, match=text):
        write_board(named_arch("tiny"), DEVICE, tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["rtl", "rtl/mine.v"]


@pytest.mark.parametrize("call", ["bitloom.board.write.shutil.copyfile", "pathlib.Path.replace", "pathlib.Path.unlink"])
def test_what_a_killed_run_left_is_taken_away(tmp_path: Path, call: str) -> None:
    """Killed at the fifth file that is made, moved into place, or removed for the next board."""
    killed, fresh = tmp_path / "killed", tmp_path / "fresh"
    (killed / "driver").mkdir(parents=True)
    (killed / "driver" / "mine.c").write_text("")
    code = (
        "import os, pkgutil, signal, sys\n"
        "from pathlib import Path\n"
        "from unittest.mock import patch\n"
        "from bitloom.board.write import write_board\n"
        "from bitloom.target.arch import named_arch\n"
        "from bitloom.target.device import load_device\n"
        "call, folder = sys.argv[1], Path(sys.argv[2])\n"
        "write = lambda: write_board(named_arch('tiny'), load_device('xczu15eg'), folder)\n"
        "if call.endswith('unlink'):\n"
        "    write()\n"
        "calls, real = iter(range(9999)), pkgutil.resolve_name(call)\n"
        "def deadly(*args, **kwargs):\n"
        "    if next(calls) == 4:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*args, **kwargs)\n"
        "with patch(call, deadly):\n"
        "    write()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, call, str(killed)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(_names(killed)) > 4
    shutil.copytree(killed, tmp_path / "again")
    remove_board(killed)
    assert _names(killed) == {"driver/mine.c"}
    write_board(named_arch("tiny"), DEVICE, tmp_path / "again")
    write_board(named_arch("tiny"), DEVICE, fresh)
    assert _names(tmp_path / "again") == _names(fresh) | {"driver/mine.c"}


def _names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"part": "zu15"}, "part 'zu15' must be a full name such as 'xczu15eg-ffvb1156-2-i'"),
        ({"board_part": "zcu102"}, "board_part 'zcu102' must have the form vendor:board:part0:version"),
        ({"clock_mhz": 400}, "clock_mhz = 400; legal: above 0, at most 333"),
        ({"register_base": 0x80000000}, "register_base = 0x80000000; legal: multiples of 0x1000 from 0xa0000000"),
        ({"register_base": 0xA0000100}, "register_base = 0xa0000100"),
        ({"buffer_bytes": -1}, "buffer_bytes = -1"),
    ],
)
def test_settings_are_checked(change: dict[str, object], text: str) -> None:
    with pytest.raises(TargetError, match=re.escape(text)):
        BoardSettings(**{"part": "xczu15eg-ffvb1156-2-i", "clock_mhz": 300, **change})  # type: ignore[arg-type]
