"""The golden machine: runs command and weight streams as the specification reads, bit for bit, without timing.

It decodes bytes, never the plan, so that it proves plan, lowering and packing against the reference interpreter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import Int8Array
from bitloom.numerics.fixed import clamp, rshift
from bitloom.numerics.requantize import FRACTION_BITS, SHIFTS
from bitloom.program.commands import Base, Command, Opcode, decode
from bitloom.program.container import Program
from bitloom.program.regions import IntArray, Uint8Array, half_rows
from bitloom.program.streams import LaneReader
from bitloom.target.arch import ArchConfig

#: Called after every command with its index, the command and the activation memory, uint8 [P, act_rows, C].
Watcher = Callable[[int, Command, Uint8Array], None]
_EXACT_CHANNELS = 1024  #: input channels of one float32 product: 1024 * 127 * 127 < 2^24
_OUTSIDE = -(1 << 40)


def run_machine(program: Program, image: bytes, watch: Watcher | None = None, fill: int = 0) -> bytes:
    """The bytes behind the OUTPUT base after a run on the bytes of one image.

    fill: the byte that memory holds at power-up; results do not depend on it. Raises ProgramError where the hardware
    would stop with an error or read what it should not.
    """
    machine = Machine(program.arch, program.image(), image, program.output_spec.bytes, program.scratch_bytes, fill)
    for index, command in enumerate(decode(program.commands)):
        machine.execute(command)
        if watch is not None:
            watch(index, command, machine.memory)
    return bytes(machine.ddr[Base.OUTPUT])


@dataclass(frozen=True, eq=False)
class _Grid:
    """The positions of a command that are written: n, oy, ox."""

    n: IntArray
    oy: IntArray
    ox: IntArray


def _positions(f: dict[str, int], which: str, grid: _Grid) -> IntArray:
    """Flat positions of the grid's pixels in the output ("out") or residual ("res") layout."""
    y, x = grid.oy + f[f"{which}_y0"], grid.ox
    pitch = f[f"{which}_pitch"]
    if not f[f"{which}_split"]:
        return np.asarray(y * pitch + x)
    return np.asarray((2 * (y & 1) + (x & 1)) * f[f"{which}_phase_pixels"] + (y >> 1) * pitch + (x >> 1))


