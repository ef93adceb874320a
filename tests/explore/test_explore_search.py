"""The search: equal to brute force on a small space, fronts without dominated points, honest refusals."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from explore_networks import resnet, tiny

from bitloom.errors import TargetError
from bitloom.explore import explorer
from bitloom.explore.explorer import explore
from bitloom.explore.layers import Network, network
from bitloom.explore.performance import Performance, performance
from bitloom.explore.planned import planned_performance
from bitloom.explore.resources import Margins, excess, resources
from bitloom.explore.search import URAM_IN_BRAM36, floor_cycles, search
from bitloom.explore.space import Space
from bitloom.explore.timing import Timing
from bitloom.graph.allocation import uniform
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QuantGraph
from bitloom.program.plan import Plan, plan
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import NAMED, ArchConfig
from bitloom.target.device import Device, load_device

DEVICE = load_device("xc7z020")
SMALL = Space(
    pixels=(2, 4), channels=(4, 8), vectors=(8, 16), acc_groups=(8, 16), drain_channels=(1, 2, 4),
    ring_words=(512, 1024), weight_ports=(1, 2), act_rows=(512, 1024), least_dsp=0.1,
)  # fmt: skip
Goals = tuple[float, int, int, int]


def net(graph: Graph, bits: int) -> Network:
    return network(skeleton(graph, uniform(graph, bits).bits))


def brute_force(networks: list[Network], space: Space) -> dict[ArchConfig, Goals]:
    """Goals of every feasible architecture, one call of the models each."""
    found: dict[ArchConfig, Goals] = {}
    for p, c, m in itertools.product(space.pixels, space.channels, space.vectors):
        array = p * c * m // 4 * DEVICE.dsps_per_quad
        if m % c or not space.least_dsp * DEVICE.dsp <= array <= DEVICE.dsp:
            continue
        for t, dc, ring, wp, rows in itertools.product(
            space.acc_groups, space.drain_channels, space.ring_words, space.weight_ports, space.act_rows
        ):
            arch = ArchConfig("x", p, c, m, wp, dc, t, ring, rows, space.tap_entries)
            need = resources(arch, DEVICE)
            if excess(need, DEVICE, Margins()):
                continue
            try:
                cycles = [performance(n, arch, DEVICE).cycles for n in networks]
            except TargetError:
                continue
            score = sum(x / floor_cycles(n, DEVICE) for x, n in zip(cycles, networks, strict=True)) / len(networks)
            found[arch] = (score, need.dsp, need.lut, need.bram36 + URAM_IN_BRAM36 * need.uram)
    return found


def dominates(a: Goals, b: Goals) -> bool:
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


def test_best_and_front_equal_brute_force() -> None:
    networks = [net(tiny(), 4), net(tiny(), 7)]
    every = brute_force(networks, SMALL)
    assert len(every) > 50
    result = search(networks, DEVICE, SMALL, slack=0.0)
    assert result.best.goals == pytest.approx(min(every.values()))
    front = {g for g in every.values() if not any(dominates(o, g) for o in every.values())}
    mine = sorted(p.goals for p in result.front)
    assert len(mine) == len(front)
    assert all(a == pytest.approx(b) for a, b in zip(mine, sorted(front), strict=True))


def test_the_best_is_the_same_when_only_it_is_asked_for() -> None:
    networks = [net(tiny(), 4)]
    whole, quick = search(networks, DEVICE, SMALL, slack=0.0), search(networks, DEVICE, SMALL, front=False)
    assert quick.best.goals == whole.best.goals
    assert quick.evaluated + quick.skipped == whole.evaluated + whole.skipped
    assert quick.skipped == 0 or quick.bound > quick.best.score


def test_slack_leaves_out_only_what_another_nearly_equals() -> None:
    networks = [net(tiny(), 4)]
    exact, loose = search(networks, DEVICE, SMALL, slack=0.0), search(networks, DEVICE, SMALL, slack=0.1)
    assert len(loose.front) <= len(exact.front)
    for p in exact.front:
        relaxed = (p.score * 1.1, *p.goals[1:])
        assert any(all(x <= y + 1e-9 for x, y in zip(q.goals, relaxed, strict=True)) for q in loose.front)


def test_the_points_of_the_front_are_what_the_models_say() -> None:
    networks = [net(tiny(), 4)]
    for point in search(networks, DEVICE, SMALL).front:
        assert point.cycles == (performance(networks[0], point.arch, DEVICE).cycles,)
        assert point.resources == resources(point.arch, DEVICE)
        assert not excess(point.resources, DEVICE, Margins())


def test_resnet18_on_the_large_device_reaches_the_speed_goal() -> None:
    space = Space(channels=(16, 32), vectors=(32, 64), acc_groups=(16, 32), drain_channels=(16, 32), least_dsp=0.8)
    result = search([net(resnet(18), 4)], load_device("xczu15eg"), space, front=False)
    assert result.best.cycles[0] <= 200_000
    assert result.best.arch.array_dsps >= 0.8 * 3528


def test_a_network_that_fits_no_architecture_is_refused() -> None:
    with pytest.raises(TargetError, match=r"resnet18: no architecture of the space fits device 'xc7z020' \(220 DSP"):
        search([net(resnet(18), 4)], DEVICE, SMALL)


def test_a_device_without_room_is_refused() -> None:
    with pytest.raises(TargetError, match=r"tiny: no architecture of the space fits device 'xc7z020' .*700 LUT"):
        search([net(tiny(), 4)], replace(DEVICE, lut=700), SMALL)


def test_nothing_to_explore() -> None:
    with pytest.raises(TargetError, match="no network to explore"):
        search([], DEVICE, SMALL)


def test_a_build_with_tensors_in_ddr_costs_what_its_plan_costs() -> None:
    """ResNet-18 at 224x224 in a memory of 2048 rows: two of its tensors live in DDR."""
    arch = replace(NAMED["full"], act_rows=2048)
    bits = uniform(resnet(18), 4).bits
    planned = plan(skeleton(resnet(18), bits), arch)
    assert planned.scratch_bytes
    run = explore(resnet(18), "xczu15eg", bits, arch).run
    assert run.cycles == planned_performance(planned, load_device("xczu15eg")).cycles
    assert run.cycles > 2 * explore(resnet(18), "xczu15eg", bits, NAMED["full"]).run.cycles


def test_transfers_of_spilled_tensors_count_in_the_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = uniform(tiny(), 4).bits
    assert explore(tiny(), DEVICE, bits, space=SMALL).arch.act_rows == 512
    real = explorer.planned_performance

    def spilled(qgraph: QuantGraph, arch: ArchConfig) -> Plan:
        return replace(plan(qgraph, arch), scratch_bytes=16 if arch.act_rows == 512 else 0)

    def slow(planned: Plan, device: Device, timing: Timing) -> Performance:
        run = real(planned, device, timing)
        return replace(run, frame={**run.frame, "transfers": 10_000})

    monkeypatch.setattr(explorer, "_plan", spilled)
    monkeypatch.setattr(explorer, "planned_performance", slow)
    assert explore(tiny(), DEVICE, bits, space=SMALL).arch.act_rows == 1024
    only = explore(tiny(), DEVICE, bits, space=replace(SMALL, act_rows=(512,)))
    assert only.arch.act_rows == 512 and only.run.cycles > 10_000
    assert only.found is not None and only.found.best.cycles == (only.run.cycles,)
