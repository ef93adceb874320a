"""The command format, declared once.

Encoder, decoder, the SystemVerilog package (`bl_pkg.sv`), the driver's constants and the table in docs/spec/commands.md
are all generated from the tables in this file. A command is `HEADER_BEATS` beats of 128 bits (one flat record, every
opcode uses the fields it needs, the others are zero) followed by `n_taps` tap beats.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from bitloom.errors import ProgramError

BEAT_BITS = 128  #: of DDR and of the command stream
BEAT_BYTES = BEAT_BITS // 8
HEADER_BEATS = 6
HEADER_BYTES = HEADER_BEATS * BEAT_BYTES
#: Identity of the hardware (register ID) and of the register map and command format (register VERSION).
HARDWARE_ID = 0xB1710010
FORMAT_VERSION = 2


class Opcode(IntEnum):
    """What a command does. Any other value stops the machine with ErrorCode.BAD_OPCODE."""

    BEGIN = 0x01  #: first command; carries the architecture hash
    END = 0x02  #: waits for everything, then done
    WEIGHTS = 0x03  #: starts weight port `port` on a linear region
    CONV = 0x04  #: a convolution through the array
    POOL = 0x05  #: maximum or sum over taps, without weights
    LOAD = 0x06  #: DDR to activation memory, runs beside the following commands
    STORE = 0x07  #: activation memory to DDR


class ErrorCode(IntEnum):
    """Register ERROR after a stop; 0 means none."""

    NONE = 0
    BAD_OPCODE = 1
    BAD_ARCHITECTURE = 2
    BAD_FIELD = 3
    AXI_WEIGHTS = 4
    AXI_COMMAND = 5
    AXI_DATA_READ = 6
    AXI_DATA_WRITE = 7
    TIMEOUT = 8


class Base(IntEnum):
    """Which base register an address in a command is relative to."""

    PROGRAM = 0
    INPUT = 1
    OUTPUT = 2
    SCRATCH = 3


@dataclass(frozen=True)
class Field:
    """One field of a record: name, width in bits, signedness, and what it means."""

    name: str
    width: int
    signed: bool
    doc: str


def _u(name: str, width: int, doc: str) -> Field:
    return Field(name, width, False, doc)


def _s(name: str, width: int, doc: str) -> Field:
    return Field(name, width, True, doc)


#: The command header, lowest bits first.
COMMAND_FIELDS: tuple[Field, ...] = (
    _u("opcode", 8, "Opcode"),
    _u("layer", 12, "number of the layer, for counters and traces"),
    _u("n_taps", 10, "tap beats after the header (CONV, POOL)"),
    _u("wait_dma", 1, "start only when LOAD and STORE are idle"),
    _u("residual", 1, "CONV, POOL: add the residual tensor"),
    _u("pool_max", 1, "POOL: 1 = maximum, 0 = sum"),
    _u("out_split", 1, "output tensor is phase-split"),
    _u("arch_hash", 32, "BEGIN: ArchConfig.hash"),
    _u("in_base", 18, "input tensor, first row"),
    _u("in_chunk_rows", 18, "rows from one input chunk to the next"),
    _u("in_chunks", 12, "input chunks of C channels"),
    _s("pad_code", 8, "what a lane outside the image reads (CONV, POOL sum)"),
    _u("grid_w", 17, "width of the iteration grid"),
    _u("image_rows", 12, "rows of one image in the grid: the taps' y ranges count from each image's first row"),
    _u("adv_y", 12, "P div grid_w"),
    _u("adv_image", 12, "adv_y mod image_rows"),
    _u("adv_x", 17, "P mod grid_w"),
    _u("out_w", 17, "columns of the grid that are written"),
    _u("out_h", 12, "rows of the grid that are written"),
    _u("n_groups", 16, "groups of P positions in the grid: ceil(out_h*grid_w / P)"),
    _u("tile_groups", 8, "groups in every tile but the last, 1..T"),
    _u("n_tiles", 16, "tiles: ceil(n_groups / tile_groups)"),
    _u("last_tile_groups", 8, "groups in the last tile"),
    _u("n_vectors", 12, "CONV: vectors of M output channels; POOL: input chunks are walked instead"),
    _u("out_base", 18, "output tensor, first row"),
    _u("out_chunk_rows", 18, "rows from one output chunk to the next"),
    _u("out_chunks", 12, "output chunks of C channels in all; words of further chunks are not written"),
    _u("out_pitch", 17, "pitch of the output layout (of a phase image when split)"),
    _u("out_phase_pixels", 17, "pixels of a phase image (out_split)"),
    _u("out_y0", 12, "added to oy before the output address is formed"),
    _u("res_base", 18, "residual tensor, first row"),
    _u("res_chunk_rows", 18, "rows from one residual chunk to the next"),
    _u("res_split", 1, "residual tensor is phase-split"),
    _u("res_pitch", 17, "pitch of the residual layout (of a phase image when split)"),
    _u("res_phase_pixels", 17, "pixels of a phase image (res_split)"),
    _u("res_y0", 12, "added to oy before the residual address is formed"),
    _u("res_side", 1, "the residual lies in the other half of the rows than the input: it is read through port A"),
    _u("res_mult", 16, "residual multiplier, 12 fractional bits"),
    _s("post", 32, "constant with 12 fractional bits, added before the last rounding"),
    _s("clamp_lo", 8, "lowest output code"),
    _s("clamp_hi", 8, "highest output code"),
    _s("pool_bias", 32, "POOL: added to the maximum or sum"),
    _u("pool_mult", 17, "POOL: multiplier"),
    _u("pool_s_sel", 2, "POOL: shift select"),
    _u("pool_pre", 1, "POOL: pre-shift select"),
    _u("load_first", 18, "CONV, POOL: tile 0 waits until LOAD has written this many words since its start"),
    _u("load_step", 18, "and tile t until load_first + t*load_step (0 and 0: no wait)"),
    _u("ddr_sel", 2, "WEIGHTS, LOAD, STORE: Base"),
    _u("ddr_offset", 32, "WEIGHTS, LOAD, STORE: byte offset from the base, a multiple of 16"),
    _u("port", 2, "WEIGHTS: port"),
    _u("beats", 32, "WEIGHTS: beats of 16 bytes; LOAD: beats per chunk; STORE: words per chunk"),
    _u("dma_linear", 1, "LOAD: words are copied; 0: units and window"),
    _u("dma_chunks", 12, "LOAD, STORE: chunks"),
    _u("dma_pixel", 17, "LOAD, STORE: first flat position: its bank"),
    _u("units_log2", 2, "LOAD: log2 of units per beat (0..2)"),
    _u("window", 6, "LOAD: units per word"),
)

#: A tap beat, lowest bits first.
TAP_FIELDS: tuple[Field, ...] = (
    _s("row_off", 20, "flat offset div P"),
    _u("bank_off", 4, "flat offset mod P"),
    _u("y_lo", 12, "the tap is inside the image for y_lo <= oy < y_hi"),
    _u("y_hi", 12, ""),
    _u("x_lo", 17, "and x_lo <= ox < x_hi"),
    _u("x_hi", 17, ""),
)

#: AXI4-Lite registers: name, byte address, access, meaning.
REGISTERS: tuple[tuple[str, int, str, str], ...] = (
    ("CTRL", 0x00, "rw", "bit 0 start, 1 done (clears on read), 2 idle, 3 ready"),
    ("GIE", 0x04, "rw", "bit 0 global interrupt enable"),
    ("IER", 0x08, "rw", "bit 0 interrupt on done, bit 1 on error"),
    ("ISR", 0x0C, "rw", "pending interrupts, toggle on write"),
    ("ID", 0x10, "r", "HARDWARE_ID"),
    ("VERSION", 0x14, "r", "FORMAT_VERSION"),
    ("ARCH_HASH", 0x18, "r", "ArchConfig.hash"),
    ("ERROR", 0x1C, "r", "ErrorCode of the last run"),
    ("PROGRAM_LO", 0x20, "rw", "base of commands and weights"),
    ("PROGRAM_HI", 0x24, "rw", ""),
    ("INPUT_LO", 0x28, "rw", "base of the input image"),
    ("INPUT_HI", 0x2C, "rw", ""),
    ("OUTPUT_LO", 0x30, "rw", "base of the output"),
    ("OUTPUT_HI", 0x34, "rw", ""),
    ("SCRATCH_LO", 0x38, "rw", "base of tensors that do not fit on chip"),
    ("SCRATCH_HI", 0x3C, "rw", ""),
    ("TIMEOUT", 0x40, "rw", "cycles without progress before ErrorCode.TIMEOUT (0: never)"),
    ("COMMAND_BEATS", 0x44, "rw", "beats of the command stream at PROGRAM"),
    ("LAYER", 0x48, "r", "layer of the command in progress"),
    ("CYCLES_TOTAL", 0x80, "r", "cycles from start to done"),
    ("CYCLES_COMPUTE", 0x84, "r", "the array or the pool unit worked"),
    ("CYCLES_WEIGHTS", 0x88, "r", "waited for weights from DDR"),
    ("CYCLES_PLANES", 0x8C, "r", "waited for bit planes to be shifted in"),
    ("CYCLES_DRAIN", 0x90, "r", "waited for accumulators to be drained"),
    ("CYCLES_INPUT", 0x94, "r", "waited for LOAD or STORE"),
    ("CYCLES_CONTROL", 0x98, "r", "everything else: commands, pipeline fill and flush"),
    ("BEATS_WEIGHTS", 0x9C, "r", "beats read by the weight ports"),
    ("BEATS_READ", 0xA0, "r", "beats read by LOAD and commands"),
    ("BEATS_WRITE", 0xA4, "r", "beats written by STORE"),
)
#: Registers that count, in their order.
COUNTERS = tuple(name for name, *_ in REGISTERS if name.startswith(("CYCLES_", "BEATS_")))
#: What a cycle of a run is spent on, in the order of the counters: they add up to the total.
CAUSES = tuple(
    name.removeprefix("CYCLES_").lower() for name in COUNTERS if name.startswith("CYCLES_") and name != "CYCLES_TOTAL"
)


def _pack(fields: tuple[Field, ...], values: dict[str, int], what: str) -> int:
    unknown = set(values) - {f.name for f in fields}
    if unknown:
        raise ProgramError(f"{what}: unknown field {sorted(unknown)[0]!r}; legal: {', '.join(f.name for f in fields)}")
    word, at = 0, 0
    for f in fields:
        value = int(values.get(f.name, 0))
        low, high = (-(1 << (f.width - 1)), (1 << (f.width - 1)) - 1) if f.signed else (0, (1 << f.width) - 1)
        if not low <= value <= high:
            raise ProgramError(f"{what}: {f.name} = {value} does not fit its {f.width} bits; legal: {low}..{high}")
        word |= (value & ((1 << f.width) - 1)) << at
        at += f.width
    return word


def _unpack(fields: tuple[Field, ...], word: int) -> dict[str, int]:
    values, at = {}, 0
    for f in fields:
        raw = (word >> at) & ((1 << f.width) - 1)
        values[f.name] = raw - (1 << f.width) if f.signed and raw >> (f.width - 1) else raw
        at += f.width
    return values


def width(fields: tuple[Field, ...]) -> int:
    """Bits of a record."""
    return sum(f.width for f in fields)


@dataclass(frozen=True)
class Command:
    """One command: header fields by name (missing ones are zero) and its taps."""

    fields: dict[str, int]
    taps: tuple[dict[str, int], ...] = ()

    @property
    def beats(self) -> int:
        """Of the stream that it takes."""
        return HEADER_BEATS + len(self.taps)

    def encode(self) -> bytes:
        """Little-endian bytes: the header beats, then one beat per tap."""
        name = Opcode(self.fields["opcode"]).name
        head = _pack(COMMAND_FIELDS, {**self.fields, "n_taps": len(self.taps)}, name)
        body = head.to_bytes(HEADER_BYTES, "little")
        return body + b"".join(_pack(TAP_FIELDS, t, f"{name} tap").to_bytes(BEAT_BYTES, "little") for t in self.taps)


def decode(data: bytes) -> tuple[Command, ...]:
    """The commands of a stream; raises ProgramError on a truncated stream or an unknown opcode."""
    commands, at = [], 0
    while at < len(data):
        if at + HEADER_BYTES > len(data):
            raise ProgramError(f"command stream ends inside a header at byte {at} of {len(data)}")
        fields = _unpack(COMMAND_FIELDS, int.from_bytes(data[at : at + HEADER_BYTES], "little"))
        if fields["opcode"] not in set(Opcode):
            legal = ", ".join(f"{o.name}={o.value}" for o in Opcode)
            raise ProgramError(f"unknown opcode {fields['opcode']} at byte {at}; legal: {legal}")
        at += HEADER_BYTES
        end = at + fields["n_taps"] * BEAT_BYTES
        if end > len(data):
            raise ProgramError(f"command stream ends inside the taps at byte {at} of {len(data)}")
        beats = (data[i : i + BEAT_BYTES] for i in range(at, end, BEAT_BYTES))
        taps = tuple(_unpack(TAP_FIELDS, int.from_bytes(beat, "little")) for beat in beats)
        commands.append(Command({k: v for k, v in fields.items() if k != "n_taps"}, taps))
        at = end
    return tuple(commands)


def _sv_struct(name: str, fields: tuple[Field, ...]) -> str:
    rows = [f"    logic {'signed ' if f.signed else ''}[{f.width - 1}:0] {f.name};" for f in reversed(fields)]
    return "  typedef struct packed {\n" + "\n".join(rows) + f"\n  }} {name};\n"


def _camel(name: str) -> str:
    return "".join(part.title() for part in name.split("_"))


def systemverilog_package() -> str:
    """The text of `src/bitloom/rtl/bl_pkg.sv`; a test fails when the committed file drifts from it."""
    out = ["// Generated from bitloom/program/commands.py (make generate). Do not edit.", "package bl_pkg;"]
    out.append(f"  localparam int unsigned HeaderBeats = {HEADER_BEATS};")
    out.append(f"  localparam int unsigned CommandBits = {width(COMMAND_FIELDS)};")
    out.append(f"  localparam int unsigned TapBits = {width(TAP_FIELDS)};")
    out.append(f"  localparam logic [31:0] HardwareId = 32'h{HARDWARE_ID:08X};")
    out.append(f"  localparam logic [31:0] FormatVersion = 32'd{FORMAT_VERSION};\n")
    out += [f"  localparam logic [7:0] Op{o.name.title()} = 8'h{o.value:02X};" for o in Opcode] + [""]
    out += [f"  localparam logic [7:0] Err{_camel(e.name)} = 8'd{e.value};" for e in ErrorCode] + [""]
    out += [f"  localparam logic [7:0] Reg{_camel(name)} = 8'h{address:02X};" for name, address, _, _ in REGISTERS] + [
        ""
    ]
    out += [_sv_struct("cmd_t", COMMAND_FIELDS), _sv_struct("tap_t", TAP_FIELDS)]
    out.append("endpackage")
    return "\n".join(out) + "\n"


def markdown() -> str:
    """The text of docs/spec/commands.md; a test fails when the committed file drifts from it."""
    out = ["# Commands and registers (generated from `bitloom/program/commands.py`)", ""]
    out += [f"A command is {HEADER_BEATS} header beats of {BEAT_BITS} bits, then one beat per tap.", ""]
    out += ["## Opcodes", "", "| opcode | value |", "|---|---|"] + [f"| {o.name} | 0x{o.value:02X} |" for o in Opcode]
    out += ["", "## Error codes", "", "| error | value |", "|---|---|"]
    out += [f"| {e.name} | {e.value} |" for e in ErrorCode]
    for title, fields in (("Header", COMMAND_FIELDS), ("Tap", TAP_FIELDS)):
        out += ["", f"## {title} fields", "", "| bits | field | type | meaning |", "|---|---|---|---|"]
        at = 0
        for f in fields:
            out.append(f"| {at + f.width - 1}:{at} | `{f.name}` | {'s' if f.signed else 'u'}{f.width} | {f.doc} |")
            at += f.width
    out += ["", "## Registers (AXI4-Lite)", "", "| address | register | access | meaning |", "|---|---|---|---|"]
    out += [f"| 0x{a:02X} | {n} | {acc} | {doc} |" for n, a, acc, doc in REGISTERS]
    return "\n".join(out) + "\n"
