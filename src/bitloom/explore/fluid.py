"""The clocks of a run: array, drain and weight ports, vector by vector, for many variants of ring and tiles at once.

The array takes steps and planes, the drain is behind it by at most two tiles, the weight ports are ahead of it by at
most the ring. The weight stream is a fluid inside a vector; all else counts whole steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitloom.explore.feed import Feed, ring_feed
from bitloom.explore.layers import IntArray
from bitloom.explore.loops import Nest
from bitloom.explore.overlap import DRAINED, FREE, OPEN, advance
from bitloom.explore.schedule import Workload
from bitloom.explore.sequencer import Sequencer, writing_cycles
from bitloom.explore.stream import FloatArray
from bitloom.explore.tiles import Tiling, clocks_at
from bitloom.explore.timing import Timing
from bitloom.program.commands import BEAT_BYTES, CAUSES
from bitloom.target.device import Device


@dataclass(frozen=True, eq=False)
class Trace:
    """total: (W, K) cycles, inf where the ring is too small. parts: (commands, 6) cycles by cause, of variant 0."""

    total: FloatArray
    parts: IntArray | None


def simulate(
    load: Workload,
    tiles: Tiling,
    rings: tuple[tuple[int, int], ...],
    device: Device,
    timing: Timing,
    trace: bool = False,
) -> Trace:
    """Runs the fluid model for W = len(rings) pairs (ring_words, ports) times the K variants of `tiles`."""
    return run_fluid(load, tiles, ring_feed(load, rings, device, timing), device, timing, trace)


def run_fluid(load: Workload, tiles: Tiling, feed: Feed, device: Device, timing: Timing, trace: bool = False) -> Trace:
    """Runs the fluid model for the W variants of `feed` times the K variants of `tiles`; trace: with `parts`."""
    run = _Fluid(load, tiles, feed, device, timing)
    parts = np.zeros((len(load.nests), len(CAUSES)), np.int64) if trace else None
    for v in range(load.command_of.size):
        times = run.vector(v)
        if parts is not None:
            parts[load.command_of[v]] += run.causes(v, times)
    total = run.array + sum(end_cycles(load, timing, device).values())
    return Trace(np.where(feed.fits[:, None], total, np.inf), parts)


def begin_cycles(ports: int, timing: Timing, device: Device) -> int:
    """Cycles from the start to the first command behind those that start the weight ports."""
    return timing.begin + timing.latency(device.clock_mhz) + ports * timing.fetch


def end_cycles(load: Workload, timing: Timing, device: Device) -> dict[str, int]:
    """Cycles of the STORE command, and of the writing and its response, for which END waits."""
    beats = load.store_words * max(1, load.shape.channels // BEAT_BYTES)
    writing = int(np.ceil(writing_cycles(beats, device, timing)))
    return {"store": timing.fetch - 3, "end": writing + timing.stop}


@dataclass(frozen=True, eq=False)
class _Times:
    """When what happens to a vector, (W, K) each.

    opened: the command in front, or the vector in front of the same command, has ended.  begun: the array is there.
    stood: cycles, not a time, that its command waited for LOAD and STORE.  smooth, fed, ready: its steps would end if
    nothing were late, with the weights as they come, with the image as well.  done: they end.  drained: its results are
    written.
    """

    opened: FloatArray
    begun: FloatArray
    stood: FloatArray
    smooth: FloatArray
    fed: FloatArray
    ready: FloatArray
    done: FloatArray
    drained: FloatArray


class _Fluid:
    """The clocks of array and drain, (W, K) each. array: end of the last vector, with the drain where it waits for it.

    clocks: (4, W, K) those of `overlap.py` behind it.
    """

    def __init__(self, load: Workload, tiles: Tiling, feed: Feed, device: Device, timing: Timing) -> None:
        self._load, self._tiles, self._timing = load, tiles, timing
        begin = np.array([float(begin_cycles(int(ports), timing, device)) for ports in feed.ports])
        self.array: FloatArray = np.repeat(begin[:, None], tiles.work.shape[0], axis=1)
        self._clocks = np.stack([self.array] * 4)
        self._sequencer = Sequencer(device, timing, feed.port_bytes, self.array.shape)
        self._ports = _Ports(load, feed, device, timing, self._sequencer.load_rate, self.array)
        self._at_once = np.zeros_like(self.array)
        self._has_words = load.stream.lane_words[:, 0] > 0
        self._first_of = np.searchsorted(load.command_of, np.arange(len(load.nests)))

    def _nest(self, v: int) -> tuple[Nest, bool, bool]:
        """The command of a vector, and whether the vector is its first and its last."""
        c = int(self._load.command_of[v])
        nest, first = self._load.nests[c], int(self._first_of[c])
        return nest, v == first, v == first + nest.vectors - 1

    def vector(self, v: int) -> _Times:
        """Runs the next vector, number `v`."""
        n, first_vector, last_vector = self._nest(v)
        tiles, opened = self._tiles, self.array
        begun, stood = opened, self._at_once
        if first_vector:
            begun, stood = self._sequencer.start(n, opened)
            self._clocks = clocks_at(begun, n, self._timing)
        work, head, tail = tiles.work[:, v], tiles.first[:, v], tiles.last[:, v]
        taken = np.maximum(begun, self._clocks[OPEN] + tiles.planes[:, v])
        smooth = fed = taken + work
        if self._has_words[v]:
            here, there = self._ports.fill(v, self._sequencer.dma_idle)
            fed = np.maximum(smooth, np.ceil(np.maximum(here + work, there + head / n.steps + (work - head))))
        ready, image = fed, self._at_once
        if n.load_first and first_vector:
            ready = np.maximum(fed, np.ceil(self._sequencer.written(n.load_first) + work))
            image = np.ceil(self._sequencer.written() + tail)  # the last tile needs all of it
        if self._has_words[v] and not self._load.command_of[v]:
            late = np.ceil(self._ports.paused(v, ready - work, head, self._sequencer.dma_idle))
            fed, ready = fed + late, ready + late
        free = np.maximum(self._clocks[FREE], ready - work)
        clocks = advance(tiles.path[:, v], np.concatenate([free[None], self._clocks[OPEN:]]))
        clocks[FREE] = np.maximum(clocks[FREE], image)
        clocks[DRAINED] = np.maximum(clocks[DRAINED], image + tiles.flush[:, v])
        self._clocks, ready = clocks, np.maximum(ready, image)
        done, drained = clocks[FREE], clocks[DRAINED]
        self._ports.release(v, np.where(work > tail, done - tail, np.minimum(taken, done)), done)
        self.array = np.maximum(done, drained) + self._timing.drain if last_vector else done
        return _Times(opened, begun, stood, smooth, fed, ready, done, drained)

    def causes(self, v: int, times: _Times) -> IntArray:
        """The cycles of a vector in variant 0, by cause in CAUSES' order."""

        def between(early: FloatArray, late: FloatArray) -> float:
            return float(late[0, 0] - early[0, 0])

        n, _, last_vector = self._nest(v)
        issue = n.groups * n.steps * int(n.passes[v - self._first_of[self._load.command_of[v]]])
        held = float(times.stood[0, 0])
        planes, drain = between(times.begun, times.smooth) - issue, between(times.ready, times.done)
        control = between(times.opened, times.begun) - held
        if last_vector:
            over = max(0.0, between(times.done, times.drained))
            shown = min(over, float(self._tiles.drain_last[0, v]))  # the rest of it is pipeline latency
            drain, control = drain + shown, control + self._timing.drain + over - shown
        weights, late = between(times.smooth, times.fed), between(times.fed, times.ready) + held
        return np.array([issue, weights, planes, drain, late, control], dtype=np.int64)


