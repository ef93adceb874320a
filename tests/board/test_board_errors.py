"""Failures of a run: wrong build, small buffer, errors and hangs of the hardware, other hardware, wrong images."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from bitloom.board.scripts import memory_needed
from bitloom.program.commands import FORMAT_VERSION, HARDWARE_ID, REGISTERS
from bitloom.target.arch import named_arch
from board.conftest import ARCH, MEMORY, Board, case

ADDRESS = {name: address for name, address, *_ in REGISTERS}


def test_a_program_of_another_build(board: Board) -> None:
    what = case(1, arch=named_arch("small"))
    with board.powered() as where:
        outcome, _ = board.classify(what, where)
    hashes = f"compiled for build 'small' (hash {named_arch('small').hash:08x}), the bitstream has hash {ARCH.hash:08x}"
    assert outcome.code == 1 and hashes in outcome.err


def test_a_buffer_that_is_too_small(board: Board) -> None:
    what = case(11)
    with board.powered(bytes_=8192) as where:
        outcome, _ = board.classify(what, where)
    needed = (
        f"needs {memory_needed(what.program)} bytes of contiguous memory (program {len(what.program.image())}, input"
    )
    assert outcome.code == 1 and needed in outcome.err
    assert "the buffer has 8192; make it larger" in outcome.err


@pytest.mark.parametrize(
    ("fault", "options", "mode", "text"),
    [
        ("response w0 20 0", (), "", "error 4 (AXI_WEIGHTS) in layer"),
        ("response w1 20 0", (), "poll:", "error 4 (AXI_WEIGHTS) in layer"),
        ("response c 20 0", (), "", "error 5 (AXI_COMMAND) in layer"),
        ("response d 0 1", (), "poll:", "error 7 (AXI_DATA_WRITE) in layer"),
        ("stuck_data w0 20 0", ("--timeout-ms", "10"), "", "error 8 (TIMEOUT) in layer"),
        ("stuck_data w0 20 0", ("--timeout-ms", "1"), "", "the run did not end within 1000 us; it is in layer"),
    ],
)
def test_errors_and_hangs_of_the_hardware(
    board: Board, fault: str, options: tuple[str, ...], mode: str, text: str
) -> None:
    what = case(11)
    with board.powered(fault=tuple(fault.split())) as where:
        outcome, result = board.classify(what, mode + where, *options)
    assert outcome.code == 1 and result is None and text in outcome.err
    layer = outcome.err.split("in layer ")[1].split("'")[1]
    assert layer in what.program.layers


class OtherBoard:
    """Registers that read what a test wants, behind the socket of the simulated board."""

    def __init__(self, registers: dict[str, int], interrupt: bool = True) -> None:
        usual = {"ID": HARDWARE_ID, "VERSION": FORMAT_VERSION, "ARCH_HASH": ARCH.hash, "CTRL": 0b0110}
        self.registers = {ADDRESS[name]: value for name, value in (usual | registers).items()}
        self.interrupt = interrupt
        self.time = 0

    def serve(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, client.makefile("rwb") as stream:
            while request := stream.read(1):
                if request == b"r":
                    (offset,) = struct.unpack("<I", stream.read(4))
                    stream.write(struct.pack("<I", self.registers.get(offset, 0)))
                elif request == b"t":
                    self.time += 300_000
                    stream.write(struct.pack("<Q", self.time))
                elif request == b"i":
                    stream.read(8)
                    stream.write(b"1" if self.interrupt else b"0")
                elif request == b"w":
                    stream.read(8)
                    stream.write(b"k")
                else:
                    _, size = struct.unpack("<QQ", stream.read(16))
                    if request == b"d":
                        stream.read(size)
                    stream.write(b"k" if request == b"d" else bytes(size))
                stream.flush()


@contextmanager
def plugged(other: OtherBoard, folder: Path) -> Iterator[str]:
    path = folder / "other"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        thread = threading.Thread(target=other.serve, args=(listener,))
        thread.start()
        yield f"{path},{MEMORY}"
        thread.join(timeout=10)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (OtherBoard({"ID": 0}), "register ID is 0x00000000, not 0xB1710010; load the bitstream"),
        (OtherBoard({"VERSION": 1}), "the bitstream has format version 1, this driver is for 2"),
        (OtherBoard({"CTRL": 1, "LAYER": 7}), "the accelerator is still running (layer 7)"),
        (OtherBoard({}, interrupt=False), "the run ended, but its interrupt did not come"),
        (OtherBoard({"CTRL": 0b0100}), "the run did not end within 1000000 us; it is in layer 0"),
        (OtherBoard({"ERROR": 77}), "error 77 (UNKNOWN)"),
    ],
)
def test_other_hardware(board: Board, other: OtherBoard, text: str, tmp_path: Path) -> None:
    with plugged(other, tmp_path) as where:
        outcome, result = board.classify(case(11), where)
    assert outcome.code == 1 and result is None and text in outcome.err


def test_no_board_at_all(board: Board) -> None:
    outcome, _ = board.classify(case(11), "/nowhere,1")
    assert outcome.code == 1 and "no simulator listens at /nowhere" in outcome.err


def test_wrong_images(board: Board, tmp_path: Path) -> None:
    what = case(36, batch=3)
    program, images = board.write(what)
    codes = np.frombuffer(Path(images[0]).read_bytes(), np.int8).copy()
    short, bad, picture = tmp_path / "short", tmp_path / "bad", tmp_path / "p.pgm"
    short.write_bytes(codes[:-1].tobytes())
    codes[7] = -128
    bad.write_bytes(codes.tobytes())
    picture.write_bytes(b"P5 13 14 255\n" + bytes(13 * 14))
    for arguments, text in (
        (images[:2], "2 images for a program of batch 3; give 3"),
        ([str(short), *images[1:]], f"has {codes.size - 1} bytes; an image of codes has {codes.size}"),
        ([str(bad), *images[1:]], "input code 7 is -128; legal: -127 to 127"),
        ([str(picture), *images[1:]], "how pixels become codes is not known; give --network"),
        ([str(tmp_path / "none"), *images[1:]], "cannot read"),
    ):
        with board.powered() as where:
            outcome = board.run("--where", where, program, *arguments)
        assert outcome.code == 1 and text in outcome.err


@pytest.mark.parametrize("arguments", [[], ["--top"], ["--top", "x", "p", "i"], ["--fast", "p", "i"], ["p"]])
def test_usage(board: Board, arguments: list[str]) -> None:
    outcome = board.run(*arguments)
    assert outcome.code == 2 and outcome.err.startswith("usage: bitloom_run")
