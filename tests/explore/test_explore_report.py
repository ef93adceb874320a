"""explore(): one call, JSON-able facts, pictures that show what they should, energy named an estimate."""

from __future__ import annotations

import json

import numpy as np
import pytest
from explore_networks import resnet, tiny

from bitloom.errors import BudgetError, TargetError
from bitloom.explore import explorer
from bitloom.explore.energy import ENERGY
from bitloom.explore.explorer import Exploration, explore
from bitloom.explore.space import Space
from bitloom.graph.allocation import uniform
from bitloom.graph.qgraph import QuantGraph
from bitloom.program.plan import Plan, plan
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import NAMED, ArchConfig

SPACE = Space(pixels=(2, 4), channels=(8,), vectors=(8, 16), ring_words=(512,), act_rows=(1024,), least_dsp=0.1)


@pytest.fixture(scope="module")
def found() -> Exploration:
    return explore(tiny(), "xc7z020", uniform(tiny(), 4).bits, space=SPACE)


def test_the_record_is_json_and_adds_up(found: Exploration) -> None:
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["device"] == "xc7z020" and record["network"] == "tiny"
    assert sum(record["cycles_by_cause"].values()) == record["cycles"]
    assert sum(x["cycles"] for x in record["layers"]) < record["cycles"]
    assert record["search"]["best"]["cycles"] == [record["cycles"]]
    assert record["over"] == {} and record["search"]["front"]
    assert record["cycles"] >= record["floor_cycles"]


def test_energy_is_an_estimate_with_sources(found: Exploration) -> None:
    energy = found.record()["energy"]
    assert energy["estimate"] is True
    assert energy["millijoules"] == pytest.approx(sum(energy["parts_mj"].values()))
    assert energy["watts"] == pytest.approx(energy["millijoules"] / found.run.milliseconds)
    assert set(energy["sources"]) == set(ENERGY) and all(len(s) > 20 for s in energy["sources"].values())


def test_layers_stay_under_the_array_roof() -> None:
    roof = explore(resnet(18), "xczu15eg", uniform(resnet(18), 4).bits, arch=NAMED["full"]).roof
    assert roof.peak == 12288 and roof.slope == pytest.approx(54.4)
    assert all(0 < p.macs_per_cycle <= roof.peak for p in roof.points)
    assert roof.attainable(1.0) == pytest.approx(54.4) and roof.attainable(1e9) == roof.peak
    assert sum(p.share for p in roof.points) < 1


def test_a_given_architecture_that_does_not_fit_says_so() -> None:
    result = explore(tiny(), "xc7z020", uniform(tiny(), 4).bits, arch=NAMED["full"])
    assert result.found is None and result.over["dsp"][0] > 220
    assert result.record()["over"]["dsp"][1] == 220


def test_unknown_device_and_foreign_bits() -> None:
    with pytest.raises(TargetError, match="unknown device 'zcu999'; legal: "):
        explore(tiny(), "zcu999", uniform(tiny(), 4).bits)
    with pytest.raises(BudgetError):
        explore(tiny(), "xc7z020", {"conv1": np.full(8, 4, np.int8)}, space=SPACE)


def test_the_chosen_build_holds_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no memory plan fits the best build, the next best is taken."""
    first = explore(tiny(), "xc7z020", uniform(tiny(), 4).bits, space=SPACE).arch
    asked: list[ArchConfig] = []

    def refuse_first(qgraph: QuantGraph, arch: ArchConfig) -> Plan | None:
        asked.append(arch)
        return None if arch == first else plan(qgraph, arch)

    monkeypatch.setattr(explorer, "_plan", refuse_first)
    second = explore(tiny(), "xc7z020", uniform(tiny(), 4).bits, space=SPACE).arch
    assert list(dict.fromkeys(asked)) == [first, second]
    plan(skeleton(tiny(), uniform(tiny(), 4).bits), second)
