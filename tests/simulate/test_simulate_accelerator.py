"""The real accelerator in the harness: random networks equal the integer reference; stalls, slow memory and faults."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from bitloom.errors import SimulationError
from bitloom.graph.qgraph import Int8Array, QConcat, QuantGraph
from bitloom.program.commands import ErrorCode
from bitloom.program.container import Program
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.simulate.build import BuildOptions, SimBinary, build
from bitloom.simulate.compare import OUTPUT, compare_run, reference_tensors
from bitloom.simulate.job import DdrTiming, FaultPlan, SimOptions
from bitloom.simulate.run import run_workload, simulate, workload_of
from bitloom.target.arch import named_arch
from random_networks import random_codes, random_network

TINY = named_arch("tiny")
OPTIONS = SimOptions(dump=True, hardware_timeout=5000, max_cycles=500_000)


@dataclass(frozen=True, eq=False)
class Case:
    graph: QuantGraph
    program: Program
    images: Int8Array

    def check(self, runs: tuple[object, ...], image: int) -> None:
        expected = reference_tensors(self.graph, self.images[image])
        found = compare_run(self.program, runs[image], expected)  # type: ignore[arg-type]
        assert found.exact, found.text()
        computed = {n.output for n in self.graph.nodes if not isinstance(n, QConcat)}
        assert computed | {OUTPUT} <= set(found.tensors), "every layer must have been compared"


def case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    graph = random_network(rng)
    images = np.stack([random_codes(rng, graph.tensors[graph.input].shape) for _ in range(2)])
    return Case(graph, lower(graph, plan(graph, TINY)), images)


@pytest.fixture(scope="module")
def binary() -> SimBinary:
    return build(TINY, BuildOptions())


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5])
def test_networks_equal_the_reference_layer_by_layer(binary: SimBinary, seed: int) -> None:
    what = case(seed)
    result = simulate(
        what.program, what.images, binary, replace(OPTIONS, seed=seed, stall_probability=0.1 * (seed % 3))
    )
    for image in range(2):
        what.check(result.runs, image)
        assert (result.outputs[image] == reference_tensors(what.graph, what.images[image])[OUTPUT]).all()
        run = result.runs[image]
        causes = [v for k, v in run.registers.items() if k.startswith("CYCLES_") and k != "CYCLES_TOTAL"]
        assert sum(causes) == run.cycles == result.cycles[image], "every cycle has one cause"
        assert run.registers["BEATS_WEIGHTS"] == sum(len(w) for w in what.program.weights) // 16


def test_slow_memory_costs_time_and_changes_nothing(binary: SimBinary) -> None:
    what = case(5)
    slow = DdrTiming(efficiency=0.03, read_latency_ns=1000.0, refresh_ns=2000.0, outstanding=1)
    fast, late = (simulate(what.program, what.images, binary, replace(OPTIONS, timing=t)) for t in (DdrTiming(), slow))
    what.check(late.runs, 1)
    waited = [result.runs[0].registers["CYCLES_WEIGHTS"] for result in (fast, late)]
    assert late.cycles[0] > 1.5 * fast.cycles[0] and waited[1] > waited[0] + 1000


@pytest.mark.parametrize(
    ("fault", "errors"),
    [
        (FaultPlan("response", "w0", 20), {ErrorCode.AXI_WEIGHTS}),
        (FaultPlan("early_last", "w0", 20), {ErrorCode.AXI_WEIGHTS}),
        (FaultPlan("late_last", "w0", 20), {ErrorCode.AXI_WEIGHTS}),
        (FaultPlan("stuck_address", "w0", 1), {ErrorCode.TIMEOUT}),
        (FaultPlan("stuck_data", "w0", 20), {ErrorCode.TIMEOUT}),
        (FaultPlan("response", "c", 20), {ErrorCode.AXI_COMMAND}),
        (FaultPlan("early_last", "c", 20), {ErrorCode.AXI_COMMAND}),
        (FaultPlan("late_last", "c", 20), {ErrorCode.AXI_COMMAND}),
        (FaultPlan("stuck_data", "c", 20), {ErrorCode.TIMEOUT}),
        (FaultPlan("response", "d", 2), {ErrorCode.AXI_DATA_READ}),
        (FaultPlan("early_last", "d", 2), {ErrorCode.AXI_DATA_READ}),
        (FaultPlan("late_last", "d", 2), {ErrorCode.AXI_DATA_READ}),
        (FaultPlan("stuck_address", "d", 0), {ErrorCode.TIMEOUT}),
        (FaultPlan("response", "d", 0, write=True), {ErrorCode.AXI_DATA_WRITE}),
        (FaultPlan("stuck_address", "d", 0, write=True), {ErrorCode.TIMEOUT}),
        (FaultPlan("stuck_data", "d", 0, write=True), {ErrorCode.TIMEOUT}),
        (FaultPlan("stuck_response", "d", 0, write=True), {ErrorCode.TIMEOUT}),
    ],
    ids=lambda value: f"{value.kind}-{value.port}{'w' if value.write else ''}" if isinstance(value, FaultPlan) else "",
)
def test_after_a_fault_the_next_image_is_exact(binary: SimBinary, fault: FaultPlan, errors: set[ErrorCode]) -> None:
    what = case(1)
    result = simulate(what.program, what.images, binary, replace(OPTIONS, faults=(fault,)))
    assert result.runs[0].fired == (True,) and result.runs[0].error in errors
    assert result.runs[1].error is ErrorCode.NONE
    what.check(result.runs, 1)


def test_a_truncated_command_stream_ends_in_an_error_code(binary: SimBinary) -> None:
    what = case(1)
    workload = workload_of(what.program)
    short = replace(workload, command_beats=workload.command_beats - 3)
    with pytest.raises(SimulationError, match=r"image 0: the accelerator stopped with error 3 \(BAD_FIELD\)"):
        run_workload(short, [input_image(what.program, what.images[0])], binary, OPTIONS)


def test_a_corrupted_weight_is_located(binary: SimBinary) -> None:
    what = case(2)
    stream = bytearray(what.program.weights[0])
    stream[16 + 16 * (len(stream) // 48)] ^= 0x10
    run = simulate(replace(what.program, weights=(bytes(stream),)), what.images[:1], binary, OPTIONS).runs[0]
    found = compare_run(what.program, run, reference_tensors(what.graph, what.images[0]))
    assert found.first is not None and found.first.expected != found.first.got
    assert f"first difference in '{found.first.tensor}': channel {found.first.channel}, pixel" in found.text()


def test_a_run_without_dumps_cannot_be_compared(binary: SimBinary) -> None:
    what = case(1)
    run = simulate(what.program, what.images[:1], binary, replace(OPTIONS, dump=False)).runs[0]
    with pytest.raises(SimulationError, match=r"the run holds no dumps; simulate with SimOptions\(dump=True\)"):
        compare_run(what.program, run, reference_tensors(what.graph, what.images[0]))


def test_a_program_of_another_architecture_is_refused(binary: SimBinary) -> None:
    what = case(1)
    other = replace(what.program, arch=named_arch("small"))
    with pytest.raises(SimulationError, match=r"the simulator was built for 0x51ffe63f; build it from the program's"):
        simulate(other, what.images, binary)
