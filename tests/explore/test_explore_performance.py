"""The cycle model: against the worked figures of the recommended design, and sanity for all shapes."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from explore_networks import Builder, resnet, tiny, vgg16
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.errors import TargetError
from bitloom.explore.fluid import simulate
from bitloom.explore.layers import Network, network
from bitloom.explore.performance import Performance, performance, shape_of
from bitloom.explore.planned import planned_performance
from bitloom.explore.residency import plan_stripes
from bitloom.explore.schedule import workload
from bitloom.explore.space import bound_cycles, ideal_cycles
from bitloom.explore.tiles import tiling
from bitloom.explore.timing import DEFAULT_TIMING
from bitloom.graph.allocation import uniform
from bitloom.program.commands import CAUSES
from bitloom.program.plan import plan
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import NAMED, ArchConfig
from bitloom.target.device import load_device

DEVICE = load_device("xczu15eg")
FULL = NAMED["full"]


@lru_cache
def net(name: str) -> Network:
    """A network at 4 bits, VGG-16's fully connected layers at 3."""
    graph = {"resnet18": resnet(18), "resnet34": resnet(34), "resnet50": resnet(50), "vgg16": vgg16(), "tiny": tiny()}[
        name
    ]
    bits = uniform(graph, 4).bits
    if name == "vgg16":
        bits = {k: np.full_like(v, 3) if k.startswith("linear") else v for k, v in bits.items()}
    return network(skeleton(graph, bits))


def convs(run: Performance, *causes: str) -> int:
    """Cycles of the layers with weights, for the causes named."""
    return sum(x.causes[CAUSES.index(c)] for x in run.layers if x.conv for c in causes)


def waste(run: Performance) -> int:
    """Issue cycles over the ideal formula: the first layer's fold and border, stripes, padding of phase images."""
    return convs(run, "compute") - sum(ideal_cycles(x, shape_of(FULL)) for x in net(run.network).layers if x.conv)


@pytest.mark.parametrize(
    ("name", "kilocycles"), [("resnet18", 153), ("resnet34", 306), ("resnet50", 342), ("vgg16", 1313)]
)
def test_ideal_convolution_cycles(name: str, kilocycles: int) -> None:
    ideal = sum(ideal_cycles(x, shape_of(FULL)) for x in net(name).layers if x.conv)
    assert round(ideal / 1000) == kilocycles


@pytest.mark.parametrize(
    ("name", "ring_words", "kilocycles"),
    [
        ("resnet18", 1024, 193), ("resnet18", 4096, 179), ("resnet18", 8192, 161),
        ("resnet34", 1024, 370), ("resnet34", 4096, 356), ("resnet34", 8192, 337),
        ("resnet50", 1024, 425), ("resnet50", 4096, 411), ("resnet50", 8192, 393),
        ("vgg16", 4096, 2093), ("vgg16", 8192, 2074),
    ],
)  # fmt: skip
def test_weights_arriving_late(name: str, ring_words: int, kilocycles: int) -> None:
    """Ring table (0.25, 1, 2 MB): work, planes and waits for weights, without our waste over the ideal; within 2 %."""
    run = performance(net(name), replace(FULL, ring_words=ring_words), DEVICE)
    assert convs(run, "compute", "weights", "planes") - waste(run) == pytest.approx(kilocycles * 1000, rel=0.02)


@pytest.mark.parametrize(
    ("name", "drain_channels", "kilocycles"),
    [("resnet50", 16, 359), ("resnet50", 32, 341), ("resnet18", 16, 153), ("resnet18", 32, 152)],
)
def test_drain_bound_layers(name: str, drain_channels: int, kilocycles: int) -> None:
    """Drain table (D = 96, 192 = P·DC): compute and drain overlapped, residual reads not counted; within 2 %."""
    free = replace(net(name), layers=tuple(replace(x, residual=False) for x in net(name).layers))
    run = performance(free, replace(FULL, drain_channels=drain_channels), DEVICE)
    assert convs(run, "compute", "drain") - waste(run) == pytest.approx(kilocycles * 1000, rel=0.02)


def test_the_ring_that_a_vector_needs_is_named() -> None:
    with pytest.raises(
        TargetError,
        match=r"vgg16 on 'full': a vector needs \d+ words of a weight lane, but ring_words = 1024; use a "
        r"build with a ring of \d+ words \(without --arch one is found\)",
    ):
        performance(net("vgg16"), replace(FULL, ring_words=1024), DEVICE)


