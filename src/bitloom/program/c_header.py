"""The C header of the driver and of the simulation harness, `bitloom_regs.h`, from the command tables."""

from __future__ import annotations

from enum import IntEnum

from bitloom.program.commands import (
    BEAT_BYTES,
    COMMAND_FIELDS,
    COUNTERS,
    FORMAT_VERSION,
    HARDWARE_ID,
    HEADER_BEATS,
    REGISTERS,
    ErrorCode,
    Opcode,
)
from bitloom.program.container import ALIGNMENT, FILE_VERSION, MAGIC, PAGE


def c_header() -> str:
    """The text of `src/bitloom/board/driver/bitloom_regs.h`; a test fails when the committed file drifts from it."""
    out = [
        "/* Generated from bitloom/program/commands.py (make generate). Do not edit. */",
        "#ifndef BITLOOM_REGS_H",
        "#define BITLOOM_REGS_H",
        "",
        f"#define BITLOOM_HARDWARE_ID 0x{HARDWARE_ID:08X}u",
        f"#define BITLOOM_FORMAT_VERSION {FORMAT_VERSION}u",
        f"#define BITLOOM_BEAT_BYTES {BEAT_BYTES}u",
        f"#define BITLOOM_HEADER_BEATS {HEADER_BEATS}u",
        "/* Program file: magic (8 bytes), version, and alignment of the weights in the program image. */",
        f'#define BITLOOM_FILE_MAGIC "{MAGIC[:-1].decode()}"',
        f"#define BITLOOM_FILE_VERSION {FILE_VERSION}u",
        f"#define BITLOOM_ALIGNMENT {ALIGNMENT}u",
        "/* Program, input, output and scratch begin at whole pages of the driver's buffer. */",
        f"#define BITLOOM_PAGE_BYTES {PAGE}u",
        "",
        "/* Fields of a command's header that the driver reads: first bit and width. */",
    ]
    out += _fields("opcode", "n_taps")
    out += ["", "/* Register offsets in bytes (AXI4-Lite). */"]
    for name, address, access, doc in REGISTERS:
        out.append(f"#define BITLOOM_REG_{name} 0x{address:02X}u /* {access}{'; ' + doc if doc else ''} */")
    out += ["", *_enum("bitloom_opcode", "BITLOOM_OP_", Opcode)]
    out += ["", "/* Register ERROR. */", *_enum("bitloom_hw_error", "BITLOOM_HW_", ErrorCode)]
    out += ["", f"#define BITLOOM_COUNTERS {len(COUNTERS)}u", "/* X(name, offset) for every counter, in order. */"]
    rows = [f"  X({name}, 0x{address:02X}u)" for name, address, *_ in REGISTERS if name in COUNTERS]
    out += ["#define BITLOOM_COUNTER_LIST(X) \\", " \\\n".join(rows)]
    out += ["/* X(name, value) for every error of the hardware. */", "#define BITLOOM_HW_ERROR_LIST(X) \\"]
    out += [" \\\n".join(f"  X({error.name}, {error.value})" for error in ErrorCode)]
    return "\n".join([*out, "", "#endif", ""])


def _fields(*names: str) -> list[str]:
    out, at = [], 0
    for field in COMMAND_FIELDS:
        if field.name in names:
            out.append(f"#define BITLOOM_FIELD_{field.name.upper()}_LSB {at}u")
            out.append(f"#define BITLOOM_FIELD_{field.name.upper()}_BITS {field.width}u")
        at += field.width
    return out


def _enum(name: str, prefix: str, values: type[IntEnum]) -> list[str]:
    rows = [f"  {prefix}{value.name} = {value.value}," for value in values]
    return [f"enum {name} {{", *rows, "};"]
