"""Images on a dask cluster: the same results as here, and an error where none answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from distributed import LocalCluster

from bitloom.errors import SimulationError
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.simulate.build import BuildOptions, SimBinary, build
from bitloom.simulate.cluster import run_on_cluster
from bitloom.simulate.job import FaultPlan, SimOptions, Workload
from bitloom.simulate.run import run_workload, workload_of
from bitloom.simulate.verify import verify_images
from bitloom.target.arch import named_arch
from random_networks import random_codes, random_network

TINY = named_arch("tiny")
BINARY = SimBinary(Path(__file__), "key", {}, BuildOptions(), False)  #: never run


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as local:
        yield local


def test_a_cluster_gives_the_same_results(
    cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = random_network(np.random.default_rng(1))
    program = lower(graph, plan(graph, TINY))
    rng = np.random.default_rng(2)
    images = [input_image(program, random_codes(rng, graph.tensors[graph.input].shape)) for _ in range(3)]
    binary = build(TINY)
    options = SimOptions(dump=True, stall_probability=0.1, processes=3)
    here = run_workload(workload_of(program), images, binary, options)
    monkeypatch.setenv("BITLOOM_CACHE", str(tmp_path))  # workers that have never seen this simulator
    there = run_workload(workload_of(program), images, binary, options, cluster.scheduler_address)
    assert [r.cycles for r in there.runs] == [r.cycles for r in here.runs]
    assert [r.output for r in there.runs] == [r.output for r in here.runs]
    assert (tmp_path / binary.key / binary.path.name).is_file()
    for a, b in zip(here.runs, there.runs, strict=True):
        for left, right in zip(a.commands, b.commands, strict=True):
            np.testing.assert_array_equal(left.words, right.words)


def test_a_verified_run_is_the_same_on_a_cluster(cluster: LocalCluster) -> None:
    graph = random_network(np.random.default_rng(3))
    program = lower(graph, plan(graph, TINY))
    images = torch.randn(4, *graph.tensors[graph.input].shape, generator=torch.Generator().manual_seed(0))
    here = verify_images(graph, program, images)
    there = verify_images(graph, program, images, cluster=cluster.scheduler_address)
    assert here["bit_exact"]
    for key in ("images", "layers_compared", "bit_exact", "classes", "cycles", "layer_cycles", "registers"):
        assert there[key] == here[key]


def test_errors_come_back(cluster: LocalCluster) -> None:
    graph = random_network(np.random.default_rng(1))
    program = lower(graph, plan(graph, TINY))
    image = input_image(program, random_codes(np.random.default_rng(2), graph.tensors[graph.input].shape))
    options = SimOptions(hardware_timeout=0, max_cycles=50_000, faults=(FaultPlan("stuck_data", "c", 3),))
    binary, workload = build(TINY), workload_of(program)
    with pytest.raises(SimulationError, match="the simulation timed out"):
        run_workload(workload, [image], binary, options, cluster.scheduler_address)
    with pytest.raises(SimulationError, match="no dask cluster answers at"):
        run_workload(workload, [image], binary, replace(options, faults=()), "127.0.0.1:1")


def test_a_cluster_without_workers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitloom.simulate.cluster._JOIN_S", 0.5)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty:
        place = empty.scheduler_address
        with pytest.raises(SimulationError, match=rf"cluster at '{place}' has no worker; start one with `dask worker"):
            run_on_cluster(place, Workload(0, b"", 0, 0), [b""], [(0, 1)], BINARY, SimOptions())


def test_what_a_worker_raises_is_told(cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BITLOOM_CACHE", str(tmp_path / "file"))
    place = cluster.scheduler_address
    with pytest.raises(
        SimulationError, match=rf"a worker of the dask cluster at '{place}' failed \(\w+Error: .*; every"
    ):
        run_on_cluster(place, Workload(0, b"", 0, 0), [b""], [(0, 1)], BINARY, SimOptions())