class Machine:
    """State of one run: DDR by base, activation memory, lanes, and the words that a LOAD may still be writing."""

    def __init__(self, arch: ArchConfig, image: bytes, data: bytes, out_bytes: int, scratch: int, fill: int) -> None:
        self.arch = arch
        self.ddr: dict[Base, bytearray] = {
            Base.PROGRAM: bytearray(image),
            Base.INPUT: bytearray(data),
            Base.OUTPUT: bytearray(out_bytes),
            Base.SCRATCH: bytearray(scratch),
        }
        self.memory: Uint8Array = np.full((arch.pixels, arch.act_rows, arch.channels), fill, dtype=np.uint8)
        self._order = np.zeros((arch.pixels, arch.act_rows), dtype=np.int64)  # when the LOAD in flight writes a word
        self._loaded = 0
        self._started = False
        self._ports: dict[int, bytes] = {}
        self._lanes: LaneReader | None = None

    def execute(self, command: Command) -> None:
        """One command."""
        f = command.fields
        opcode = Opcode(f["opcode"])
        if not self._started and opcode is not Opcode.BEGIN:
            raise ProgramError(f"the first command is {opcode.name}, must be BEGIN")
        if opcode is Opcode.BEGIN:
            if f["arch_hash"] != self.arch.hash:
                raise ProgramError(f"program for architecture {f['arch_hash']:08x}, machine is {self.arch.hash:08x}")
            self._started = True
        elif opcode is Opcode.WEIGHTS:
            self._ports[f["port"]] = self._ddr_bytes(f, f["beats"] * 16)
        elif opcode is Opcode.LOAD:
            self._load(f)
        elif opcode is Opcode.STORE:
            self._store(f)
        elif opcode in (Opcode.CONV, Opcode.POOL):
            if f["wait_dma"]:
                self._order[:] = 0
            self._engine(command)
        elif self._lanes is not None and self._lanes.leftover() >= 128:
            raise ProgramError("END, but the weight streams hold words that nobody has read")

    # ---- DDR ----

    def _ddr_bytes(self, f: dict[str, int], size: int) -> bytes:
        base = Base(f["ddr_sel"])
        data = bytes(self.ddr[base][f["ddr_offset"] : f["ddr_offset"] + size])
        if f["ddr_offset"] % 16 or len(data) < size:
            raise ProgramError(
                f"{base.name}: {size} bytes at {f['ddr_offset']} are not aligned or not inside its "
                f"{len(self.ddr[base])} bytes"
            )
        return data

    def _rows(self, base: int, chunk: int, chunk_rows: int, flat: IntArray) -> IntArray:
        return np.asarray(base + chunk * chunk_rows + flat // self.arch.pixels)

    def _load(self, f: dict[str, int]) -> None:
        arch, per_chunk = self.arch, f["beats"] * 16
        data = np.frombuffer(self._ddr_bytes(f, per_chunk * f["dma_chunks"]), dtype=np.uint8)
        self._order[:] = 0
        self._loaded = 0
        for chunk in range(f["dma_chunks"]):
            part = data[chunk * per_chunk : (chunk + 1) * per_chunk]
            if f["dma_linear"]:
                words = part.reshape(-1, arch.channels)
            else:
                units = part.reshape(-1, 16 >> f["units_log2"])
                count = len(units) - f["window"] + 1
                words = np.zeros((count, arch.channels), dtype=np.uint8)
                size = units.shape[1]
                for i in range(f["window"]):
                    words[:, i * size : (i + 1) * size] = units[i : i + count]
            flat = f["dma_pixel"] + np.arange(len(words))
            rows = self._rows(f["out_base"], chunk, f["out_chunk_rows"], flat)
            self._check_rows(rows, "LOAD")
            self.memory[flat % arch.pixels, rows] = words
            self._order[flat % arch.pixels, rows] = self._loaded + 1 + np.arange(len(words))
            self._loaded += len(words)

    def _store(self, f: dict[str, int]) -> None:
        self._order[:] = 0
        flat = f["dma_pixel"] + np.arange(f["beats"])
        parts = []
        for chunk in range(f["dma_chunks"]):
            rows = self._rows(f["in_base"], chunk, f["in_chunk_rows"], flat)
            self._check_rows(rows, "STORE")
            parts.append(self.memory[flat % self.arch.pixels, rows].tobytes())
        data = b"".join(parts)
        self._ddr_bytes(f, len(data))
        self.ddr[Base(f["ddr_sel"])][f["ddr_offset"] : f["ddr_offset"] + len(data)] = data

    def _check_rows(self, rows: IntArray, what: str) -> None:
        if rows.size and (rows.min() < 0 or rows.max() >= self.arch.act_rows):
            raise ProgramError(f"{what}: rows {rows.min()}..{rows.max()}, but the memory has {self.arch.act_rows}")

    # ---- CONV and POOL ----

    def _engine(self, command: Command) -> None:
        f, arch = command.fields, self.arch
        is_conv = f["opcode"] == Opcode.CONV
        self._check_tiles(f, is_conv)
        n = np.arange(f["n_groups"] * arch.pixels)
        oy, ox = n // f["grid_w"], n % f["grid_w"]
        written = (oy < f["out_h"]) & (ox < f["out_w"])
        grid = _Grid(n[written], oy[written], ox[written])
        self._check_progress(command, grid)
        if is_conv:
            self._conv(command, grid)
        else:
            self._pool(command, grid)

    def _check_tiles(self, f: dict[str, int], is_conv: bool) -> None:
        p, t = self.arch.pixels, self.arch.acc_groups
        ok = f["adv_y"] == p // f["grid_w"] and f["adv_x"] == p % f["grid_w"]
        ok = ok and f["image_rows"] > 0 and f["adv_image"] == f["adv_y"] % f["image_rows"]
        ok = ok and f["n_groups"] == -(-f["out_h"] * f["grid_w"] // p) and f["out_w"] <= f["grid_w"]
        if is_conv:
            groups = (f["n_tiles"] - 1) * f["tile_groups"] + f["last_tile_groups"]
            ok = ok and 1 <= f["last_tile_groups"] <= f["tile_groups"] <= t and groups == f["n_groups"]
        if not ok:
            raise ProgramError(f"layer {f['layer']}: grid or tiles contradict each other: {f}")

    def _tap_words(self, f: dict[str, int], tap: dict[str, int], grid: _Grid) -> tuple[npt.NDArray[np.bool_], IntArray]:
        """(mask of positions inside, flat input positions with 0 outside)."""
        y = grid.oy % f["image_rows"]
        inside = (y >= tap["y_lo"]) & (y < tap["y_hi"]) & (grid.ox >= tap["x_lo"]) & (grid.ox < tap["x_hi"])
        flat = grid.n + tap["row_off"] * self.arch.pixels + tap["bank_off"]
        return inside, np.where(inside, flat, 0)

    def _check_progress(self, command: Command, grid: _Grid) -> None:
        """No word is read before LOAD has written it."""
        f = command.fields
        if not self._order.any():
            return
        per_tile = f["tile_groups"] * self.arch.pixels
        tile = grid.n // per_tile if f["opcode"] == Opcode.CONV else np.zeros_like(grid.n)
        allowed = f["load_first"] + tile * f["load_step"]
        if allowed.max(initial=0) > self._loaded:
            raise ProgramError(f"layer {f['layer']}: waits for {allowed.max()} words, but LOAD writes {self._loaded}")
        for tap in command.taps:
            inside, flat = self._tap_words(f, tap, grid)
            for chunk in range(f["in_chunks"]):
                rows = self._rows(f["in_base"], chunk, f["in_chunk_rows"], flat)
                order = np.where(inside, self._order[flat % self.arch.pixels, rows], 0)
                if bool((order > allowed).any()):
                    raise ProgramError(f"layer {f['layer']}: reads word {order.max()} of LOAD before it is written")

    def _check_residual(
        self, f: dict[str, int], grid: _Grid, bank: IntArray, res_bank: IntArray, rows: IntArray
    ) -> None:
        """Lanes that are written together read distinct banks; res_side tells the halves of the memory truly."""
        name = f"layer {f['layer']}"
        self._check_rows(rows, name)
        group = grid.n // self.arch.pixels
        order = np.lexsort((grid.n, bank, group))
        same = (np.diff(group[order]) == 0) & (np.diff(bank[order]) == 0)
        index = np.arange(len(order))
        first = np.maximum.accumulate(np.where(np.concatenate([[True], ~same]), index, 0))
        key = np.stack([group[order], index - first, res_bank[order]])  # group, round, residual bank
        if np.unique(key, axis=1).shape[1] != key.shape[1]:
            raise ProgramError(f"{name}: lanes of one round read the same bank of the residual")
        half = half_rows(self.arch.act_rows)
        read = f["in_base"] + np.array([0, f["in_chunks"] * f["in_chunk_rows"] - 1])
        if f["res_side"] and len({*(rows >= half).tolist()} | {*(read >= half).tolist()}) != 2:
            raise ProgramError(f"{name}: res_side is set, but the residual lies in the half of the input")

    def _gather(self, f: dict[str, int], tap: dict[str, int], grid: _Grid, chunk: int, count: int) -> Int8Array:
        """Codes (positions, count * C) of chunks chunk .. chunk+count-1 under a tap."""
        p = self.arch.pixels
        inside, flat = self._tap_words(f, tap, grid)
        chunks = chunk + np.arange(count)[None, :]
        rows = f["in_base"] + chunks * f["in_chunk_rows"] + flat[:, None] // p
        self._check_rows(rows[inside], f"layer {f['layer']}")
        rows = np.where(inside[:, None], rows, 0)
        words = self.memory[(flat % p)[:, None], rows].view(np.int8).reshape(len(flat), -1)
        return np.where(inside[:, None], words, np.int8(f["pad_code"]))

    def _conv(self, command: Command, grid: _Grid) -> None:
        f, arch = command.fields, self.arch
        if self._lanes is None:
            ports = [self._ports.get(p, b"") for p in range(arch.weight_ports)]
            self._lanes = LaneReader(arch, ports)
        steps = len(command.taps) * f["in_chunks"]
        vectors = [self._lanes.vector(steps) for _ in range(f["n_vectors"])]
        weight = np.concatenate([v.weight for v in vectors])
        weight = weight.reshape(len(weight), len(command.taps), f["in_chunks"] * arch.channels)
        acc = np.zeros((len(grid.n), weight.shape[0]), dtype=np.int64)
        per = max(1, _EXACT_CHANNELS // arch.channels)
        for index, tap in enumerate(command.taps):
            for chunk in range(0, f["in_chunks"], per):
                count = min(per, f["in_chunks"] - chunk)
                act = self._gather(f, tap, grid, chunk, count).astype(np.float32)
                part = weight[:, index, chunk * arch.channels : (chunk + count) * arch.channels].astype(np.float32)
                acc += (act @ part.T).astype(np.int64)
        acc += np.concatenate([v.bias for v in vectors])
        mult = np.concatenate([v.mult for v in vectors])
        s_sel = np.concatenate([v.s_sel for v in vectors])
        pre = np.concatenate([v.pre for v in vectors])
        per_vector = arch.vector // arch.channels
        for chunk in range(min(f["out_chunks"], f["n_vectors"] * per_vector)):
            part_of = slice(chunk * arch.channels, (chunk + 1) * arch.channels)
            self._write(f, grid, chunk, acc[:, part_of], mult[part_of], s_sel[part_of], pre[part_of])

    def _pool(self, command: Command, grid: _Grid) -> None:
        f = command.fields
        for chunk in range(f["in_chunks"]):
            acc: IntArray | None = None
            for tap in command.taps:
                act = self._gather(f, tap, grid, chunk, 1).astype(np.int64)
                if f["pool_max"]:
                    inside, _ = self._tap_words(f, tap, grid)
                    act = np.where(inside[:, None], act, _OUTSIDE)
                    acc = act if acc is None else np.maximum(acc, act)
                else:
                    acc = act if acc is None else acc + act
            assert acc is not None
            one = np.ones(1, dtype=np.int64)
            self._write(
                f, grid, chunk, acc + f["pool_bias"], one * f["pool_mult"], one * f["pool_s_sel"], one * f["pool_pre"]
            )

    def _write(
        self, f: dict[str, int], grid: _Grid, chunk: int, acc: IntArray, mult: IntArray, s_sel: IntArray, pre: IntArray
    ) -> None:
        """Requantizes (positions, C) accumulators and writes the words of output chunk `chunk`."""
        p = self.arch.pixels
        flat = _positions(f, "out", grid)
        bank = flat % p
        rows = self._rows(f["out_base"], chunk, f["out_chunk_rows"], flat)
        self._check_rows(rows, f"layer {f['layer']}")
        if bool(self._order[bank, rows].any()):
            raise ProgramError(f"layer {f['layer']}: writes words that a LOAD under way writes")
        total = rshift((acc >> (4 * pre)) * mult, np.asarray(SHIFTS)[s_sel]) + f["post"]
        if f["residual"]:
            where = _positions(f, "res", grid)
            res_rows = self._rows(f["res_base"], chunk, f["res_chunk_rows"], where)
            self._check_residual(f, grid, bank, where % p, res_rows)
            if bool(self._order[where % p, res_rows].any()):
                raise ProgramError(f"layer {f['layer']}: adds words that a LOAD under way writes")
            words = self.memory[where % p, res_rows]
            total = total + words.view(np.int8).astype(np.int64) * f["res_mult"]
        code = clamp(rshift(total, FRACTION_BITS), f["clamp_lo"], f["clamp_hi"])
        self.memory[bank, rows] = code.astype(np.int8).view(np.uint8)
