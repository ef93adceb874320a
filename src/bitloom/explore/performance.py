"""The cycle model: every cycle of a run and its cause.

Per vector three clocks advance: the array (steps, planes), the drain (behind it by at most two tiles) and the weight
ports (ahead of it by at most the ring). The weight stream is a fluid inside a vector; all else counts whole steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitloom.errors import TargetError
from bitloom.explore.layers import IntArray, Layer, Network
from bitloom.explore.loops import Shape
from bitloom.explore.residency import Stripes, plan_stripes
from bitloom.explore.schedule import Workload, workload
from bitloom.explore.sequencer import Sequencer, writing_cycles
from bitloom.explore.stream import FloatArray, Room, ddr_limits
from bitloom.explore.tiles import Tiling, overlap, tiling
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.program.commands import BEAT_BYTES, CAUSES, HEADER_BEATS
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device


@dataclass(frozen=True)
class LayerCycles:
    """One layer over all its commands. cycles: by cause, in CAUSES' order. bound: the cause that costs most."""

    name: str
    conv: bool
    causes: tuple[int, ...]
    ideal: int
    macs: int
    tile_groups: int
    commands: int
    weight_bytes: int
    other_bytes: int

    @property
    def cycles(self) -> int:
        return sum(self.causes)

    @property
    def bound(self) -> str:
        return CAUSES[int(np.argmax(self.causes))]

    @property
    def ddr_bytes(self) -> int:
        return self.weight_bytes + self.other_bytes

    def utilization(self, array_dsps: int) -> float:
        """Useful multiplications per cycle over what the array can do at 5 bits or fewer."""
        return self.macs / (array_dsps * 4 * self.cycles) if self.cycles else 0.0


@dataclass(frozen=True)
class Performance:
    """A network on one architecture and device, batch 1."""

    network: str
    arch: ArchConfig
    device: str
    clock_mhz: float
    layers: tuple[LayerCycles, ...]
    frame: dict[str, int]  #: cycles outside all layers, all of them control: begin, STORE and end, by name
    stripes: Stripes | None  #: None for a program, which has its own

    @property
    def causes(self) -> dict[str, int]:
        """Cycles of the whole run by cause; they add up to `cycles`."""
        sums = np.array([layer.causes for layer in self.layers]).sum(axis=0)
        causes = dict(zip(CAUSES, (int(x) for x in sums), strict=True))
        return causes | {"control": causes["control"] + sum(self.frame.values())}

    @property
    def cycles(self) -> int:
        return sum(layer.cycles for layer in self.layers) + sum(self.frame.values())

    @property
    def milliseconds(self) -> float:
        """At the device's stated clock."""
        return self.cycles / self.clock_mhz / 1e3

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def mac_efficiency(self) -> float:
        """Useful multiplications of all layers over array DSPs × 4 × all cycles."""
        return self.macs / (self.arch.array_dsps * 4 * self.cycles)

    @property
    def ddr_bytes(self) -> int:
        return sum(layer.ddr_bytes for layer in self.layers)


@dataclass(frozen=True, eq=False)
class Trace:
    """Results of `simulate`. total: (W, K) cycles, inf where the ring is too small. parts: by command, of variant 0."""

    total: FloatArray
    parts: IntArray | None


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


def _free_at(released: FloatArray, at: FloatArray, index: tuple[IntArray, ...], vectors: int) -> FloatArray:
    """When the ring is released up to stream positions `at`, in vectors; linear from begin to end of a release."""
    u = np.clip(at.astype(np.int64), 0, vectors - 1)
    where = (u[:, :, 0], *index) if len(index) == 1 else (u, *index)
    begin, end = released[0][where], released[1][where]
    return np.asarray(begin + (at - u) * (end - begin))