class _Ports:
    """The weight ports ahead of the array; times (Q, W, K), of Q equal shares of the lanes."""

    def __init__(
        self, load: Workload, feed: Feed, device: Device, timing: Timing, load_rate: float, start: FloatArray
    ) -> None:
        """load_rate: bytes a cycle that LOAD draws.  start: when the ports have their commands, (W, K)."""
        self._feed, self._share = feed, load.stream.start_share
        whole = device.ddr_bytes_per_cycle(timing.ddr_efficiency)
        self._slower = np.maximum(1.0, feed.rate[:, None] / (whole - load_rate))
        self._per_beat = BEAT_BYTES / np.minimum(feed.port_bytes, feed.rate / feed.ports)[:, None]
        self._buffer = timing.port_beats * self._per_beat
        others = np.maximum(1.0, feed.ports - 1.0)
        self._alone = (BEAT_BYTES / np.minimum(feed.port_bytes, feed.rate / others))[:, None] / self._per_beat
        self._left = np.cumsum(feed.beats[..., ::-1], axis=-1)[..., ::-1]
        self._crossings = (feed.after >= 0).sum(axis=4).max(axis=(0, 1, 2))  # they stand in front
        self._arrive = np.repeat((start + timing.latency(device.clock_mhz))[None], len(feed.beats), axis=0)
        self._latency, self._hold = timing.latency(device.clock_mhz), timing.port_beats
        self._needed = self._asked = np.zeros_like(self._arrive)  # beats of a port, of the vectors so far
        self._served = self._arrive  # what DDR has sent: a port holds `buffer` of it while its rings are full
        self._released = np.zeros((2, load.command_of.size, *start.shape))  # begin and end of each vector's release
        which, column = np.arange(start.shape[0])[:, None], np.arange(start.shape[1])[None, :]
        shared = feed.room.shape[2] == 1  # one ring bound for all K variants
        self._index = (which[:, 0],) if shared else (which, column)

    def fill(self, v: int, dma_idle: FloatArray) -> tuple[FloatArray, FloatArray]:
        """When header and first step of vector `v` are in the rings, and when all its words are, (W, K).

        dma_idle: until then a LOAD draws on DDR too.
        """
        feed, before = self._feed, self._arrive
        at = feed.room[..., v]
        beats = feed.beats[..., v] * np.where(before < dma_idle, self._slower, 1.0)
        arrive = np.where(at > 0, self._free_at(at), 0.0)
        sent = self._served + beats
        first_end = np.maximum(self._served, (self._served + self._left[..., v]).min(axis=0))
        spare = sent - first_end  # after the end of the first port
        served = np.maximum(sent - np.maximum(spare, 0.0) * (1.0 - self._alone), arrive - self._buffer)
        # Inside the vector: room that comes with the release of an earlier vector, and DDR for what follows it.
        for j in range(self._crossings[v]):
            share = feed.after[..., v, j]
            first = np.ceil(feed.room[..., v - 1]) + j if v else np.full_like(at, float(j))
            begun = self._free_at(first)
            arrive = np.where(share >= 0, np.maximum(arrive, begun + beats * share / self._per_beat), arrive)
            served = np.where(share >= 0, np.maximum(served, begun + beats * share - self._buffer), served)
        self._arrive, self._served = np.maximum(arrive, served), served
        here = (before + (self._arrive - before) * self._share[v]).max(axis=0)
        return here, self._arrive.max(axis=0)

    def paused(self, v: int, taken: FloatArray, head: IntArray, dma_idle: FloatArray) -> FloatArray:
        """Cycles that the first tile of vector `v` waits because the ports gave way to the image, (W, K).

        They ask for nothing new until `dma_idle`, unless the array waits; then for as much as they hold (bl_weights).
        So only in the first command: later the rings are far ahead of a LOAD.
        taken, head: when the tile begins, and its cycles.
        """
        before, beats = self._needed, self._feed.beats[..., v] / self._per_beat
        self._needed = before + beats
        late = np.zeros(np.broadcast_shapes(taken.shape, head.shape))
        if not (dma_idle + self._latency > taken).any():
            return late
        self._asked = np.maximum(self._asked, before + beats * self._share[v] + self._hold)
        while (short := self._asked < self._needed).any():
            at = taken + late + head * (self._asked - before) / np.maximum(beats, 1.0)
            wait = np.where(short, np.maximum(0.0, np.minimum(at, dma_idle) + self._latency - at), 0.0)
            late = late + wait.max(axis=0)
            self._asked = np.where(short, self._asked + self._hold, self._asked)
        return late

    def release(self, v: int, begin: FloatArray, end: FloatArray) -> None:
        """The rings give the words of vector `v` back from `begin` to `end`."""
        self._released[0, v], self._released[1, v] = begin, end

    def _free_at(self, at: FloatArray) -> FloatArray:
        """When the rings are released up to positions `at`, in vectors; linear from begin to end of a release."""
        u = np.clip(at.astype(np.int64), 0, self._released.shape[1] - 1)
        where = (u[:, :, 0], *self._index) if len(self._index) == 1 else (u, *self._index)
        begin, end = self._released[0][where], self._released[1][where]
        return np.asarray(begin + (at - u) * (end - begin))
