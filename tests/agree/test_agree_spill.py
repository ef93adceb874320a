"""Tensors in DDR on RTL: a memory too small for the network, random stalls, every row of every tensor bit-exact."""

import numpy as np

import random_networks
from bitloom.errors import BitloomError
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.run import run_workload, workload_of
from bitloom.target.arch import ArchConfig

ARCH = ArchConfig("spill", 4, 16, 16, 2, 8, 8, 2048, 64)
COUNT = 25
SEED = 11


def test_networks_that_live_in_ddr_are_bit_exact_under_stalls():
    binary = build(ARCH, BuildOptions(fast=True))
    done = 0
    for number in range(40 * COUNT):
        rng = np.random.default_rng((SEED, number))
        qgraph = random_networks.random_network(rng, largest_map=20)
        try:
            made = plan(qgraph, ARCH)
        except BitloomError:
            continue
        if not made.scratch_bytes:
            continue
        program = lower(qgraph, made)
        codes = random_networks.random_codes(rng, qgraph.tensors[qgraph.input].shape)
        options = SimOptions(dump=True, seed=number, stall_probability=float(rng.choice([0.0, 0.2])))
        result = run_workload(workload_of(program), [input_image(program, codes)], binary, options)
        comparison = compare_run(program, result.runs[0], reference_tensors(qgraph, codes))
        assert comparison.exact, f"network {number}: {comparison.text()}"
        done += 1
        if done == COUNT:
            return
    raise AssertionError(f"only {done} of {COUNT} networks needed DDR and fitted")
