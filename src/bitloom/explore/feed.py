"""What the weight ports have to bring, and how far the rings let them: the weight stream in many variants at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitloom.explore.schedule import Workload
from bitloom.explore.stream import FloatArray, Room, ddr_limits
from bitloom.explore.timing import Timing
from bitloom.target.device import Device


@dataclass(frozen=True, eq=False)
class Feed:
    """Weights in W×K variants; axes of length 1 stand for all. beats, room: (Q, W|1, K|1, V) cycles on DDR and ring
    bound of each vector for Q equal shares of the lanes (a port is one or several); after: the same with an axis J, see
    `Room`.  fits: (W,).  ports: (W,) weight ports.  rate: (W,) bytes per cycle that they can draw."""

    beats: FloatArray
    room: FloatArray
    after: FloatArray
    fits: FloatArray
    ports: FloatArray
    rate: FloatArray
    port_bytes: float


def ring_feed(load: Workload, rings: Sequence[tuple[int, int]], device: Device, timing: Timing) -> Feed:
    """The stream of `load` for W pairs (ring_words, ports)."""
    shares = max(ports for _, ports in rings)
    limits = [ddr_limits(device, ports, timing) for _, ports in rings]
    by_ports = {p: load.stream.beat_cycles(p, *limit) for (_, p), limit in zip(rings, limits, strict=True)}
    rooms = {ring: load.stream.room(*ring) for ring in set(rings)}
    nothing = Room(np.zeros((1, load.command_of.size)), np.zeros((1, load.command_of.size, 0)))

    def spread(part: FloatArray) -> FloatArray:
        return np.repeat(part, shares // len(part), axis=0)

    found = [rooms[ring] or nothing for ring in rings]
    beats = np.stack([spread(by_ports[p]) for _, p in rings], axis=1)
    room = np.stack([spread(r.position) for r in found], axis=1)
    after = stack_after([spread(r.after) for r in found])
    fits = np.array([rooms[ring] is not None for ring in rings])
    ports, rate = np.array([float(p) for _, p in rings]), np.array([r for r, _ in limits])
    return Feed(beats[:, :, None, :], room[:, :, None, :], after[:, :, None, :], fits, ports, rate, limits[0][1])


def stack_after(parts: Sequence[FloatArray]) -> FloatArray:
    """(Q, len(parts), V, J) from arrays of (Q, V, J) with J of their own."""
    most = max(p.shape[2] for p in parts)
    filled = [np.pad(p, ((0, 0), (0, 0), (0, most - p.shape[2])), constant_values=-1.0) for p in parts]
    return np.stack(filled, axis=1)