def run_fluid(load: Workload, tiles: Tiling, feed: Feed, device: Device, timing: Timing, trace: bool = False) -> Trace:
    """Runs the fluid model for the W variants of `feed` times the K variants of `tiles`.

    parts (with `trace`): (commands, 6) cycles by cause.
    """
    nv, nw, nk = tiles.work.shape[1], feed.ports.size, tiles.work.shape[0]
    latency = timing.latency(device.clock_mhz)
    first_of = np.searchsorted(load.command_of, np.arange(len(load.nests)))
    whole = device.ddr_bytes_per_cycle(timing.ddr_efficiency)
    sequencer = Sequencer(device, timing, feed.port_bytes, (nw, nk))
    slower = np.maximum(1.0, feed.rate[:, None] / (whole - sequencer.load_rate))
    which, column = np.arange(nw)[:, None], np.arange(nk)[None, :]
    shared = feed.room.shape[2] == 1  # one ring bound for all K variants
    has_words = load.stream.lane_words[:, 0] > 0
    crossings = (feed.after >= 0).sum(axis=4).max(axis=(0, 1, 2))  # they stand in front
    begin = timing.begin + latency + feed.ports * timing.fetch
    array = np.repeat(begin[:, None], nk, axis=1)
    arrive = np.repeat((array + latency)[None], len(feed.beats), axis=0)  # the ports start with their commands
    served = arrive  # what DDR has sent: a port holds `buffer` of it while its rings are full
    per_beat = BEAT_BYTES / np.minimum(feed.port_bytes, feed.rate / feed.ports)[:, None]
    buffer = timing.port_beats * per_beat
    left = np.cumsum(feed.beats[..., ::-1], axis=-1)[..., ::-1]
    others = np.maximum(1.0, feed.ports - 1.0)
    alone = (BEAT_BYTES / np.minimum(feed.port_bytes, feed.rate / others))[:, None] / per_beat
    released = np.zeros((2, nv, nw, nk))  # begin and end of each vector's release
    drained, before = array, array  # end of the drain of the last tile so far, and of the one before it
    parts = np.zeros((len(load.nests), len(CAUSES)), np.int64) if trace else None
    for v in range(nv):
        c = int(load.command_of[v])
        n = load.nests[c]
        first_vector = v == 0 or load.command_of[v - 1] != c
        last_vector = v == nv - 1 or load.command_of[v + 1] != c
        opened = array
        if first_vector:
            array, stood = sequencer.start(n, array)
            array = array + tiles.fill[:, v]
            drained, before = array, array
        work, head, tail = tiles.work[:, v], tiles.first[:, v], tiles.last[:, v]
        smooth = array + work
        fed = smooth
        if has_words[v]:
            at = feed.room[..., v]
            index = (which[:, 0],) if shared else (which, column)
            free = _free_at(released, at, index, nv)
            speed = np.where(arrive < sequencer.dma_idle, slower, 1.0)
            beats = feed.beats[..., v] * speed
            came = arrive
            arrive = np.where(at > 0, free, 0.0)
            sent = served + beats
            spare = sent - np.maximum(served, (served + left[..., v]).min(axis=0))  # after the end of the first port
            served = np.maximum(sent - np.maximum(spare, 0.0) * (1.0 - alone), arrive - buffer)
            # Inside the vector: room that comes with the release of an earlier vector, and DDR for what follows it.
            for j in range(crossings[v]):
                share = feed.after[..., v, j]
                first = np.ceil(feed.room[..., v - 1]) + j if v else np.full_like(at, float(j))
                begun = _free_at(released, first, index, nv)
                arrive = np.where(share >= 0, np.maximum(arrive, begun + beats * share / per_beat), arrive)
                served = np.where(share >= 0, np.maximum(served, begun + beats * share - buffer), served)
            arrive = np.maximum(arrive, served)
            step = n.groups if n.steps == 1 else head / n.steps
            here = (came + (arrive - came) * load.stream.start_share[v]).max(axis=0)
            fed = np.maximum(smooth, np.ceil(np.maximum(here + work, arrive.max(axis=0) + step + (work - head))))
        ready = fed
        if n.load_first and first_vector:
            first, last = sequencer.written(n.load_first), sequencer.written()
            ready = np.maximum(fed, np.ceil(np.maximum(last + tail, first + work)))
        done, drained, before = overlap(tiles, v, ready, drained, before)
        released[1, v] = done
        released[0, v] = np.where(tiles.tiles[:, v] > 1, done - tail, np.minimum(array, done))
        closed = done
        if last_vector:
            closed = np.maximum(done, drained) + timing.drain
        if parts is not None:
            issue = n.groups * n.steps * int(n.passes[v - first_of[c]])
            fill, over = int(tiles.fill[0, v]), max(0.0, (drained - done)[0, 0]) if last_vector else 0.0
            shown = min(over, float(tiles.drain_last[0, v]))  # the rest of it is pipeline latency
            held = float(stood[0, 0]) if first_vector else 0.0
            weights, planes, late = (fed - smooth)[0, 0], work[0] + fill - issue, (ready - fed)[0, 0] + held
            control = (array - opened)[0, 0] - fill - held + (timing.drain if last_vector else 0) + over - shown
            if not n.layer.conv:  # a pool has no planes: its results are under way
                planes, control = 0, control + planes
            parts[c] += np.array([issue, weights, planes, (done - ready)[0, 0] + shown, late, control], dtype=np.int64)
        array = closed
    total = array + sum(end_cycles(load, timing, device).values())
    return Trace(np.where(feed.fits[:, None], total, np.inf), parts)


