"""Grouped and depthwise convolutions on RTL, random stalls: every tensor of every network bit-exact."""

import numpy as np
import pytest

import random_networks
from bitloom.errors import BitloomError
from bitloom.graph.qgraph import QConcat
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.run import run_workload, workload_of
from bitloom.target.arch import named_arch

SEED = 5


def check(qgraph, arch, binary, number, batch=1):
    rng = np.random.default_rng(number)
    program = lower(qgraph, plan(qgraph, arch, batch))
    codes = np.stack([random_networks.random_codes(rng, qgraph.tensors[qgraph.input].shape) for _ in range(batch)])
    options = SimOptions(dump=True, seed=number, stall_probability=float(rng.choice([0.0, 0.1, 0.4])))
    result = run_workload(workload_of(program), [input_image(program, codes)], binary, options).runs[0]
    comparison = compare_run(program, result, reference_tensors(qgraph, codes))
    assert comparison.exact, f"network {number}: {comparison.text()}"
    assert {n.output for n in qgraph.nodes if not isinstance(n, QConcat)} <= set(comparison.tensors)


@pytest.mark.parametrize("build_name", ["tiny", "small", "full"])
def test_inverted_residuals(build_name):
    """1×1, depthwise 3×3 in several commands, 1×1 with the input added; the same with stride 2 and nothing added."""
    arch = named_arch(build_name)
    binary = build(arch, BuildOptions(fast=True))
    for number, stride in enumerate((1, 2)):
        make = random_networks.NetworkMaker(np.random.default_rng((SEED, number)), (24, 11, 9))
        first = random_networks.inverted_residual(make, "image", 3 * arch.vector - 5, 24, stride)
        graph = make.graph("block", random_networks.inverted_residual(make, first, 2 * arch.vector, 24, 1))
        check(graph, arch, binary, number)


def test_random_networks_and_batches():
    arch = named_arch("small")
    binary = build(arch, BuildOptions(fast=True))
    done = 0
    for number in range(100):
        rng = np.random.default_rng((SEED, number))
        try:
            check(random_networks.random_grouped(rng, 4), arch, binary, number, int(rng.integers(1, 4)))
        except BitloomError:
            continue  # too large for this build
        done += 1
        if done == 25:
            return
    pytest.fail(f"only {done} of 25 networks fit the build")
