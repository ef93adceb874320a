"""The weight stream: beats of every vector, and how far a ring lets the ports run ahead of the array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitloom.explore.layers import IntArray
from bitloom.explore.timing import Timing
from bitloom.program.commands import BEAT_BITS, BEAT_BYTES
from bitloom.program.weights import ring_need, tag_bits
from bitloom.target.device import Device

FloatArray = npt.NDArray[np.float64]


def tag_overhead(lanes_per_port: int) -> float:
    """Beats on the bus per data beat: one tag beat names 128 / TAG_W lanes (docs/spec/streams.md)."""
    return 1.0 + tag_bits(lanes_per_port) / BEAT_BITS


@dataclass(frozen=True, eq=False)
class Room:
    """Stream positions, in vectors, that must have been released before a port's words fit into its rings.

    position: (ports, V) for the whole of vector v; 0: none.  after: (ports, V, J) share of vector v's words that come
    once its first lane needs the release of vector ceil(position of v - 1) + j; negative: none needs it.
    """

    position: FloatArray
    after: FloatArray


@dataclass(frozen=True, eq=False)
class Stream:
    """Weights of all vectors in program order. lane_words: (V, M), fractions where a price is asked; start_share:
    header and first step of a vector."""

    channels: int
    lane_words: IntArray | FloatArray
    start_share: FloatArray

    def beat_cycles(self, ports: int, bytes_per_cycle: float, port_bytes: float) -> FloatArray:
        """(ports, V) cycles that DDR takes for each vector's part of a port, tags included; ports share alike."""
        v, m = self.lane_words.shape
        beats = self.lane_words.reshape(v, ports, m // ports).sum(axis=2).T * (self.channels / BEAT_BITS)
        rate = min(port_bytes, bytes_per_cycle / ports)
        return np.asarray(beats * (BEAT_BYTES / rate) * tag_overhead(m // ports), dtype=np.float64)

    def room(self, ring_words: int, ports: int) -> Room | None:
        """What the ports wait for in a ring of `ring_words` a lane.

        None when a vector does not fit the ring at all: its words and two beats (docs/spec/streams.md).
        """
        usable = ring_words - ring_need(0, self.channels)
        if (self.lane_words.max(initial=0)) > usable:
            return None
        v, m = self.lane_words.shape
        total = np.zeros((v + 1, m), self.lane_words.dtype)
        np.cumsum(self.lane_words, axis=0, out=total[1:])
        target = total - usable
        position = np.zeros((ports, v))
        vectors = np.arange(v + 1, dtype=np.float64)
        for lane in range(m):
            if target[-1, lane] <= 0:
                continue
            at = np.interp(target[1:, lane], total[:, lane], vectors, left=0.0)
            mine = position[lane * ports // m]
            np.maximum(mine, at, out=mine)
        since = np.concatenate([np.zeros((ports, 1)), position[:, :-1]], axis=1)
        first = np.ceil(since).astype(np.int64)
        after = np.full((ports, v, max(0, int((np.ceil(position) - first).max(initial=0)))), -1.0)
        for j in range(after.shape[2]):
            for port in range(ports):
                inside = np.flatnonzero(first[port] + j < position[port])
                lanes = slice(port * m // ports, (port + 1) * m // ports)
                words = self.lane_words[inside, lanes]
                left = total[1:][inside, lanes] - usable - total[first[port, inside] + j, lanes]
                share = np.divide(left, words, out=np.full(left.shape, -1.0), where=(words > 0) & (left <= words))
                after[port, inside, j] = share.max(axis=1)
        return Room(position, after)


def ddr_limits(device: Device, ports: int, timing: Timing) -> tuple[float, float]:
    """Bytes per cycle of the weight ports together, and of one port."""
    port_bytes = min(BEAT_BYTES, device.ddr_port_bits / 8) * (1.0 - timing.ddr_refresh)
    return min(device.ddr_bytes_per_cycle(timing.ddr_efficiency), ports * port_bytes), port_bytes
