"""The driver's reading of program files and its layouts against Python's, without a device, under sanitizers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bitloom.errors import BitloomError, ProgramError
from bitloom.program.container import from_bytes, save, to_bytes
from bitloom.program.inputs import LinearSpec, input_bytes, linear_words, output_codes
from bitloom.program.lower import lower
from bitloom.program.plan import plan
from bitloom.program.regions import Layout, split_layout
from bitloom.target.arch import named_arch
from board.conftest import HERE, SANITIZE, case
from random_networks import random_codes, random_layer, random_network


@pytest.fixture(scope="module")
def layout(driver: Path) -> Path:
    names = ("program", "layout", "json", "hash", "session", "network")
    sources = [driver / "bitloom.c", *(driver / f"bitloom_{n}.c" for n in names), HERE / "cpp" / "bitloom_socket.c"]
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", *SANITIZE.split(), f"-I{driver}"]
    command = ["cc", *flags, "-o", str(driver / "layout"), str(HERE / "cpp" / "layout.c"), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return driver / "layout"


def ask(layout: Path, *arguments: str) -> list[str]:
    done = subprocess.run([str(layout), *arguments], capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def any_linear(rng: np.random.Generator, channels: int, shape: tuple[int, int, int] | None = None) -> LinearSpec:
    """A tensor in any layout: plain or phase-split, in one or several segments."""
    if shape is None:
        c, h, w = (int(n) for n in rng.integers(1, (60, 12, 12)))
        shape = (c, h, w)
    c, h, w = shape
    pitch = w + int(rng.integers(0, 4))
    layout = split_layout(h, -(-w // 2) + int(rng.integers(0, 3)), 4) if rng.random() < 0.5 else Layout(False, pitch)
    cuts = sorted({int(n) for n in rng.integers(1, c + 1, int(rng.integers(0, 4)))} | {c})
    segments = tuple(b - a for a, b in pairwise((0, *cuts)))
    return LinearSpec(shape, segments, layout, channels, linear_words(layout.positions(h), channels))


@pytest.mark.parametrize("name", ["tiny", "small", "mid", "full"])
def test_input_and_output_have_the_bytes_of_the_compiler(layout: Path, tmp_path: Path, name: str) -> None:
    arch, linear = named_arch(name), 0
    paths = [str(tmp_path / n) for n in ("program", "codes", "input", "output", "result")]
    for seed in range(16):
        rng = np.random.default_rng((11, seed))
        graph = random_layer(rng) if seed % 2 else random_network(rng)
        try:
            program = lower(graph, plan(graph, arch))
        except BitloomError:
            continue
        program = replace(program, output_spec=any_linear(rng, arch.channels))
        if seed % 4 == 3:
            program = replace(program, input_spec=any_linear(rng, arch.channels, program.input_spec.shape))
        codes = random_codes(rng, graph.tensors[graph.input].shape)
        ddr = rng.integers(0, 256, program.output_spec.bytes, dtype=np.uint8).tobytes()
        save(program, Path(paths[0]))
        Path(paths[1]).write_bytes(codes.tobytes())
        Path(paths[3]).write_bytes(ddr)
        ask(layout, "convert", *paths)
        assert Path(paths[2]).read_bytes() == input_bytes(program.input_spec, codes), f"seed {seed}"
        assert Path(paths[4]).read_bytes() == output_codes(program.output_spec, ddr).tobytes(), f"seed {seed}"
        linear += isinstance(program.input_spec, LinearSpec)
    assert linear >= 2, "inputs of both kinds must have been met"


def mutated(data: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """The file with another header and its right CRC."""
    length = int.from_bytes(data[12:16], "little")
    header = json.loads(data[20 : 20 + length])
    change(header)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    words = len(text).to_bytes(4, "little") + zlib.crc32(text).to_bytes(4, "little")
    return data[:12] + words + text + data[20 + length :]


def broken(data: bytes) -> dict[str, tuple[bytes, str]]:
    """Files that must be refused, with a part of the driver's sentence."""
    flip = bytearray(data)
    flip[-5] ^= 1
    head = bytearray(data)
    head[40] ^= 1
    return {
        "empty": (b"", "not a Bitloom program"),
        "other": (b"PNG" + data[3:], "not a Bitloom program: the file does not begin with 'BITLOOM'"),
        "fixed part": (data[:15], "truncated: 15 bytes"),
        "version": (data[:8] + b"\x09" + data[9:], "file version 9, this driver reads 2: compile it again"),
        "header cut": (data[:300], "its header has"),
        "header": (bytes(head), "its header does not match its CRC"),
        "cut": (data[:-7], "truncated: section 'weights1' has"),
        "longer": (data + b"xyz", "3 bytes follow its last section"),
        "section": (bytes(flip), "section 'weights1' does not match its SHA-256"),
        "format": (mutated(data, lambda h: h.update(format=1)), "command format 1, this driver 2"),
        "arch": (mutated(data, lambda h: h["arch"].update(pixels=6)), "its architecture does not match its hash"),  # type: ignore[attr-defined]
    }


def test_broken_files_are_refused_by_driver_and_compiler_alike(layout: Path, tmp_path: Path) -> None:
    cases = broken(to_bytes(case(11).program))
    paths = [tmp_path / name.replace(" ", "_") for name in cases]
    for path, (data, _) in zip(paths, cases.values(), strict=True):
        path.write_bytes(data)
        with pytest.raises(ProgramError):
            from_bytes(data)
    said = ask(layout, "check", *map(str, paths))
    for (name, (_, text)), line in zip(cases.items(), said, strict=True):
        assert text in line, f"{name}: {line}"


def test_an_unknown_opcode_is_refused(layout: Path, tmp_path: Path) -> None:
    program = case(11).program
    commands = bytearray(program.commands)
    commands[0] = 0x55
    whole = to_bytes(program)
    path = tmp_path / "opcode"
    digest = hashlib.sha256(bytes(commands)).hexdigest()
    changed = mutated(whole, lambda h: h["sections"][0].update(sha256=digest))  # type: ignore[index]
    start = len(changed) - len(program.commands) - sum(map(len, program.weights))
    path.write_bytes(changed[:start] + bytes(commands) + changed[start + len(commands) :])
    assert ask(layout, "check", str(path)) == ["the program is corrupted: unknown opcode 85 at byte 0"]


def test_damaged_headers_never_lead_outside_the_file(layout: Path, tmp_path: Path) -> None:
    """Bytes of the header replaced at random, with the CRC made right again: any answer, but no sanitizer's."""
    data = to_bytes(case(11).program)
    length = int.from_bytes(data[12:16], "little")
    rng = np.random.default_rng(5)
    paths = []
    for number in range(400):
        header = bytearray(data[20 : 20 + length])
        for at in rng.integers(0, length, int(rng.integers(1, 4))):
            header[at] = int(rng.choice(list(b'0123456789-{}[]",:"etf\x00\xff\\')))
        words = length.to_bytes(4, "little") + zlib.crc32(bytes(header)).to_bytes(4, "little")
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(data[:12] + words + bytes(header) + data[20 + length :])
    said = ask(layout, "check", *map(str, paths))
    assert len(said) == 400 and len(set(said)) >= 5