@pytest.mark.parametrize("name", ["tiny", "resnet18", "resnet50", "vgg16"])
def test_causes_add_up_and_no_layer_beats_its_ideal(name: str) -> None:
    run = performance(net(name), FULL, DEVICE)
    assert sum(run.causes.values()) == run.cycles
    assert all(min(x.causes) >= 0 and x.causes[0] == x.ideal <= x.cycles for x in run.layers)
    assert run.macs == net(name).macs and 0 < run.mac_efficiency < 1


@pytest.mark.parametrize(
    ("name", "build"), [("tiny", "tiny"), ("resnet18", "mid"), ("resnet18", "full"), ("resnet50", "full")]
)
def test_a_plan_costs_what_the_explorer_says(name: str, build: str) -> None:
    """The plan has its own tiles, so it may be a little slower, never faster by more than rounding."""
    graph = {"tiny": tiny(), "resnet18": resnet(18), "resnet50": resnet(50)}[name]
    integer = skeleton(graph, uniform(graph, 4).bits)
    explored = performance(network(integer), NAMED[build], DEVICE)
    planned = planned_performance(plan(integer, NAMED[build]), DEVICE)
    assert planned.macs == explored.macs
    assert planned.cycles == pytest.approx(explored.cycles, rel=0.01, abs=40)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Network, ArchConfig]:
    """A chain of convolutions, maybe with a pool and a residual, at random widths, and a small architecture."""
    channels, size = draw(st.sampled_from([4, 8, 16])), draw(st.integers(5, 24))
    b = Builder("random", (draw(st.integers(1, 6)), size, size))
    cin = b.nodes[0].op.shape[0]  # type: ignore[union-attr]
    x = "x"
    for _ in range(draw(st.integers(1, 3))):
        cout = draw(st.integers(1, 40))
        x, cin = b.conv(x, cin, cout, draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 2]))), cout
    graph = b.graph(x)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    bits = {k: rng.choice([0, 2, 3, 4, 5, 6, 7, 8], v.size).astype(np.int8) for k, v in uniform(graph, 4).bits.items()}
    vector = channels * draw(st.sampled_from([1, 2, 4]))
    drain = draw(st.sampled_from([d for d in (1, 2, 4) if channels % d == 0]))
    groups = draw(st.sampled_from([8, 16, 32]))
    pixels = draw(st.sampled_from([2, 4, 6, 8]))
    arch = ArchConfig("random", pixels, channels, vector, 1, drain, groups, 16384, 65536)
    return network(skeleton(graph, bits)), arch


def without_ddr(case: Network, arch: ArchConfig) -> int:
    """Cycles when every weight and the image are there at once: what the tile choice minimises."""
    shape = shape_of(arch)
    load = workload(case, shape, plan_stripes(case, shape, arch.act_rows), arch.tap_entries)
    dry = replace(
        load, nests=tuple(replace(n, transfers=(), load_first=0, lane_words=0 * n.lane_words) for n in load.nests)
    )
    tiles = tiling(dry, np.array([arch.acc_groups]), np.array([arch.drain_channels]), DEFAULT_TIMING)
    total = simulate(dry, tiles, ((arch.ring_words, arch.weight_ports),), DEVICE, DEFAULT_TIMING).total
    return int(total[0, 0])


@settings(max_examples=40, deadline=None)
@given(cases())
def test_sanity_on_random_networks(case: tuple[Network, ArchConfig]) -> None:
    """Never below the admissible bound nor below the run without DDR; a larger ring never costs cycles."""
    random, arch = case
    run = performance(random, arch, DEVICE)
    assert sum(run.causes.values()) == run.cycles
    assert run.cycles >= bound_cycles(random, shape_of(arch), DEVICE.ddr_bytes_per_cycle(1.0))
    assert run.cycles >= without_ddr(random, arch)
    assert performance(random, replace(arch, ring_words=32768), DEVICE).cycles <= run.cycles


@settings(max_examples=40, deadline=None)
@given(cases())
def test_more_hardware_never_costs_cycles_where_ddr_does_not_bind(case: tuple[Network, ArchConfig]) -> None:
    """Wider drain, larger buffers: never slower."""
    random, arch = case
    assert without_ddr(random, replace(arch, drain_channels=arch.channels)) <= without_ddr(random, arch)
    assert without_ddr(random, replace(arch, acc_groups=64)) <= without_ddr(random, arch)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_more_pixels_and_wider_drain_help_real_networks(name: str) -> None:
    cycles = [performance(net(name), replace(FULL, pixels=p, act_rows=65536), DEVICE).cycles for p in (2, 4, 8, 16)]
    assert cycles == sorted(cycles, reverse=True)
    cycles = [performance(net(name), replace(FULL, drain_channels=d), DEVICE).cycles for d in (4, 8, 16, 32)]
    assert cycles == sorted(cycles, reverse=True)
