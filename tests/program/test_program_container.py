"""The program file: round trips, and every way in which it can be wrong."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitloom.errors import OutputError, ProgramError
from bitloom.program.container import FILE_VERSION, Program, from_bytes, load, save, to_bytes
from bitloom.program.lower import input_image, lower
from bitloom.program.machine import run_machine
from bitloom.program.plan import plan
from bitloom.target.arch import ArchConfig, named_arch
from random_networks import random_codes, random_network

ARCH = ArchConfig("p4c8", 4, 8, 16, 2, 8, 8, 4096, 4096)


def _program(seed: int = 1) -> tuple[Program, np.ndarray]:
    rng = np.random.default_rng(seed)
    graph = random_network(rng, 5)
    return lower(graph, plan(graph, ARCH)), random_codes(rng, graph.tensors[graph.input].shape)


@pytest.mark.parametrize("seed", range(6))
def test_round_trip(seed: int, tmp_path: Path) -> None:
    program, codes = _program(seed)
    path = tmp_path / "net.bloom"
    save(program, path)
    again = load(path, ARCH)
    assert to_bytes(again) == to_bytes(program)
    assert again.placements == program.placements and again.trace == program.trace
    assert again.input_spec == program.input_spec and again.output_spec == program.output_spec
    image = input_image(program, codes)
    assert image == input_image(again, codes)
    assert run_machine(again, image) == run_machine(program, image)


def test_every_truncation_is_noticed() -> None:
    data = to_bytes(_program()[0])
    for length in [*range(0, 24), *range(24, len(data), 997), len(data) - 1]:
        with pytest.raises(ProgramError, match=r"is truncated|is not a Bitloom program"):
            from_bytes(data[:length])


def test_every_flipped_byte_is_noticed() -> None:
    data = to_bytes(_program()[0])
    rng = np.random.default_rng(0)
    for at in [*range(0, 24), *rng.integers(24, len(data), 200).tolist()]:
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(8))
        with pytest.raises(ProgramError, match=r"corrupted|truncated|not a Bitloom program|file version"):
            from_bytes(bytes(broken))


def test_texts_of_errors(tmp_path: Path) -> None:
    program, _ = _program()
    data = to_bytes(program)
    with pytest.raises(ProgramError, match="'x' is not a Bitloom program: it begins with b'PK"):
        from_bytes(b"PK\x03\x04" + data, what="x")
    with pytest.raises(ProgramError, match="'program' has file version 9; this release reads 2: compile it again"):
        from_bytes(data[:8] + (9).to_bytes(4, "little") + data[12:])
    with pytest.raises(ProgramError, match="'program' is corrupted: 3 bytes follow its last section"):
        from_bytes(data + b"abc")
    with pytest.raises(
        ProgramError, match=r"was compiled for architecture 'p4c8' \(hash .*\), but the target is 'tiny'"
    ):
        from_bytes(data, named_arch("tiny"))
    with pytest.raises(ProgramError, match=r"cannot read program '.*nothing': No such file"):
        load(tmp_path / "nothing")
    with pytest.raises(OutputError, match=r"cannot write program '.*': .*; choose a writable folder"):
        save(program, tmp_path / "no" / "folder")


def test_header_that_lies_about_format_or_hash_is_refused() -> None:
    data = to_bytes(_program()[0])
    length = int.from_bytes(data[12:16], "little")
    text, rest = data[20 : 20 + length], data[20 + length :]

    def with_header(old: bytes, new: bytes) -> bytes:
        assert old in text
        changed = text.replace(old, new)
        words = (FILE_VERSION, len(changed), zlib.crc32(changed))
        return data[:8] + b"".join(w.to_bytes(4, "little") for w in words) + changed + rest

    with pytest.raises(ProgramError, match="uses command format 7; this release uses 2"):
        from_bytes(with_header(b'"format":2', b'"format":7'))
    with pytest.raises(ProgramError, match="is corrupted: architecture 'p4c8' has hash"):
        from_bytes(with_header(b'"acc_groups":8', b'"acc_groups":16'))
    with pytest.raises(ProgramError, match="names an illegal architecture: architecture 'p4c8': acc_groups = 9"):
        from_bytes(with_header(b'"acc_groups":8', b'"acc_groups":9'))


def test_image_places_every_port_at_its_offset() -> None:
    program, _ = _program()
    image = program.image()
    assert image.startswith(program.commands) and program.command_beats * 16 == len(program.commands)
    at = len(program.commands)
    for stream in program.weights:
        at = -(-at // 64) * 64
        assert image[at : at + len(stream)] == stream
        at += len(stream)
    assert len(image) == at


def test_hash_follows_the_integers() -> None:
    rng = np.random.default_rng(1)
    graph = random_network(rng, 5)
    node = graph.nodes[0]
    bias = node.bias.copy()
    bias[0] += 1
    other = replace(graph, nodes=(replace(node, bias=bias), *graph.nodes[1:]))
    assert lower(graph, plan(graph, ARCH)).graph_hash != lower(other, plan(other, ARCH)).graph_hash
