"""bl_cmd_fetch against the encoder of bitloom.program.commands: every field, every tap, every wrong stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cpp_bench import CppBench

from bitloom.program.commands import COMMAND_FIELDS, TAP_FIELDS, Command, ErrorCode, Field, Opcode

TAPS = 64
BENCH = CppBench(
    "bl_cmd_fetch", Path(__file__).parent / "bench_cmd_fetch.cpp", params={"TapEntries": TAPS}, defines={"TAPS": TAPS}
)
END = Command({"opcode": Opcode.END})


def random_value(rng: np.random.Generator, field: Field) -> int:
    low = -(1 << (field.width - 1)) if field.signed else 0
    return low + int(rng.integers(0, 1 << field.width))


def random_command(rng: np.random.Generator, taps: int) -> Command:
    fields = {f.name: random_value(rng, f) for f in COMMAND_FIELDS if f.name != "n_taps"}
    fields["opcode"] = int(rng.choice([o for o in Opcode if o != Opcode.END]))
    return Command(fields, tuple({f.name: random_value(rng, f) for f in TAP_FIELDS} for _ in range(taps)))


def seen_of(commands: list[Command]) -> bytes:
    """What the bench writes for these commands: the 645 bits of a header, the 82 bits of a tap."""
    out = b""
    for command in commands:
        raw = command.encode()
        out += raw[:81] + b"".join(raw[96 + 16 * i :][:11] for i in range(len(command.taps)))
    return out


def run(folder: Path, stream: bytes, seed: int = 1, stall: int = 20, fault: int = -1) -> tuple[dict[str, int], bytes]:
    (folder / "stream.bin").write_bytes(stream)
    got = BENCH.run(folder, seed, 20, stall, int(fault >= 0), max(fault, 0))
    return got, (folder / "seen.bin").read_bytes()


@pytest.mark.parametrize(("seed", "stall"), [(1, 0), (2, 30), (3, 60)])
def test_commands_and_taps_arrive_exactly(tmp_path: Path, seed: int, stall: int) -> None:
    rng = np.random.default_rng(seed)
    commands = [random_command(rng, int(rng.choice([0, 1, 9, 49, TAPS]))) for _ in range(30)] + [END]
    stream = b"".join(c.encode() for c in commands)
    got, seen = run(tmp_path, stream, seed, stall)
    assert seen == seen_of(commands)
    assert got["error"] == ErrorCode.NONE
    assert (got["commands"], got["beats"]) == (31, len(stream) // 16)


def test_beats_after_end_are_ignored(tmp_path: Path) -> None:
    got, seen = run(tmp_path, END.encode() + b"\xff" * 16 * 20)
    assert (got["commands"], got["error"]) == (1, ErrorCode.NONE)
    assert seen == seen_of([END])


def wrong_streams() -> list[tuple[str, bytes, int, ErrorCode]]:
    """Name, stream, commands that are shown before the error, error."""
    rng = np.random.default_rng(8)
    good = [random_command(rng, 5), random_command(rng, 0)]
    head = b"".join(c.encode() for c in good)
    unknown = bytearray(END.encode())
    unknown[0] = 0x08
    zero = bytes(96)
    too_many = bytearray(random_command(rng, 0).encode())
    too_many[2] = too_many[2] & 0x0F | (TAPS + 1 & 15) << 4
    too_many[3] = too_many[3] & 0xC0 | TAPS + 1 >> 4
    return [
        ("no END", head, 2, ErrorCode.BAD_FIELD),
        ("ends in a header", head + END.encode()[:48], 2, ErrorCode.BAD_FIELD),
        ("ends in the taps", head + random_command(rng, 20).encode()[:-32], 2, ErrorCode.BAD_FIELD),
        ("empty", b"", 0, ErrorCode.BAD_FIELD),
        ("unknown opcode", head + bytes(unknown) + END.encode(), 2, ErrorCode.BAD_OPCODE),
        ("zeros", zero, 0, ErrorCode.BAD_OPCODE),
        ("too many taps", bytes(too_many) + bytes(16 * 80) + END.encode(), 0, ErrorCode.BAD_FIELD),
    ]


@pytest.mark.parametrize("case", wrong_streams(), ids=lambda case: case[0].replace(" ", "-"))
def test_wrong_stream_ends_in_its_error(tmp_path: Path, case: tuple[str, bytes, int, ErrorCode]) -> None:
    _, stream, commands, error = case
    got, _ = run(tmp_path, stream)
    assert (got["commands"], ErrorCode(got["error"])) == (commands, error)


def test_bad_response_is_an_error(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    stream = b"".join(random_command(rng, 30).encode() for _ in range(10)) + END.encode()
    got, _ = run(tmp_path, stream, fault=100)
    assert ErrorCode(got["error"]) is ErrorCode.AXI_COMMAND
    assert got["commands"] < 10
