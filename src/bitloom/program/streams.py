"""Reads weight streams back: blocks to lanes, lanes to vectors; written from docs/spec/streams.md, not `weights.py`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import Int8Array
from bitloom.program.regions import IntArray, Uint8Array
from bitloom.target.arch import ArchConfig


@dataclass(frozen=True, eq=False)
class VectorWeights:
    """One vector: weight codes int8 (M, steps, C) and header fields, each of length M."""

    weight: Int8Array
    bias: IntArray
    mult: IntArray
    s_sel: IntArray
    pre: IntArray
    bits: IntArray


def lane_bits(stream: bytes, lanes: int) -> list[Uint8Array]:
    """The bits of every lane of a port: blocks of a tag beat and up to 128/TAG_W data beats."""
    beats = np.frombuffer(stream, dtype=np.uint8).reshape(-1, 16)
    clog2 = next(n for n in range(9) if 1 << n >= lanes)
    tag_width = next(w for w in (1, 2, 4, 8) if w >= clog2)
    per_block = 128 // tag_width
    found: list[list[Uint8Array]] = [[] for _ in range(lanes)]
    for start in range(0, len(beats), per_block + 1):
        tags = np.unpackbits(beats[start], bitorder="little").reshape(per_block, tag_width)
        values = (tags.astype(np.int64) << np.arange(tag_width)).sum(axis=1)
        for tag, beat in zip(values, beats[start + 1 : start + 1 + per_block], strict=False):
            if tag >= lanes:
                raise ProgramError(f"weight stream: tag {tag} names no lane; the port has {lanes}")
            found[int(tag)].append(beat)
    return [np.unpackbits(np.concatenate(b), bitorder="little") if b else np.zeros(0, dtype=np.uint8) for b in found]


class LaneReader:
    """The lanes of all ports, each with its own read position in words of C bits."""

    def __init__(self, arch: ArchConfig, ports: list[bytes]) -> None:
        self.arch = arch
        per_port = arch.vector // arch.weight_ports
        self._bits = [bits for port in ports for bits in lane_bits(port, per_port)]
        self._at = [0] * arch.vector

    def _words(self, lane: int, count: int) -> Uint8Array:
        """The next words, (count, C) bits."""
        c, at = self.arch.channels, self._at[lane]
        bits = self._bits[lane][at : at + count * c]
        if len(bits) < count * c:
            raise ProgramError(f"weight stream: lane {lane} ends after {len(self._bits[lane]) // c} words")
        self._at[lane] += count * c
        return bits.reshape(count, c)

    def vector(self, steps: int) -> VectorWeights:
        """Headers and weights of the next vector of `steps` (tap, chunk) steps."""
        arch = self.arch
        head = max(1, 64 // arch.channels)
        raw = np.stack([self._words(lane, head).ravel()[:64] for lane in range(arch.vector)]).astype(np.int64)

        def unsigned(low: int, width: int) -> IntArray:
            return np.asarray((raw[:, low : low + width] << np.arange(width)).sum(axis=1), dtype=np.int64)

        bits = unsigned(52, 4)
        two_pass = bool((bits >= 6).any())
        weight = np.zeros((arch.vector, steps, arch.channels), dtype=np.int8)
        for lane in range(arch.vector):
            if bits[lane]:
                weight[lane] = self._lane_weights(lane, int(bits[lane]), steps, two_pass)
        bias = unsigned(0, 32)
        bias = np.where(bias >> 31 & 1, bias - (1 << 32), bias)
        mult = unsigned(32, 17) - (unsigned(56, 1) << 17)
        return VectorWeights(weight, bias, mult, unsigned(49, 2), unsigned(51, 1), bits)

    def _lane_weights(self, lane: int, bits: int, steps: int, two_pass: bool) -> Int8Array:
        if bits > 8:
            raise ProgramError(f"weight stream: lane {lane} has {bits} bits; legal: 0..8")
        planes = self._words(lane, steps * bits).reshape(steps, bits, -1).astype(np.int64)
        if bits == 1:
            value = 1 - 2 * planes[:, 0]
        elif two_pass and bits >= 6:
            value = 16 * _digit(planes[:, : bits - 4], True) + _digit(planes[:, bits - 4 :], False)
        else:
            value = _digit(planes, True)
            if bool((np.abs(value) > 15).any()):
                raise ProgramError(f"weight stream: lane {lane} holds a digit outside -15..15")
        return np.asarray(value, dtype=np.int8)

    def leftover(self) -> int:
        """Most bits that a lane has left; less than a beat once the program is over."""
        return max(len(b) - at for b, at in zip(self._bits, self._at, strict=True))


def _digit(planes: IntArray, signed: bool) -> IntArray:
    """(steps, planes, C) bits, MSB first -> (steps, C)."""
    count = planes.shape[1]
    weight = 1 << np.arange(count - 1, -1, -1)
    if signed:
        weight[0] = -weight[0]
    return np.asarray((planes * weight[None, :, None]).sum(axis=1), dtype=np.int64)
