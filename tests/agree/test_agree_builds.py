"""Builds against each other: the DSP structure and its behavioural twin give the same bits in the same cycles, and the
full-size build runs layers like the small ones."""

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

SEED = 7


def cases(arch, count, **sizes):
    """(number, graph, program) of `count` random layers that fit."""
    found = 0
    for number in range(20 * count):
        qgraph = random_networks.random_layer(np.random.default_rng((SEED, number)), **sizes)
        try:
            program = lower(qgraph, plan(qgraph, arch))
        except BitloomError:
            continue
        yield number, qgraph, program
        found += 1
        if found == count:
            return
    pytest.fail(f"only {found} of {count} layers fit '{arch.name}'")


def run(number, qgraph, program, binary):
    codes = random_networks.random_codes(np.random.default_rng(number), qgraph.tensors[qgraph.input].shape)
    options = SimOptions(dump=True, seed=number, stall_probability=0.1)
    result = run_workload(workload_of(program), [input_image(program, codes)], binary, options).runs[0]
    comparison = compare_run(program, result, reference_tensors(qgraph, codes))
    assert comparison.exact, f"layer {number}: {comparison.text()}"
    return result


def test_dsp_structure_equals_its_twin_bit_for_bit_and_cycle_for_cycle():
    arch = named_arch("tiny")
    structure, twin = build(arch, BuildOptions(fast=False)), build(arch, BuildOptions(fast=True))
    for number, qgraph, program in cases(arch, 40):
        one, other = run(number, qgraph, program, structure), run(number, qgraph, program, twin)
        assert one.cycles == other.cycles and one.registers == other.registers, f"layer {number}"


def test_layers_on_the_full_size_build():
    arch = named_arch("full")
    binary = build(arch, BuildOptions(fast=True))
    for number, qgraph, program in cases(arch, 12, largest_map=30, largest_channels=150):
        run(number, qgraph, program, binary)
