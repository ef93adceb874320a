"""Array, planes and drain tile by tile: the max-plus paths against a walk over every tile and every group."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from explore_networks import Builder
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.explore.layers import network
from bitloom.explore.loops import Nest, Shape, nests
from bitloom.explore.maxplus import NEVER, chain, power, then, unity
from bitloom.explore.overlap import DRAINED, FREE, LEAST_JOB, POOL_CREDITS, advance, conv_path, pool_path
from bitloom.explore.tiles import clocks_at
from bitloom.explore.timing import DEFAULT_TIMING
from bitloom.graph.allocation import uniform
from bitloom.graph.ir import MaxPool
from bitloom.quantize.skeleton import skeleton

T = DEFAULT_TIMING


def waits(matrix: np.ndarray) -> np.ndarray:
    """Entries, those of which nothing is waited for as 'NEVER' itself."""
    return np.where(matrix < NEVER // 2, NEVER, matrix)


def product(matrices: list[np.ndarray], size: int) -> np.ndarray:
    """One behind the other, entry by entry."""
    done = unity(size, 1)[:, :, 0]
    for m in matrices:
        done = np.array([[max(m[i, k] + done[k, j] for k in range(size)) for j in range(size)] for i in range(size)])
    return done


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_chains_and_powers_equal_products_entry_by_entry(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrices = rng.integers(-20, 20, (3, 3, sum(counts)))
    matrices[rng.random(matrices.shape) < 0.3] = NEVER
    found, at = chain(matrices, np.array(counts)), 0
    for k, count in enumerate(counts):
        mine = [matrices[:, :, i] for i in range(at, at + count)]
        np.testing.assert_array_equal(waits(found[:, :, k]), waits(product(mine, 3)))
        if mine:
            repeated = power(mine[0][:, :, None], np.array([count]))[:, :, 0]
            np.testing.assert_array_equal(waits(repeated), waits(product([mine[0]] * count, 3)))
        at += count
    if len(counts) > 1:
        np.testing.assert_array_equal(waits(then(found, unity(3, len(counts)))), waits(found))


def drain_cycles(n: Nest, rounds: np.ndarray, slices: int, chunks: int) -> int:
    return (2 if n.residual_by_b else 1) * int((rounds * slices * chunks + (rounds == 0)).sum())


def walk_conv(n: Nest, size: int, slices: int) -> int:
    """Cycles of a convolution on its own until its results are drained: one pass after the other."""
    header, lag = n.shape.header_words + T.learn, T.lag(n.shape.channels) + 1
    free, opened, drained, before = 0, header, T.address, 0
    for v in range(n.vectors):
        planes = [int(n.hi[v]), int(n.lo[v])] if n.hi[v] else [int(n.lo[v])]
        ready = opened + planes[0]
        for begin in range(0, n.groups, size):
            groups = min(size, n.groups - begin)
            wait_for_tap = n.chunks == 1 and n.taps > 1
            taken = shown = 0
            for k in range(n.steps * len(planes)):
                last_of_step = (k + 1) % len(planes) == 0
                taken, shown = max(free, ready, before if k == 0 else 0), ready
                free = taken + (max(groups, 2) if wait_for_tap and last_of_step else groups)
                ready = taken + planes[(k + 1) % len(planes)]
            opened = max(taken, shown + header)
            job = drain_cycles(n, n.rounds[begin : begin + groups], slices, int(n.out_chunks[v]))
            drained, before = max(taken + lag, drained) + job, drained
    return max(free, drained)


def walk_pool(n: Nest, slices: int) -> int:
    """Cycles of a pool on its own until its results are drained: one group after the other."""
    tap, drain_free, used = -n.taps, T.address, [NEVER] * POOL_CREDITS
    for _ in range(n.chunks):
        for rounds in n.rounds:
            job = drain_cycles(n, np.array([rounds]), slices, 1)
            tap = max(tap + n.taps, used[-POOL_CREDITS] + T.pool_back)
            start = max(tap + n.taps + T.read + 3, drain_free)
            drain_free = start + max(job, LEAST_JOB)
            used.append(start + job)
    return max(tap + n.taps, used[-1])


@st.composite
def layers(draw: st.DrawFn) -> tuple[Nest, Nest]:
    """A convolution on narrow maps and the pool behind it, widths mixed."""
    cin, cout, k = draw(st.integers(1, 20)), draw(st.integers(1, 40)), draw(st.sampled_from([1, 3]))
    b = Builder("narrow", (cin, draw(st.integers(2, 9)), draw(st.integers(2, 12))))
    x = b.conv(b.conv("x", cin, cin, 1), cin, cout, k, draw(st.sampled_from([1, 2])))
    graph = b.graph(b.add(MaxPool((k, k), (draw(st.sampled_from([1, 2])),) * 2, (k // 2,) * 4), x))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    bits = {k: rng.choice([0, 2, 3, 4, 5, 6, 8], v.size).astype(np.int8) for k, v in uniform(graph, 4).bits.items()}
    channels = draw(st.sampled_from([4, 8]))
    shape = Shape(draw(st.sampled_from([2, 4])), channels, channels * draw(st.sampled_from([1, 2])))
    found = [n for layer in network(skeleton(graph, bits)).layers for n in nests(layer, shape, 64)]
    by_b = draw(st.booleans())
    return replace([n for n in found if n.layer.conv][-1], residual_by_b=by_b), replace(found[-1], residual_by_b=by_b)


def ends(n: Nest, path: np.ndarray) -> list[int]:
    """When a command on its own is drained, by variant: its vectors all have `path`[v]."""
    clocks = clocks_at(np.zeros(path.shape[1]), n, T)
    for one in path:
        clocks = advance(one, clocks)
    return [int(x) for x in np.maximum(clocks[FREE], clocks[DRAINED])]


@settings(max_examples=60, deadline=None)
@given(case=layers(), sizes=st.lists(st.integers(1, 20), min_size=1, max_size=4), slices=st.sampled_from([1, 2, 4]))
def test_paths_equal_a_walk_over_every_pass_and_group(case: tuple[Nest, Nest], sizes: list[int], slices: int) -> None:
    conv, pool = case
    size, parts = np.array(sizes), np.full(len(sizes), slices)
    paths = np.stack([conv_path(conv, v, size, parts, T).path for v in range(conv.vectors)])
    assert ends(conv, paths) == [walk_conv(conv, s, slices) for s in sizes]
    assert ends(pool, pool_path(pool, parts, T).path[None]) == [walk_pool(pool, slices)] * len(sizes)
