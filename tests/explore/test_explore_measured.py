"""The cycle model against the RTL: layer by layer, on random networks and on one with residuals."""

from __future__ import annotations

import numpy as np
import pytest
from explore_networks import Builder, tiny
from measured import Measured, measure, measure_graph

import random_networks
from bitloom.errors import BitloomError
from bitloom.explore.timing import DEFAULT_TIMING
from bitloom.graph.allocation import uniform
from bitloom.graph.ir import Graph
from bitloom.program.commands import CAUSES
from bitloom.program.plan import plan
from bitloom.simulate.job import DdrTiming
from bitloom.target.arch import ArchConfig, named_arch
from bitloom.target.device import load_device

DEVICE = load_device("xczu15eg")
SMALL = named_arch("small")


def mixed(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    widths = [0, 2, 3, 4, 5, 6, 8]
    return {k: rng.choice(widths, b.size).astype(np.int8) for k, b in uniform(graph, 4).bits.items()}


def residual_chain() -> Graph:
    """Layers of some thousand cycles each: 3×3 with residual, stride 2, 1×1, pools."""
    b = Builder("chain", (3, 32, 32))
    x = b.conv("x", 3, 32, 3)
    x = b.conv(b.conv(x, 32, 32, 3), 32, 48, 3, 2)
    x = b.conv(b.conv(x, 48, 64, 1), 64, 40, 3)
    return b.graph(b.conv(x, 40, 32, 3, 2))


def assert_close(found: Measured) -> None:
    """1 % of the network, 3 % of every layer long enough that a dozen cycles do not decide."""
    assert found.model.cycles == pytest.approx(found.cycles, rel=0.01, abs=25)
    layer, off = found.worst(least=600)
    assert abs(off) <= 0.03, f"{layer}: {100 * off:+.1f} %"
    for one in found.model.layers:
        if one.conv:
            assert one.causes[0] == found.layers[one.name]["compute"]


@pytest.mark.parametrize("seed", range(4))
def test_a_chain_of_layers(seed: int) -> None:
    assert_close(measure(residual_chain(), mixed(residual_chain(), seed), SMALL, DEVICE, seed))


def test_a_network_with_residuals() -> None:
    assert_close(measure(tiny(), mixed(tiny(), 1), SMALL, DEVICE))


@pytest.mark.parametrize("part", range(4))
def test_random_networks(part: int) -> None:
    done, total, modelled = 0, 0, 0
    for seed in range(100 * part, 100 * part + 60):
        rng = np.random.default_rng(seed)
        try:
            found = measure_graph(random_networks.random_network(rng, 4), SMALL, DEVICE, seed)
        except BitloomError:
            continue  # too large for this build
        total, modelled = total + found.cycles, modelled + found.model.cycles
        assert found.model.cycles == pytest.approx(found.cycles, rel=0.02, abs=80), f"seed {seed}"
        layer, off = found.worst(least=800)
        assert abs(off) <= 0.03, f"seed {seed}, {layer}: {100 * off:+.1f} %"
        done += 1
        if done == 6:
            break
    assert done == 6
    assert modelled == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize("build", ["tiny", "small"])
def test_narrow_maps_cycle_by_cycle(build: str) -> None:
    """Maps of at most 8 pixels, where buffers, planes and drain wait for one another all the time. DDR without refresh.

    The sum within 0.3 %, each network within 0.5 % and 60 cycles. Of the layers behind the first, those that wait for
    no weights: 95 of 100 equal, each within 30 cycles (what is left: commands with many taps).
    """
    equal, layers, total, modelled = 0, 0, 0, 0
    for seed in range(500, 560):
        try:
            graph = random_networks.random_network(np.random.default_rng(seed), 4, largest_map=8)
            found = measure_graph(graph, named_arch(build), DEVICE, seed, refresh=False)
        except BitloomError:
            continue  # too large for this build
        assert found.model.cycles == pytest.approx(found.cycles, abs=60 + 0.005 * found.cycles), f"seed {seed}"
        total, modelled = total + found.cycles, modelled + found.model.cycles
        for layer in found.model.layers[1:]:
            causes = found.layers[layer.name]
            if not causes["weights"] and not causes["input"]:
                off = layer.cycles - sum(causes.values())
                assert abs(off) <= 30, f"seed {seed}, {layer.name}: {off}"
                equal, layers = equal + (off == 0), layers + 1
    assert layers > 200 and equal >= 0.95 * layers
    assert modelled == pytest.approx(total, rel=0.003)


def test_networks_with_tensors_in_ddr() -> None:
    """A memory of 64 rows, stripes with their own weights, loads and stores: each within 5 %, the sum within 3 %."""
    arch, done, total, modelled = ArchConfig("spill", 4, 16, 16, 2, 8, 8, 2048, 64), 0, 0, 0
    for number in range(24):
        graph = random_networks.random_network(np.random.default_rng((11, number)), largest_map=20)
        try:
            if not plan(graph, arch).scratch_bytes:
                continue
        except BitloomError:
            continue  # too large for this build
        found = measure_graph(graph, arch, DEVICE, number)
        assert found.model.cycles == pytest.approx(found.cycles, rel=0.05), f"number {number}"
        total, modelled, done = total + found.cycles, modelled + found.model.cycles, done + 1
    assert done >= 10
    assert modelled == pytest.approx(total, rel=0.03)


@pytest.mark.parametrize("batch", [2, 4])
def test_random_networks_in_batches(batch: int) -> None:
    """Small images: what is left of LOAD's time shows."""
    done, total, modelled = 0, 0, 0
    for seed in range(20):
        try:
            graph = random_networks.random_network(np.random.default_rng(seed), 4)
            found = measure_graph(graph, SMALL, DEVICE, seed, batch)
        except BitloomError:
            continue  # too large for this build
        total, modelled, done = total + found.cycles, modelled + found.model.cycles, done + 1
        assert found.model.cycles == pytest.approx(found.cycles, rel=0.03, abs=40), f"seed {seed}"
    assert done >= 15
    assert modelled == pytest.approx(total, rel=0.005)


def test_images_that_come_beside_the_first_layer() -> None:
    """A batch that is one layer long for every image: LOAD of the next is hidden behind it."""
    b = Builder("thin", (3, 24, 24))
    graph = b.graph(b.conv("x", 3, 16, 3))
    two, four = (measure(graph, mixed(graph, 0), SMALL, DEVICE, batch=n) for n in (2, 4))
    assert four.model.cycles == pytest.approx(four.cycles, rel=0.01, abs=25)
    waited = [{name: causes["input"] for name, causes in run.layers.items() if causes["input"]} for run in (two, four)]
    assert waited[0] == waited[1] and list(waited[0]) == ["load x"], "only the first image is waited for"


def test_the_causes_have_the_names_of_the_counters() -> None:
    found = measure(tiny(), mixed(tiny(), 2), SMALL, DEVICE)
    assert all(tuple(row) == CAUSES for row in found.layers.values())


def test_both_memories_have_the_same_figures() -> None:
    """The simulator's DDR and the model's: rate, latencies."""
    ddr = DdrTiming()
    assert ddr.efficiency == DEFAULT_TIMING.ddr_efficiency
    assert ddr.read_latency_ns == DEFAULT_TIMING.ddr_latency_ns
    assert ddr.write_latency_ns == DEFAULT_TIMING.ddr_write_latency_ns
    assert ddr.peak_gb_s == DEVICE.ddr_gb_per_s and ddr.clock_mhz == DEVICE.clock_mhz
