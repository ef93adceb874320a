"""bl_dma: LOAD and STORE of random shapes against a naive reading of docs/spec/streams.md, "Input image"."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cpp_bench import HERE, CppBench

from bitloom.program.commands import Command, Opcode

ROWS, DDR = 1024, 1 << 17
SHAPES = [(2, 8), (6, 32), (4, 16), (2, 4), (6, 64)]


class Dma:
    """One build, the memories before, and the memories that a list of commands must leave."""

    def __init__(self, shape: tuple[int, int], seed: int) -> None:
        self.banks, self.width = shape
        self.rng = np.random.default_rng([seed, *shape])
        self.ddr = self.rng.integers(0, 256, DDR, np.uint8)
        self.act = self.rng.integers(0, 256, (self.banks, ROWS, self.width), np.uint8)
        self.ddr_first, self.act_first = self.ddr.copy(), self.act.copy()
        self.stream = b""
        self.beats_read = self.beats_written = self.last_words = 0

    def _add(self, fields: dict[str, int], address: int) -> None:
        self.stream += Command(fields).encode() + address.to_bytes(8, "little")

    def _place(self, fields: dict[str, int], base: str, rows: str, chunk: int, word: int) -> tuple[int, int]:
        position = fields["dma_pixel"] + word
        return position % self.banks, fields[base] + chunk * fields[rows] + position // self.banks

    def load(self, beats: int, chunks: int, linear: bool, units_log2: int, window: int, address: int) -> None:
        unit = 16 >> units_log2
        words = beats * 16 // self.width if linear else max(0, (beats << units_log2) - window + 1)
        rows = words // self.banks + 2
        base = int(self.rng.integers(0, ROWS - rows * chunks + 1))
        fields = {
            "opcode": Opcode.LOAD, "beats": beats, "dma_chunks": chunks, "dma_linear": int(linear),
            "dma_pixel": int(self.rng.integers(0, self.banks)), "units_log2": units_log2, "window": window,
            "out_base": base, "out_chunk_rows": rows,
        }  # fmt: skip
        self._add(fields, address)
        for chunk in range(chunks):
            data = self.ddr[address + chunk * beats * 16 :][: beats * 16]
            for word in range(words):
                bank, row = self._place(fields, "out_base", "out_chunk_rows", chunk, word)
                if linear:
                    self.act[bank, row] = data[word * self.width :][: self.width]
                else:
                    self.act[bank, row] = 0
                    self.act[bank, row, : window * unit] = data[word * unit :][: window * unit]
        self.beats_read += beats * chunks
        self.last_words = words * chunks

    def store(self, words: int, chunks: int, address: int) -> None:
        rows = words // self.banks + 2
        base = int(self.rng.integers(0, ROWS - rows * chunks + 1))
        fields = {
            "opcode": Opcode.STORE, "beats": words, "dma_chunks": chunks,
            "dma_pixel": int(self.rng.integers(0, self.banks)), "in_base": base, "in_chunk_rows": rows,
        }  # fmt: skip
        self._add(fields, address)
        places = (self._place(fields, "in_base", "in_chunk_rows", c, n) for c in range(chunks) for n in range(words))
        out = b"".join(self.act[place].tobytes() for place in places)
        out += bytes(-len(out) % 16)
        self.ddr[address : address + len(out)] = np.frombuffer(out, np.uint8)
        self.beats_written += len(out) // 16

    def random_command(self) -> None:
        address = 16 * int(self.rng.integers(0, 1024))
        chunks = int(self.rng.integers(1, 4))
        kind = int(self.rng.integers(0, 3))
        if kind == 0:
            self.load(int(self.rng.integers(1, 120)), chunks, True, 0, 1, address)
        elif kind == 1:
            low = {4: 2, 8: 1}.get(self.width, 0)
            units_log2 = int(self.rng.integers(low, 3))
            window = int(self.rng.integers(1, self.width // (16 >> units_log2) + 1))
            self.load(int(self.rng.integers(1, 100)), chunks, False, units_log2, window, address)
        else:
            self.store(int(self.rng.integers(1, 150)), chunks, 1 << 15 | address)

    def run(self, folder: Path, seed: int, latency: int, stall: int, mode: str = "run") -> dict[str, int]:
        (folder / "ddr.bin").write_bytes(self.ddr_first.tobytes())
        (folder / "act.bin").write_bytes(self.act_first.tobytes())
        (folder / "commands.bin").write_bytes(self.stream)
        sizes = {"P": self.banks, "C": self.width}
        bench = CppBench(
            "bl_dma", HERE / "bench_dma.cpp", params={**sizes, "ActRows": ROWS}, defines={**sizes, "ROWS": ROWS}
        )
        got = bench.run(folder, seed, latency, stall, mode)
        act = np.fromfile(folder / "act_out.bin", np.uint8).reshape(self.act.shape)
        np.testing.assert_array_equal(act, self.act)
        np.testing.assert_array_equal(np.fromfile(folder / "ddr_out.bin", np.uint8), self.ddr)
        return got


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"P{s[0]}C{s[1]}")
@pytest.mark.parametrize(("seed", "stall"), [(1, 30), (2, 0), (3, 60)])
def test_random_transfers(tmp_path: Path, shape: tuple[int, int], seed: int, stall: int) -> None:
    dma = Dma(shape, seed)
    for _ in range(25):
        dma.random_command()
    got = dma.run(tmp_path, seed, 20, stall)
    assert (got["beats_read"], got["beats_write"]) == (dma.beats_read, dma.beats_written)
    assert dma.beats_read > 300 and dma.beats_written > 100


@pytest.mark.parametrize("shape", SHAPES[:2], ids=lambda s: f"P{s[0]}C{s[1]}")
def test_flush_in_the_middle_then_exact(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Each command is aborted at a random cycle, then done whole. Sources are not touched by the aborted half."""
    dma = Dma(shape, 9)
    for i in range(12):
        if i % 2:
            dma.store(100 + i, 2, 1 << 15)
        else:
            dma.load(60 + i, 2, True, 0, 1, 160)
    dma.run(tmp_path, 9, 30, 20, "abort")


@pytest.mark.parametrize("mode", ["bad_read", "bad_write"])
def test_bad_response_is_an_error_and_the_next_run_is_exact(tmp_path: Path, mode: str) -> None:
    dma = Dma((2, 8), 4)
    for _ in range(5):
        if mode == "bad_read":
            dma.load(50, 1, True, 0, 1, 0)
        else:
            dma.store(90, 1, 1 << 15)
    dma.run(tmp_path, 4, 20, 10, mode)


def test_throughput(tmp_path: Path) -> None:
    """C = 32: one DDR beat a cycle, both ways; four-byte units: one word a cycle."""
    dma = Dma((6, 32), 3)
    dma.load(1000, 1, True, 0, 1, 0)
    dma.load(400, 1, False, 2, 3, 0)
    dma.store(500, 1, 1 << 15)
    got = dma.run(tmp_path, 1, 45, 0)
    assert got["load_count"] == 400 * 4 - 2
    assert got["cycles0"] <= 1000 + 45 + 35
    assert got["cycles1"] <= 1600 + 45 + 35
    assert got["cycles2"] <= 1000 + 45 + 65


def test_load_of_a_folded_image(tmp_path: Path) -> None:
    """The typical use: 16-byte pixels, two of them a word, row by row as one chunk; progress is counted in words."""
    dma = Dma((6, 32), 8)
    dma.load(115 * 5, 1, False, 0, 2, 4096)
    assert dma.run(tmp_path, 2, 45, 20)["load_count"] == 115 * 5 - 1 == dma.last_words
