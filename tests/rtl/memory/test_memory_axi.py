"""bl_axi_reader and bl_axi_writer against a memory that checks the protocol, stalls at random and can fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_bench import HERE, CppBench

BENCH = CppBench("tb_axi", HERE / "bench_axi.cpp", extra=(HERE / "tb_axi.sv",))


@pytest.mark.parametrize(("latency", "stall"), [(1, 0), (20, 30), (60, 60)])
@pytest.mark.parametrize("seed", [1, 2])
def test_random_regions_arrive_exactly(tmp_path: Path, seed: int, latency: int, stall: int) -> None:
    """Regions of any length and offset, many across 4 KiB; the memory rejects a burst that crosses."""
    assert BENCH.run(tmp_path, "random", seed, latency, stall)["beats"] > 3000


def test_sixty_cycles_of_latency_cost_no_throughput(tmp_path: Path) -> None:
    """3000 beats take 3000 cycles plus the latency once, reading and writing."""
    cycles = BENCH.run(tmp_path, "speed", 1, 60, 0)
    assert cycles["read_cycles"] <= 3000 + 60 + 12
    assert cycles["write_cycles"] <= 3000 + 60 + 40


def test_empty_region_is_done_at_once(tmp_path: Path) -> None:
    BENCH.run(tmp_path, "empty", 1, 10, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_flush_leaves_no_burst_open(tmp_path: Path, seed: int) -> None:
    BENCH.run(tmp_path, "flush", seed, 20, 20)


def test_start_while_busy_is_an_error(tmp_path: Path) -> None:
    BENCH.run(tmp_path, "busy", 1, 10, 0)


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_are_reported_and_survived(tmp_path: Path, seed: int) -> None:
    """Bad response, early, late and missing last beats, a stuck ready: error, flush, and the next region is exact."""
    BENCH.run(tmp_path, "faults", seed, 15, 20)
