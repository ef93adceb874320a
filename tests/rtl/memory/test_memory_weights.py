"""bl_weights end to end: a stream packed here, independently of bitloom.program, comes out as the weights it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cpp_bench import HERE, CppBench

from bitloom.quantize.code_range import highest, lowest


@dataclass(frozen=True)
class Shape:
    """Sizes of one build."""

    channels: int
    vector: int
    ports: int
    ring: int
    latency: int

    def bench(self) -> CppBench:
        sizes = {"C": self.channels, "M": self.vector, "WP": self.ports}
        return CppBench(
            "bl_weights",
            HERE / "bench_weights.cpp",
            params={**sizes, "RingWords": self.ring, "WeightLatency": self.latency},
            defines={**sizes, "LATENCY": self.latency},
        )


SHAPES = [Shape(8, 16, 2, 256, 3), Shape(32, 32, 1, 128, 4), Shape(4, 4, 4, 128, 5), Shape(128, 8, 2, 64, 3)]
WIDTHS = [[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5], [0], [8], [1, 2]]


@dataclass(frozen=True)
class Vector:
    """One vector of M channels: widths (M,), weights (steps, M, C), header words (M,) of 64 bits, tiles."""

    bits: np.ndarray
    weight: np.ndarray
    header: np.ndarray
    tiles: int

    @property
    def two_pass(self) -> bool:
        return bool((self.bits >= 6).any())

    def digits(self) -> np.ndarray:
        """(steps·passes, M, C): hi then lo of a two-pass vector."""
        wide = (self.bits >= 6)[None, :, None]
        if not self.two_pass:
            return self.weight
        pair = np.stack([np.where(wide, self.weight >> 4, 0), np.where(wide, self.weight & 15, self.weight)], axis=1)
        return pair.reshape(-1, *self.weight.shape[1:])

    def planes(self, high: bool) -> np.ndarray:
        """(M,) planes of a pass."""
        wide = self.bits >= 6
        return np.where(wide, self.bits - 4, 0) if high else np.where(wide, 4, self.bits)


def random_vector(rng: np.random.Generator, shape: Shape, widths: list[int], steps: int, tiles: int) -> Vector:
    bits = rng.choice(widths, shape.vector)
    if rng.random() < 0.3:
        bits[rng.integers(0, shape.vector) :] = 0  # unused lanes
    limit = np.array([highest(int(b)) for b in bits])
    least = np.array([lowest(int(b)) for b in bits])
    weight = rng.integers(least[:, None], limit[:, None] + 1, (steps, shape.vector, shape.channels))
    weight = np.where((bits == 1)[:, None] & (weight == 0), 1, weight)
    low = rng.integers(0, 1 << 52, shape.vector, dtype=np.uint64)
    return Vector(bits, weight, low | bits.astype(np.uint64) << np.uint64(52), tiles)


def lane_words(vector: Vector, lane: int, channels: int) -> tuple[list[int], list[int]]:
    """The lane's C-bit words of a vector, and the step at which each is needed (-1: header)."""
    count = max(1, 64 // channels)
    mask = (1 << channels) - 1
    words = [int(vector.header[lane]) >> (i * channels) & mask for i in range(count)]
    need = [-1] * count
    passes = 2 if vector.two_pass else 1
    for index, digit in enumerate(vector.digits()[:, lane]):
        high = passes == 2 and index % 2 == 0
        for plane in reversed(range(int(vector.planes(high)[lane]))):
            words.append(
                sum(((int(d) >> max(plane, int(vector.bits[lane] == 1))) & 1) << i for i, d in enumerate(digit))
            )
            need.append(index // passes)
    return words, need


def port_streams(vectors: list[Vector], shape: Shape) -> list[bytes]:
    """docs/spec/streams.md, "Weight stream"."""
    per_beat, lanes = 128 // shape.channels, shape.vector // shape.ports
    streams = []
    for port in range(shape.ports):
        beats: list[tuple[int, int, int, bytes]] = []
        for lane in range(lanes):
            words: list[int] = []
            when: list[tuple[int, int]] = []
            for v, vector in enumerate(vectors):
                more, need = lane_words(vector, port * lanes + lane, shape.channels)
                words += more
                when += [(v, step) for step in need]
            words += [0] * (-len(words) % per_beat)
            for at in range(0, len(words), per_beat):
                value = sum(word << (i * shape.channels) for i, word in enumerate(words[at : at + per_beat]))
                beats.append((*when[at], lane, value.to_bytes(16, "little")))
        beats.sort(key=lambda beat: beat[:3])
        tag_bits = 1
        while tag_bits < max(1, (lanes - 1).bit_length()):
            tag_bits *= 2
        out = b""
        for at in range(0, len(beats), 128 // tag_bits):
            block = beats[at : at + 128 // tag_bits]
            out += sum(beat[2] << (i * tag_bits) for i, beat in enumerate(block)).to_bytes(16, "little")
            out += b"".join(beat[3] for beat in block)
        streams.append(out)
    return streams


def write_case(folder: Path, vectors: list[Vector], shape: Shape) -> None:
    for port, stream in enumerate(port_streams(vectors, shape)):
        (folder / f"port{port}.bin").write_bytes(stream)
    info = [
        [len(v.weight), v.tiles, 1 + v.two_pass, int(v.planes(False).max()), int(v.planes(True).max())] for v in vectors
    ]
    np.array(info, np.uint32).tofile(folder / "vectors.bin")
    np.stack([v.header for v in vectors]).astype(np.uint64).tofile(folder / "headers.bin")
    np.concatenate([v.digits().astype(np.int8).ravel() for v in vectors]).tofile(folder / "digits.bin")


def longest(shape: Shape) -> int:
    """Steps whose words, header and two beats fit into the ring at eight planes a step."""
    return (shape.ring - max(1, 64 // shape.channels) - 2 * (128 // shape.channels)) // 8


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"C{s.channels}M{s.vector}WP{s.ports}L{s.latency}")
@pytest.mark.parametrize("seed", [1, 2])
def test_every_digit_of_random_vectors(tmp_path: Path, shape: Shape, seed: int) -> None:
    """Widths 0..8 mixed, one to four tiles, random AXI stalls and gaps between steps; rings run full and wrap."""
    rng = np.random.default_rng([seed, shape.channels])
    vectors = []
    for _ in range(40 if shape.channels < 32 else 14):
        widths = WIDTHS[rng.choice(len(WIDTHS), p=[0.5, 0.3, 0.05, 0.1, 0.05])]
        steps = int(rng.integers(1, longest(shape) + 1)) if rng.random() < 0.3 else int(rng.integers(1, 5))
        vectors.append(random_vector(rng, shape, widths, min(steps, longest(shape)), int(rng.integers(1, 5))))
    write_case(tmp_path, vectors, shape)
    assert shape.bench().run(tmp_path, seed, 25, 30 * seed - 10, 0)["steps"] > 60


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"C{s.channels}M{s.vector}WP{s.ports}L{s.latency}")
def test_steps_follow_without_a_bubble(tmp_path: Path, shape: Shape) -> None:
    """A step of b planes takes max(b, 1) cycles when its words are in the ring, inside a tile and from tile to tile."""
    rng = np.random.default_rng(5)
    count = max(1, min(longest(shape), 6))
    for at, widths in enumerate([[0], [1], [2], [2, 3, 4, 5], [0, 2, 5, 8], [6, 7, 8]]):
        folder = tmp_path / str(at)
        folder.mkdir()
        write_case(folder, [random_vector(rng, shape, widths, count, 3)], shape)
        got = shape.bench().run(folder, 1, 10, 0, 1)
        assert got["steps"] >= 3 * count
        assert got["waited_ddr"] == 0


def test_next_header_is_read_ahead(tmp_path: Path) -> None:
    """Between vectors the array waits at most for the header's way through the memory."""
    shape = SHAPES[0]
    rng = np.random.default_rng(6)
    write_case(tmp_path, [random_vector(rng, shape, [2, 3], 3, 2) for _ in range(4)], shape)
    got = shape.bench().run(tmp_path, 1, 10, 0, 1)
    assert got["between_vectors"] <= 64 // shape.channels + shape.latency + 6
