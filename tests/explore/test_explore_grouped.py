"""The cycle model of grouped layers, which take several commands: nests, simulated cycles, prices of bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from explore_networks import Builder, mobile
from measured import measure, measure_graph

import random_networks
from bitloom.errors import BitloomError
from bitloom.explore.explorer import explore
from bitloom.explore.layers import network
from bitloom.explore.loops import Shape
from bitloom.explore.performance import performance, shape_of
from bitloom.explore.planned import planned_performance
from bitloom.explore.pricing import NetworkCycles
from bitloom.explore.residency import plan_stripes
from bitloom.explore.schedule import workload
from bitloom.explore.space import Space, bound_cycles, ideal_cycles
from bitloom.graph.allocation import uniform
from bitloom.graph.ir import Conv, Graph
from bitloom.program.plan import plan
from bitloom.program.steps import EngineStep
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import NAMED, ArchConfig
from bitloom.target.device import load_device

DEVICE = load_device("xczu15eg")
FULL = NAMED["full"]


def mixed(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {k: rng.choice([0, 2, 3, 4, 5, 6, 8], v.size).astype(np.int8) for k, v in uniform(graph, 4).bits.items()}


@pytest.mark.parametrize("build", ["tiny", "small", "mid", "full"])
def test_nests_are_the_commands_of_the_plan(build: str) -> None:
    arch, integer = replace(NAMED[build], act_rows=16384), skeleton(mobile(), mixed(mobile(), 0))
    net, shape = network(integer), shape_of(arch)
    load = workload(net, shape, plan_stripes(net, shape, arch.act_rows), arch.tap_entries)
    steps = [s for s in plan(integer, arch).steps if isinstance(s, EngineStep)]
    assert [net.layers[i].name for i in load.layer_of] == [s.name for s in steps]
    for mine, step in zip(load.nests, steps, strict=True):
        theirs = (step.grid.n_groups, len(step.taps), step.in_chunks, step.out_chunks)
        assert (mine.groups, mine.taps, mine.chunks, int(mine.out_chunks.sum())) == theirs, step.name
        assert mine.first_vector == step.first_vector
        assert not mine.layer.conv or mine.vectors == step.n_vectors
    assert net.macs == planned_performance(plan(integer, arch), DEVICE).macs


def test_macs_are_the_useful_ones_and_the_ideal_that_of_the_commands() -> None:
    b = Builder("depthwise", (160, 14, 14))
    graph = b.graph(b.conv("x", 160, 160, 3, groups=160))
    net = network(skeleton(graph, uniform(graph, 4).bits))
    (layer,) = net.layers
    assert net.macs == 160 * 9 * 14 * 14
    assert ideal_cycles(layer, Shape(6, 32, 64)) == -(-14 * 14 // 6) * 9 * (2 + 2 + 1)
    run = performance(net, FULL, DEVICE)
    assert run.layers[0].commands == 3 and run.layers[0].ideal == ideal_cycles(layer, shape_of(FULL))
    assert run.cycles >= bound_cycles(net, shape_of(FULL), DEVICE.ddr_bytes_per_cycle(1.0))
    # A lane reads the words of two chunks, of which its channel has one bit in each plane.
    assert run.layers[0].weight_bytes == (128 * (2 + 9 * 2 * 4) + 64 * 2 + 32 * 9 * 4) * 4


@pytest.mark.parametrize("build", ["small", "full"])
def test_a_plan_costs_what_the_explorer_says(build: str) -> None:
    integer = skeleton(mobile(), uniform(mobile(), 4).bits)
    explored = performance(network(integer), NAMED[build], DEVICE)
    planned = planned_performance(plan(integer, NAMED[build]), DEVICE)
    assert planned.macs == explored.macs
    assert planned.cycles == pytest.approx(explored.cycles, rel=0.02, abs=40)


@pytest.mark.parametrize("build", ["small", "full"])
def test_inverted_residuals_take_the_cycles_that_the_model_says(build: str) -> None:
    found = measure(mobile(), mixed(mobile(), 1), NAMED[build], DEVICE)
    assert found.model.cycles == pytest.approx(found.cycles, rel=0.01, abs=80)
    layer, off = found.worst(least=800)
    assert abs(off) <= 0.03, f"{layer}: {100 * off:+.1f} %"
    commands = {layer.name: layer.commands for layer in found.model.layers}
    assert max(commands.values()) == (13 if build == "small" else 4)


@pytest.mark.parametrize("batch", [1, 3])
def test_random_networks(batch: int) -> None:
    done, total, modelled = 0, 0, 0
    for seed in range(60):
        graph = random_networks.random_grouped(np.random.default_rng(seed), 4)
        try:
            found = measure_graph(graph, NAMED["small"], DEVICE, seed, batch)
        except BitloomError:
            continue  # too large for this build
        assert found.model.cycles == pytest.approx(found.cycles, rel=0.02, abs=80), f"seed {seed}"
        total, modelled, done = total + found.cycles, modelled + found.model.cycles, done + 1
        if done == 10:
            break
    assert done == 10
    assert modelled == pytest.approx(total, rel=0.01)


def test_tensors_in_ddr() -> None:
    arch, done = ArchConfig("spill", 4, 16, 16, 2, 8, 8, 2048, 64), 0
    for number in range(40):
        graph = random_networks.random_grouped(np.random.default_rng(number), 4, largest_map=20)
        try:
            if not plan(graph, arch).scratch_bytes:
                continue
            found = measure_graph(graph, arch, DEVICE, number)
        except BitloomError:
            continue  # too large for this build
        assert found.model.cycles == pytest.approx(found.cycles, rel=0.05, abs=80), f"number {number}"
        done += 1
    assert done >= 5


def test_a_search_takes_grouped_layers() -> None:
    space = Space(pixels=(4,), channels=(8, 16), vectors=(16, 32), acc_groups=(16,), drain_channels=(8,),
                  ring_words=(2048,), weight_ports=(2,), act_rows=(4096,), least_dsp=0.0)  # fmt: skip
    found = explore(mobile(), DEVICE, uniform(mobile(), 4).bits, space=space)
    assert found.found is not None and found.found.evaluated >= 1
    assert found.run.cycles >= found.network.macs / (4 * found.arch.array_dsps)


def test_the_price_of_a_pass_is_the_work_of_one_vector_in_one_command() -> None:
    b = Builder("depthwise", (160, 28, 28))
    graph = b.graph(b.conv(b.conv("x", 160, 160, 3, groups=160), 160, 32, 1))
    model, bits = NetworkCycles(graph, FULL, DEVICE), uniform(graph, 4).bits
    name = next(iter(bits))
    prices, wide = model.prices(bits), bits[name].copy()
    wide[0] = 6
    groups = -(-28 * 28 // FULL.pixels)
    assert prices.per_pass[name] == pytest.approx(groups * 9 * 2, rel=0.05)
    assert model.run({**bits, name: wide}).cycles - prices.cycles == pytest.approx(prices.per_pass[name], rel=0.02)
    both = np.full_like(bits[name], 8)
    assert model.prices({**bits, name: both}).wide_vectors[name] == 3


def test_the_price_of_a_bit_counts_the_words_that_are_stored() -> None:
    """A depthwise layer that waits for its weights: a bit of a weight comes with the zeros of two chunks."""
    b = Builder("late", (960, 3, 3))
    graph = b.graph(b.conv("x", 960, 960, 3, groups=960))
    model, bits = NetworkCycles(graph, replace(FULL, ring_words=256), DEVICE), uniform(graph, 3).bits
    (name,) = bits
    prices = model.prices(bits)
    size = next(n.op.weight.size for n in graph.nodes if isinstance(n.op, Conv))
    more = model.run({name: bits[name] + 1}).cycles - prices.cycles
    assert more == pytest.approx(prices.per_bit[name] * size, rel=0.1) and more > 1000