def end_cycles(load: Workload, timing: Timing, device: Device) -> dict[str, int]:
    """Cycles of the STORE command, and of the writing and its response, for which END waits."""
    beats = load.store_words * max(1, load.shape.channels // BEAT_BYTES)
    writing = int(np.ceil(writing_cycles(beats, device, timing)))
    return {"store": timing.fetch - 3, "end": writing + timing.stop}


def shape_of(arch: ArchConfig) -> Shape:
    """The unroll of an architecture."""
    return Shape(arch.pixels, arch.channels, arch.vector)


def performance(network: Network, arch: ArchConfig, device: Device, timing: Timing = DEFAULT_TIMING) -> Performance:
    """Cycles of every layer and their causes; TargetError where the network does not fit the architecture."""
    stripes = plan_stripes(network, shape_of(arch), arch.act_rows)
    load = workload(network, shape_of(arch), stripes, arch.tap_entries)
    return run_workload(network.name, network.layers, load, arch, device, timing, stripes)


def run_workload(
    name: str,
    layers: Sequence[Layer],
    load: Workload,
    arch: ArchConfig,
    device: Device,
    timing: Timing,
    stripes: Stripes | None,
) -> Performance:
    """Runs the commands of `load` on `arch` and adds them up by layer; TargetError when the ring is too small."""
    tiles = tiling(load, np.array([arch.acc_groups]), np.array([arch.drain_channels]), timing)
    trace = simulate(load, tiles, ((arch.ring_words, arch.weight_ports),), device, timing, trace=True)
    if not np.isfinite(trace.total[0, 0]) or trace.parts is None:
        need = int(load.stream.lane_words.max()) + 2 * max(1, 128 // arch.channels)
        raise TargetError(
            f"{name} on '{arch.name}': a vector needs {need} words of a weight lane, ring_words = "
            f"{arch.ring_words}; use at least {1 << (need - 1).bit_length()}"
        )
    rows = []
    for i, layer in enumerate(layers):
        mine = [c for c, of in enumerate(load.layer_of) if of == i]
        nests = [load.nests[c] for c in mine]
        weight = sum(int(n.lane_words.sum()) for n in nests) * arch.channels // 8 if layer.conv else 0
        other = sum((HEADER_BEATS + n.taps) * BEAT_BYTES + sum(t.bytes for t in n.transfers) for n in nests)
        causes = tuple(int(x) for x in trace.parts[mine].sum(axis=0))
        ideal, tile = sum(n.issue_cycles for n in nests), int(tiles.tile[0, np.searchsorted(load.command_of, mine[0])])
        rows.append(LayerCycles(layer.name, layer.conv, causes, ideal, layer.macs, tile, len(mine), weight, other))
    begin = timing.begin + timing.latency(device.clock_mhz) + arch.weight_ports * timing.fetch
    frame = {"begin": begin, **end_cycles(load, timing, device)}
    return Performance(name, arch, device.name, device.clock_mhz, tuple(rows), frame, stripes)
