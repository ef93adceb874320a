"""Loop optimization: the proven optimum of the model over a space of architectures, and its Pareto front.

Unrolls (P, C, M) are taken in the order of an admissible bound; the rest of the space (T, DC, ring, WP, rows) of an
unroll is evaluated at once. An unroll is skipped when its bounds prove that it holds neither the best nor a front
point.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bitloom.errors import TargetError
from bitloom.explore.fluid import simulate
from bitloom.explore.layers import Network
from bitloom.explore.loops import Shape
from bitloom.explore.residency import Stripes, plan_stripes
from bitloom.explore.resources import KINDS, Margins, Resources, excess, resources, ring_resources
from bitloom.explore.schedule import workload
from bitloom.explore.space import Space, bound_cycles
from bitloom.explore.stream import FloatArray
from bitloom.explore.tiles import tiling
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

BoolArray = npt.NDArray[np.bool_]

#: Bits of a URAM in BRAM36: memory is counted in these.
URAM_IN_BRAM36 = 8


@dataclass(frozen=True)
class Point:
    """One architecture: cycles by network, score (mean of cycles over the device's floor), resources."""

    arch: ArchConfig
    cycles: tuple[int, ...]
    score: float
    resources: Resources

    @property
    def memory(self) -> float:
        """BRAM36 blocks, in halves, a URAM as eight."""
        return self.resources.bram36 + URAM_IN_BRAM36 * self.resources.uram

    @property
    def goals(self) -> tuple[float, int, int, float]:
        """What the front trades: score, DSP, LUT, memory; less is better in all."""
        return self.score, self.resources.dsp, self.resources.lut, self.memory


@dataclass(frozen=True)
class SearchResult:
    """best: least score, ties to fewer DSPs, LUTs, memory.  front: points that no other beats by more than `slack`.

    evaluated + skipped = unrolls of the space; bound: least bound of the skipped unrolls' scores (>= best.score).
    """

    networks: tuple[str, ...]
    best: Point
    front: tuple[Point, ...]
    slack: float
    evaluated: int
    skipped: int
    bound: float
    seconds: float


def floor_cycles(network: Network, device: Device) -> float:
    """Useful multiplications over four per DSP and cycle, all DSPs of the device at work."""
    return network.macs / (4 * device.dsp / device.dsps_per_quad)


@dataclass
class _Search:
    networks: Sequence[Network]
    device: Device
    space: Space
    margins: Margins
    timing: Timing
    refused: frozenset[tuple[Shape, int]]

    def __post_init__(self) -> None:
        self.floors = [floor_cycles(n, self.device) for n in self.networks]

    def score(self, cycles: Sequence[FloatArray | float]) -> FloatArray:
        """Mean over the networks of cycles / floor."""
        return np.asarray(sum(np.asarray(c) / f for c, f in zip(cycles, self.floors, strict=True)) / len(self.floors))

    def bound(self, shape: Shape) -> float:
        rate = self.device.ddr_bytes_per_cycle(self.timing.ddr_efficiency)
        return float(self.score([float(bound_cycles(n, shape, rate)) for n in self.networks]))

    def arch(self, shape: Shape, t: int, dc: int, ring: int, wp: int, rows: int) -> ArchConfig:
        name = f"p{shape.pixels}c{shape.channels}m{shape.vector}t{t}d{dc}r{ring}w{wp}a{rows}"
        s = self.space
        return ArchConfig(name, shape.pixels, shape.channels, shape.vector, wp, dc, t, ring, rows, s.tap_entries)

    def least(self, shape: Shape) -> Resources | None:
        """Componentwise least resources of an unroll; None when even those do not fit."""
        s, wp = self.space, min(self.space.ports(shape, self.device), default=0)
        if wp == 0 or not s.drains(shape):
            return None
        # More rows may move the memory from BRAM to URAM, so all of them are looked at.
        rows = [
            resources(self.arch(shape, min(s.acc_groups), dc, min(s.ring_words), wp, act_rows), self.device)
            for dc in s.drains(shape)
            for act_rows in s.act_rows
        ]
        fewest = {k: min(getattr(r, k) for r in rows) for k in KINDS}
        need = Resources(**fewest)
        return None if excess(need, self.device, self.margins) else need

    def plans(self, shape: Shape) -> list[tuple[int, tuple[Stripes, ...]]]:
        """(act_rows, stripes by network): distinct stripes, fewest rows of each; rows without a plan are out."""
        found: dict[tuple[Stripes, ...], int] = {}
        for rows in sorted(self.space.act_rows):
            if (shape, rows) in self.refused:
                continue
            try:
                plan = tuple(plan_stripes(n, shape, rows) for n in self.networks)
            except TargetError:
                continue
            found.setdefault(plan, rows)
        return [(rows, plan) for plan, rows in found.items()]

    def evaluate(self, shape: Shape) -> list[Point]:
        """Every feasible point of an unroll that no other point of it dominates."""
        s = self.space
        pairs = [(t, dc) for t in s.acc_groups for dc in s.drains(shape)]
        rings = [(r, w) for w in s.ports(shape, self.device) for r in s.ring_words]
        plans = self.plans(shape)
        tables = [self._tables(shape, pairs, rings, rows) for rows, _ in plans]
        fits = np.array([fit for _, fit in tables])  # (rows, W, K)
        if not fits.any():
            return []
        ws, ks = np.flatnonzero(fits.any(axis=(0, 2))), np.flatnonzero(fits.any(axis=(0, 1)))
        memo: dict[tuple[int, Stripes], FloatArray] = {}
        points: list[Point] = []
        for (rows, plan), (goals, fit) in zip(plans, tables, strict=True):
            for i, stripes in enumerate(plan):
                if fit.any() and (i, stripes) not in memo:
                    part = self._cycles(i, shape, stripes, [pairs[k] for k in ks], [rings[w] for w in ws])
                    memo[i, stripes] = np.full(fit.shape, np.inf)
                    memo[i, stripes][np.ix_(ws, ks)] = part
            if not fit.any():
                continue
            totals = [memo[i, stripes] for i, stripes in enumerate(plan)]
            goals = goals.copy()
            goals[..., 0] = np.where(fit, self.score(totals), np.inf)
            for w, k in _corners(goals):
                arch = self.arch(shape, *pairs[k], *rings[w], rows)
                cycles = tuple(int(x[w, k]) for x in totals)
                points.append(Point(arch, cycles, float(goals[w, k, 0]), resources(arch, self.device)))
        return _undominated(points, 0.0)

    def _cycles(
        self, i: int, shape: Shape, stripes: Stripes, pairs: list[tuple[int, int]], rings: list[tuple[int, int]]
    ) -> FloatArray:
        """(W, K) cycles of network i."""
        load = workload(self.networks[i], shape, stripes, self.space.tap_entries)
        groups, drains = (np.array(sorted(set(x))) for x in zip(*pairs, strict=True))
        tiles = tiling(load, groups, drains, self.timing)
        index = {(int(t), int(d)): n for n, (t, d) in enumerate((t, d) for t in groups for d in drains)}
        total = simulate(load, tiles, tuple(rings), self.device, self.timing).total
        return total[:, [index[pair] for pair in pairs]]

    def _tables(
        self, shape: Shape, pairs: list[tuple[int, int]], rings: list[tuple[int, int]], rows: int
    ) -> tuple[FloatArray, BoolArray]:
        """(W, K, 4) goals with score 0, and (W, K) whether a point fits; of a ring's size only the lanes depend."""
        first = min(self.space.ring_words)
        goals = np.zeros((len(rings), len(pairs), 4))
        fit = np.zeros((len(rings), len(pairs)), dtype=np.bool_)
        lanes = {r: ring_resources(shape.vector, shape.channels, r) for r, _ in rings}
        least = ring_resources(shape.vector, shape.channels, first)
        for wp in {w for _, w in rings}:
            for k, (t, dc) in enumerate(pairs):
                base = resources(self.arch(shape, t, dc, first, wp, rows), self.device)
                for w, (ring, ports) in enumerate(rings):
                    if ports == wp:
                        need = replace(
                            base,
                            lut=base.lut + lanes[ring].lut - least.lut,
                            ff=base.ff + lanes[ring].ff - least.ff,
                            bram36=base.bram36 + lanes[ring].bram36 - least.bram36,
                        )
                        fit[w, k] = not excess(need, self.device, self.margins)
                        goals[w, k, 1:] = need.dsp, need.lut, need.bram36 + URAM_IN_BRAM36 * need.uram
        return goals, fit


def _corners(goals: FloatArray) -> list[tuple[int, int]]:
    """Indices (w, k) of the entries of (W, K, 4) `goals` with finite score that no other entry dominates."""
    flat = goals.reshape(-1, 4)
    order = np.lexsort((flat[:, 3], flat[:, 2], flat[:, 1], flat[:, 0]))
    order = order[np.isfinite(flat[order, 0])]
    kept: list[int] = []
    while order.size:
        head, order = order[0], order[1:]
        kept.append(int(head))
        order = order[(flat[order] < flat[head]).any(axis=1)]
    return [divmod(i, goals.shape[1]) for i in kept]


def _undominated(points: list[Point], slack: float) -> list[Point]:
    """Points that none of the others beats in all goals (score to within `slack`); one of equal goals stays."""
    points = sorted(points, key=lambda q: (q.goals, q.arch.name))
    goals = np.array([p.goals for p in points]).reshape(-1, 4)
    relaxed = goals * np.array([1 + slack, 1, 1, 1])
    alive = np.ones(len(points), dtype=np.bool_)
    for i in range(len(points)):
        if alive[i]:
            beaten = (goals[i] <= relaxed).all(axis=1)
            beaten[: i + 1] = False
            alive &= ~beaten
    return [p for p, keep in zip(points, alive, strict=True) if keep]


def search(
    networks: Sequence[Network],
    device: Device,
    space: Space | None = None,
    margins: Margins | None = None,
    timing: Timing = DEFAULT_TIMING,
    slack: float = 0.02,
    front: bool = True,
    refused: frozenset[tuple[Shape, int]] = frozenset(),
) -> SearchResult:
    """The best architecture of `space` for `networks` on `device`, proven, and the front.

    slack: a point is left out of the front when another has at most (1 + slack) times its score and no more of any
    resource; the best is exact whatever the slack. front = False: only the best is asked for, which skips far more
    (the front is then that of the unrolls met on the way). refused: unrolls and activation rows that are out of the
    space, because a program does not fit there. TargetError when nothing fits.
    """
    began = time.perf_counter()
    if not networks:
        raise TargetError("no network to explore; give at least one")
    run = _Search(networks, device, space or Space(), margins or Margins(), timing, refused)
    least = {shape: run.least(shape) for shape in run.space.shapes(device)}
    order = sorted((run.bound(shape), shape) for shape, need in least.items() if need is not None)
    best: Point | None = None
    kept: list[Point] = []
    evaluated, skipped, bound = 0, 0, float("inf")
    for limit, shape in order:
        need = least[shape]
        assert need is not None
        if best is not None and limit > best.score:
            corner = np.array([limit * (1 + slack), need.dsp, need.lut, need.bram36 + URAM_IN_BRAM36 * need.uram])
            if not front or any((np.array(p.goals) <= corner).all() for p in kept):
                skipped, bound = skipped + 1, min(bound, limit)
                continue
        evaluated += 1
        found = run.evaluate(shape)
        for point in found:
            if best is None or point.goals < best.goals:
                best = point
        kept = _undominated(kept + found, 0.0)
    if best is None:
        names = ", ".join(n.name for n in networks)
        raise TargetError(
            f"{names}: no architecture of the space fits device '{device.name}' ({device.dsp} DSP, {device.lut} LUT, "
            f"{device.bram36} BRAM36, {device.uram} URAM); use a larger device, a smaller image or a wider space"
        )
    seconds = time.perf_counter() - began
    return SearchResult(
        tuple(n.name for n in networks),
        best,
        tuple(_undominated(kept, slack)),
        slack,
        evaluated,
        skipped,
        bound,
        seconds,
    )
