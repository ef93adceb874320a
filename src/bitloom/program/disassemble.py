"""A program as text: one paragraph per command, layers by name, rows and chunks of what is read and written."""

from __future__ import annotations

from collections.abc import Iterator

from bitloom.numerics.requantize import FRACTION_BITS, SHIFTS
from bitloom.program.commands import BEAT_BYTES, Base, Command, Opcode, decode
from bitloom.program.container import Program
from bitloom.program.inputs import FoldSpec, InputSpec


def disassemble(program: Program, taps: bool = False) -> str:
    """The text of a program; taps: also one line for every tap."""
    arch = program.arch
    lines = [
        f"program {program.name} for {arch.name}: P={arch.pixels} C={arch.channels} M={arch.vector} "
        f"T={arch.acc_groups}, hash {arch.hash:08x}",
        f"  graph   {program.graph_hash[:16]}",
        f"  input   {_input(program.input_spec)}",
        f"  output  {program.output_spec.shape} in {program.output_spec.bytes} bytes",
        f"  streams {len(program.commands)} bytes of commands, "
        + " + ".join(str(len(w)) for w in program.weights)
        + " bytes of weights",
        "",
    ]
    tensors = {t.command: t for t in program.trace}
    at = 0
    for index, command in enumerate(decode(program.commands)):
        layer = program.layers[command.fields["layer"]]
        lines.append(
            f"{index:4d} @{at * BEAT_BYTES:06x} {Opcode(command.fields['opcode']).name:7s} {_summary(command, layer)}"
        )
        if index in tensors:
            entry = tensors[index]
            end = entry.first_row + entry.n_rows - 1
            lines.append(f"         makes {entry.tensor} rows {entry.first_row}..{end}")
        lines += [f"         {text}" for text in _details(command)]
        if taps:
            lines += [f"         tap {i}: {_tap(t, arch.pixels)}" for i, t in enumerate(command.taps)]
        at += command.beats
    return "\n".join(lines) + "\n"


def _input(spec: InputSpec) -> str:
    if isinstance(spec, FoldSpec):
        return (
            f"{spec.shape} folded: {spec.rows}x{spec.pitch} units of {spec.step}x{spec.step} pixels in "
            f"{spec.unit_bytes} bytes, {spec.window} a word, border {spec.top} above and {spec.left} left, "
            f"{spec.bytes} bytes"
        )
    return f"{spec.shape} as {spec.chunks} chunks of {spec.words} words, {spec.bytes} bytes"


def _summary(command: Command, layer: str) -> str:
    f = command.fields
    match Opcode(f["opcode"]):
        case Opcode.BEGIN:
            return f"architecture {f['arch_hash']:08x}"
        case Opcode.END:
            return ""
        case Opcode.WEIGHTS:
            return f"port {f['port']}: {f['beats']} beats from {_ddr(f)}"
        case Opcode.LOAD:
            how = "linear" if f["dma_linear"] else f"{1 << f['units_log2']} units a beat, {f['window']} a word"
            return f"{layer}: {f['dma_chunks']} x {f['beats']} beats from {_ddr(f)}, {how}"
        case Opcode.STORE:
            return f"{layer}: {f['dma_chunks']} x {f['beats']} words to {_ddr(f)}"
        case Opcode.CONV:
            return f"{layer}: {len(command.taps)} taps x {f['in_chunks']} chunks, {f['n_vectors']} vectors"
        case _:
            kind = "maximum" if f["pool_max"] else "sum"
            return f"{layer}: {kind} of {len(command.taps)} taps, {f['in_chunks']} chunks"


def _details(command: Command) -> Iterator[str]:
    f = command.fields
    opcode = Opcode(f["opcode"])
    if opcode is Opcode.LOAD:
        yield f"writes row {f['out_base']}, {f['out_chunk_rows']} rows a chunk"
    if opcode is Opcode.STORE:
        yield f"reads row {f['in_base']}, {f['in_chunk_rows']} rows a chunk"
    if opcode not in (Opcode.CONV, Opcode.POOL):
        return
    yield (
        f"grid {f['out_h']} x {f['out_w']} of {f['grid_w']}: {f['n_groups']} groups in {f['n_tiles']} tiles of "
        f"{f['tile_groups']} (last {f['last_tile_groups']})"
    )
    yield f"reads row {f['in_base']}, {f['in_chunk_rows']} rows a chunk, {f['pad_code']} outside"
    layout = _layout(f, "out")
    yield f"writes row {f['out_base']}, {f['out_chunks']} chunks of {f['out_chunk_rows']} rows, {layout}"
    if f["residual"]:
        scale, port = f["res_mult"] / (1 << FRACTION_BITS), "A" if f["res_side"] else "B"
        layout = _layout(f, "res")
        yield f"adds row {f['res_base']}, {f['res_chunk_rows']} rows a chunk, {layout}, port {port}, times {scale:.6g}"
    if opcode is Opcode.POOL:
        shift = SHIFTS[f["pool_s_sel"]] + 4 * f["pool_pre"] + FRACTION_BITS
        yield f"adds {f['pool_bias']}, times {f['pool_mult']} >> {shift}"
    yield f"adds {f['post'] / (1 << FRACTION_BITS):.6g}, clamps to {f['clamp_lo']}..{f['clamp_hi']}"
    if f["wait_dma"]:
        yield "waits for LOAD and STORE"
    if f["load_first"]:
        yield f"tile t waits for {f['load_first']} + {f['load_step']} t words of LOAD"


def _layout(f: dict[str, int], which: str) -> str:
    pitch, phase = f[f"{which}_pitch"], f[f"{which}_phase_pixels"]
    layout = f"split, pitch {pitch}, phase {phase}" if f[f"{which}_split"] else f"pitch {pitch}"
    return layout + (f", from row y = {f[f'{which}_y0']}" if f[f"{which}_y0"] else "")


def _tap(tap: dict[str, int], pixels: int) -> str:
    offset = tap["row_off"] * pixels + tap["bank_off"]
    return f"offset {offset:+d} inside y {tap['y_lo']}..{tap['y_hi'] - 1}, x {tap['x_lo']}..{tap['x_hi'] - 1}"


def _ddr(f: dict[str, int]) -> str:
    return f"{Base(f['ddr_sel']).name} + {f['ddr_offset']:#x}"
