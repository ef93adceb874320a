"""Random layers and networks: RTL simulation = integer reference, tensor by tensor, under random AXI stalls."""

import os

import numpy as np
import pytest

import random_networks
from bitloom.errors import BitloomError
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.run import run_workload, workload_of
from bitloom.target.arch import named_arch

COUNT = 200
SEED = int(os.environ.get("BITLOOM_SEED", "20261124"))


@pytest.fixture(scope="module")
def machine():
    arch = named_arch("small")
    return arch, build(arch, BuildOptions(fast=True))


@pytest.mark.parametrize("part", range(8))
def test_random_layers_are_bit_exact_under_stalls(machine, part):
    arch, binary = machine
    done = 0
    for number in range(part * 1000, part * 1000 + 900):
        rng = np.random.default_rng((SEED, number))
        qgraph = random_networks.random_network(rng, 3) if number % 5 == 0 else random_networks.random_layer(rng)
        try:
            program = lower(qgraph, plan(qgraph, arch))
        except BitloomError:
            continue  # too large for this build: tested with the planner
        codes = random_networks.random_codes(rng, qgraph.tensors[qgraph.input].shape)
        options = SimOptions(dump=True, seed=number, stall_probability=float(rng.choice([0.0, 0.1, 0.4])))
        result = run_workload(workload_of(program), [input_image(program, codes)], binary, options)
        comparison = compare_run(program, result.runs[0], reference_tensors(qgraph, codes))
        assert comparison.exact, f"BITLOOM_SEED={SEED}, network {number}: {comparison.text()}"
        registers = result.runs[0].registers
        causes = ("COMPUTE", "WEIGHTS", "PLANES", "DRAIN", "INPUT", "CONTROL")
        assert sum(registers[f"CYCLES_{c}"] for c in causes) == registers["CYCLES_TOTAL"]
        done += 1
        if done == COUNT // 8:
            return
    pytest.fail(f"only {done} of {COUNT // 8} networks fit the build")


def test_random_batches_are_bit_exact_under_stalls(machine):
    """Two to four images share a run; some networks have layers on all images at once."""
    arch, binary = machine
    done = stacked = 0
    for number in range(8000, 8200):
        rng = np.random.default_rng((SEED, number))
        qgraph = random_networks.random_network(rng, 5)
        batch = int(rng.integers(2, 5))
        try:
            made = plan(qgraph, arch, batch)
            program = lower(qgraph, made)
        except BitloomError:
            continue
        codes = np.stack([random_networks.random_codes(rng, qgraph.tensors[qgraph.input].shape) for _ in range(batch)])
        options = SimOptions(dump=True, seed=number, stall_probability=float(rng.choice([0.0, 0.1, 0.4])))
        result = run_workload(workload_of(program), [input_image(program, codes)], binary, options)
        comparison = compare_run(program, result.runs[0], reference_tensors(qgraph, codes))
        assert comparison.exact, f"BITLOOM_SEED={SEED}, network {number}, batch {batch}: {comparison.text()}"
        stacked += any(getattr(step, "image_rows", None) for step in made.steps)
        done += 1
        if done == 30:
            break
    assert done == 30 and stacked >= 10
