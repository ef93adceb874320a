"""Weight streams: lane words, order of beats, ports and tags (docs/spec/streams.md, "Weight stream")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import Int8Array, QConv
from bitloom.numerics.packing import LOW_BITS, TWO_PASS_BITS
from bitloom.program.commands import BEAT_BITS, BEAT_BYTES
from bitloom.program.inputs import fold_weights
from bitloom.program.regions import IntArray, Uint8Array, slots
from bitloom.program.steps import EngineStep
from bitloom.target.arch import ArchConfig

HEADER_BITS = 64


def tag_bits(lanes: int) -> int:
    """TAG_W: the power of two >= clog2(lanes of a port), at least 1."""
    need = max(1, (lanes - 1).bit_length())
    return 1 << (need - 1).bit_length()


def header_words(channels: int) -> int:
    """Words of a lane's header."""
    return max(1, HEADER_BITS // channels)


def words_per_beat(channels: int) -> int:
    """Lane words in a beat."""
    return BEAT_BITS // channels


def ring_need(words: int, channels: int) -> int:
    """Words of a lane's ring that holds a vector of `words`: two beats more (docs/spec/streams.md)."""
    return words + 2 * words_per_beat(channels)


def larger_ring(need: int) -> str:
    """What helps where a ring has fewer words than a vector needs."""
    return f"a build with a ring of {1 << (need - 1).bit_length()} words (without --arch one is found)"


def step_weights(step: EngineStep, first: int, end: int, channels: int) -> Int8Array:
    """Weights of output channels first..end-1 as the array sees them: int8 (n, taps * chunks, C), zero where unused."""
    node = step.node
    assert isinstance(node, QConv)
    weight = node.weight[first:end]
    if step.fold is not None:
        return fold_weights(step.fold, step.window, weight, channels)
    n, cin, kh, kw = weight.shape
    out = np.zeros((n, kh * kw, step.in_chunks * channels), dtype=np.int8)
    planar = weight.reshape(n, cin, kh * kw).transpose(0, 2, 1)
    if node.groups > 1:
        read = slots(step.src_segments, channels).reshape(node.groups, cin) - step.first_chunk * channels
        group = np.arange(first, end) * node.groups // len(node.weight)
        np.put_along_axis(out, np.broadcast_to(read[group][:, None], planar.shape), planar, axis=2)
    elif len(step.src_segments) == 1:
        out[:, :, :cin] = planar
    else:
        out[:, :, slots(step.src_segments, channels)] = planar
    return out.reshape(n, -1, channels)


def vector_rows(step: EngineStep, arch: ArchConfig) -> Iterator[tuple[int, int, IntArray]]:
    """Of every vector of a command: its output channels first .. end-1, and the lane of each."""
    place = slots(step.dst.segments, arch.channels)
    for vector in range(step.first_vector, step.first_vector + step.n_vectors):
        first, end = place.searchsorted([vector * arch.vector, (vector + 1) * arch.vector])
        yield int(first), int(end), place[first:end] - vector * arch.vector


def lane_header(bias: int, mult: int, s_sel: int, pre: int, bits: int) -> int:
    """The 64 header bits of a lane."""
    return (bias & 0xFFFFFFFF) | (mult & 0x1FFFF) << 32 | s_sel << 49 | pre << 51 | bits << 52 | int(mult < 0) << 56


@dataclass
class _Lane:
    """Words so far (one row of bytes each; C = 4: one nibble a byte) and, per vector, what orders its beats."""

    words: list[Uint8Array] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    bits: list[int] = field(default_factory=list)
    count: int = 0


class WeightPacker:
    """Collects the vectors of a program in order, then cuts them into port streams."""

    def __init__(self, arch: ArchConfig) -> None:
        self.arch = arch
        self._lanes = [_Lane() for _ in range(arch.vector)]
        self._vectors = 0

    def add(self, step: EngineStep) -> None:
        """Appends all vectors of a command; ProgramError when one vector does not fit the ring of a lane."""
        node = step.node
        assert isinstance(node, QConv)
        rows = list(vector_rows(step, self.arch))
        self._check_ring(step, node, int(node.bits[rows[0][0] : rows[-1][1]].max(initial=0)))
        for first, end, lanes in rows:
            self._add_vector(step, node, first, end, lanes)

    def _check_ring(self, step: EngineStep, node: QConv, widest: int) -> None:
        """widest: bits of a channel of the command."""
        arch = self.arch
        words = header_words(arch.channels) + len(step.taps) * step.in_chunks * widest
        need = ring_need(words, arch.channels)
        if need > arch.ring_words:
            raise ProgramError(
                f"{node.name}: a lane needs {words} words for one vector ({len(step.taps)} taps x {step.in_chunks} "
                f"chunks x {widest} bits) and two beats more, {need} in all, but architecture '{arch.name}' has "
                f"ring_words = {arch.ring_words}; use fewer bits in this layer or {larger_ring(need)}"
            )

    def _add_vector(self, step: EngineStep, node: QConv, first: int, end: int, lanes: IntArray) -> None:
        arch, requant = self.arch, node.requant
        headers = np.zeros(arch.vector, dtype=np.uint64)
        widths = np.zeros(arch.vector, dtype=np.int64)
        for offset, lane in enumerate(lanes):
            c = first + offset
            headers[lane] = lane_header(
                int(node.bias[c]), int(requant.mult[c]), int(requant.s_sel[c]), int(requant.pre[c]), int(node.bits[c])
            )
            widths[lane] = int(node.bits[c])
        head = self._header_rows(headers)
        planes: dict[int, Uint8Array] = {}
        weights = step_weights(step, first, end, arch.channels)
        for bits in sorted({int(b) for b in node.bits[first:end]} - {0}):
            rows = np.flatnonzero(node.bits[first:end] == bits)
            holes = rows[~weights[rows].all(axis=(1, 2))] if bits == 1 else rows[:0]
            if len(holes):
                raise ProgramError(_binary_zero(step, node, first + int(holes[0]), arch))
            packed = _pack_planes(weights[rows], bits)
            planes.update({int(lanes[r]): packed[i] for i, r in enumerate(rows)})
        for index, lane in enumerate(self._lanes):
            lane.starts.append(lane.count)
            lane.bits.append(int(widths[index]))
            lane.words.append(head[index])
            lane.count += len(head[index])
            if index in planes:
                lane.words.append(planes[index])
                lane.count += len(planes[index])
        self._vectors += 1

    def _header_rows(self, headers: npt.NDArray[np.uint64]) -> Uint8Array:
        """(M, header words, bytes of a word)."""
        raw = headers.astype("<u8").view(np.uint8).reshape(len(headers), 8)
        if self.arch.channels == 4:
            nibbles = np.stack([raw & 15, raw >> 4], axis=2)
            return nibbles.reshape(len(headers), 16, 1)
        if self.arch.channels == 128:
            raw = np.concatenate([raw, np.zeros_like(raw)], axis=1)
        return raw.reshape(len(headers), header_words(self.arch.channels), -1)

    def ports(self) -> tuple[bytes, ...]:
        """The stream of every port, whole beats; empty when the program has no convolution."""
        arch = self.arch
        per_port = arch.vector // arch.weight_ports
        return tuple(self._port(p * per_port, per_port) for p in range(arch.weight_ports))

    def _port(self, first: int, count: int) -> bytes:
        arch = self.arch
        per_beat = words_per_beat(arch.channels)
        keys, lanes, beats = [], [], []
        for index in range(count):
            lane = self._lanes[first + index]
            if lane.count == 0:
                continue
            n = -(-lane.count // per_beat)
            words = np.concatenate(lane.words, axis=0)
            padded: Uint8Array = np.zeros((n * per_beat, words.shape[1]), dtype=np.uint8)
            padded[: lane.count] = words
            if arch.channels == 4:
                padded = (padded[0::2] | padded[1::2] << 4).astype(np.uint8)
            beats.append(padded.reshape(n, BEAT_BYTES))
            keys.append(self._need(lane, np.arange(n) * per_beat))
            lanes.append(np.full(n, index, dtype=np.int64))
        if not beats:
            return b""
        all_lanes = np.concatenate(lanes)
        order = np.lexsort((all_lanes, np.concatenate(keys)))
        return _blocks(np.concatenate(beats)[order], all_lanes[order], tag_bits(arch.vector // arch.weight_ports))

    def _need(self, lane: _Lane, word: IntArray) -> IntArray:
        """When a word is needed: vector, then header, then step and pass."""
        starts, bits = np.array(lane.starts), np.array(lane.bits)
        vector = np.searchsorted(starts, word, side="right") - 1
        inside = word - starts[vector] - header_words(self.arch.channels)
        width = np.maximum(bits[vector], 1)
        step, plane = inside // width, inside % width
        low = np.where(width >= TWO_PASS_BITS, plane >= width - LOW_BITS, True)
        within = np.where(inside < 0, 0, 1 + 2 * step + low)
        return np.asarray((vector.astype(np.int64) << 32) + within, dtype=np.int64)


def _pack_planes(weights: Int8Array, bits: int) -> Uint8Array:
    """(lanes, steps, C) codes -> (lanes, steps * bits, bytes of a word): planes of two's complement, MSB first.

    Widths of 6 to 8 need no other order: hi planes (MSB first), then four lo planes, are the code's bits from the top.
    A binary code has its sign: bit 0 of it is 1 anyway.
    """
    lanes, steps, channels = weights.shape
    if bits == 1:
        weights = weights >> 1
    shift = np.arange(bits - 1, -1, -1, dtype=np.uint8)[None, None, :, None]
    planes = (weights.view(np.uint8)[:, :, None, :] >> shift) & 1
    packed = np.packbits(planes.reshape(lanes, steps * bits, channels), axis=2, bitorder="little")
    return np.asarray(packed, dtype=np.uint8)


def _binary_zero(step: EngineStep, node: QConv, channel: int, arch: ArchConfig) -> str:
    """Why a lane of binary weights cannot hold what the array wants of it."""
    if not node.weight[channel].all():
        return f"{node.name}: channel {channel} has 1 bit, but a code of 0; legal: -1 and 1, or more bits"
    what = "is folded" if step.fold is not None else f"has {node.weight.shape[1]} input channels"
    what += f" in each of {node.groups} groups" if node.groups > 1 else ""
    return (
        f"{node.name}: channel {channel} has 1 bit, but the layer {what}, which leaves lanes of {arch.channels} "
        f"channels in part unused, and a binary weight cannot be 0; use 2 bits or more there"
    )


def _blocks(beats: Uint8Array, lanes: IntArray, tag_width: int) -> bytes:
    """Blocks of one tag beat and up to 128/tag_width data beats."""
    per_block = 128 // tag_width
    blocks = -(-len(beats) // per_block)
    tags = np.zeros(blocks * per_block, dtype=np.int64)
    tags[: len(lanes)] = lanes
    bit = (tags[:, None] >> np.arange(tag_width)) & 1
    tag_beats = np.packbits(bit.astype(np.uint8).reshape(blocks, 128), axis=1, bitorder="little")
    out = np.zeros((len(beats) + blocks, BEAT_BYTES), dtype=np.uint8)
    at = np.arange(len(beats))
    out[at + at // per_block + 1] = beats
    out[np.arange(blocks) * (per_block + 1)] = tag_beats
    return out.tobytes()
