"""Loop nests: equal to those of the program's plan, and right on cases small enough to count by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from explore_networks import Builder, resnet, tiny, vgg16
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.errors import TargetError, UnsupportedLayerError
from bitloom.explore.layers import network
from bitloom.explore.loops import Shape, Writing, nests, planes_and_words, rounds_of
from bitloom.explore.residency import live_rows, plan_stripes
from bitloom.explore.schedule import workload
from bitloom.graph.allocation import uniform
from bitloom.graph.ir import Graph
from bitloom.program.plan import plan
from bitloom.program.regions import Layout
from bitloom.program.steps import EngineStep
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import NAMED


@pytest.mark.parametrize(
    ("graph", "build"),
    [(tiny(), "tiny"), (tiny(), "small"), (resnet(18), "mid"), (resnet(18), "full"), (resnet(50), "full")],
    ids=lambda x: x.name if isinstance(x, Graph) else x,
)
def test_nests_are_those_of_the_plan(graph: Graph, build: str) -> None:
    arch, integer = NAMED[build], skeleton(graph, uniform(graph, 4).bits)
    shape = Shape(arch.pixels, arch.channels, arch.vector)
    net = network(integer)
    load = workload(net, shape, plan_stripes(net, shape, arch.act_rows), arch.tap_entries)
    steps = {s.name: s for s in plan(integer, arch).steps if isinstance(s, EngineStep)}
    assert {n.layer.name for n in load.nests} == set(steps)
    for mine in load.nests:
        step = steps[mine.layer.name]
        theirs = (step.grid.n_groups, len(step.taps), step.in_chunks, step.out_chunks)
        assert (mine.groups, mine.taps, mine.chunks, int(mine.out_chunks.sum())) == theirs, mine.layer.name
        if mine.layer.conv:
            assert mine.vectors == step.n_vectors


@settings(max_examples=60, deadline=None)
@given(
    p=st.sampled_from([2, 4, 6, 10, 16]), rows=st.integers(1, 9), columns=st.integers(1, 20), extra=st.integers(0, 3),
    split=st.booleans(),
)  # fmt: skip
def test_rounds_equal_counting_banks_lane_by_lane(p: int, rows: int, columns: int, extra: int, split: bool) -> None:
    grid_w, pitch = columns + extra, -(-columns // 2) if split else columns
    phase = -(-rows // 2) * pitch + 1
    expected = []
    for group in range(-(-rows * grid_w // p)):
        banks: Counter[int] = Counter()
        for n in range(group * p, group * p + p):
            y, x = divmod(n, grid_w)
            if y < rows and x < columns:
                phase_at = (2 * (y & 1) + (x & 1)) * phase + (y >> 1) * pitch + (x >> 1)
                banks[(phase_at if split else y * pitch + x) % p] += 1
        expected.append(max(banks.values(), default=0))
    assert rounds_of(p, Writing(rows, columns, grid_w, Layout(split, pitch, phase))).tolist() == expected


def test_planes_and_words_of_mixed_widths() -> None:
    bits = np.array([0, 2, 5, 3, 8, 6, 2, 0, 7])
    lo, hi, words = planes_and_words(bits, Shape(2, 4, 4), 10)
    assert lo.tolist() == [5, 4, 4] and hi.tolist() == [0, 4, 3]
    assert words.tolist() == [[16 + 10 * b for b in row] for row in ([0, 2, 5, 3], [8, 6, 2, 0], [7, 0, 0, 0])]


def test_too_many_taps_name_the_layer() -> None:
    b = Builder("wide", (8, 20, 20))
    graph = b.graph(b.conv(b.conv("x", 8, 8, 1), 8, 8, 9))
    net = network(skeleton(graph, uniform(graph, 4).bits))
    with pytest.raises(TargetError, match=r"conv3: 81 taps, but tap_entries = 64; use a smaller kernel"):
        nests(net.layers[1], Shape(2, 8, 8), 64)


def test_stride_three_is_refused_by_name() -> None:
    b = Builder("odd", (3, 32, 32))
    graph = b.graph(b.conv("x", 3, 8, 3, 3))
    with pytest.raises(UnsupportedLayerError, match=r"conv1: stride 3x3 has no loop nest; legal: 1x1, 2x2"):
        network(skeleton(graph, uniform(graph, 4).bits))


def test_vgg_is_striped_where_the_memory_is_short_and_not_where_it_is_ample() -> None:
    net, shape = network(skeleton(vgg16(), uniform(vgg16(), 4).bits)), Shape(6, 32, 64)
    short, ample = plan_stripes(net, shape, 16384), plan_stripes(net, shape, live_rows(net, shape))
    assert ample.layers == 0 and short.layers > 0 and short.count > 1
    assert plan_stripes(net, shape, 20480).count <= short.count
    with pytest.raises(TargetError, match=r"vgg16: needs \d+ activation rows at once, act_rows = 64"):
        plan_stripes(net, shape, 64)
