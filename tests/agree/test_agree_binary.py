"""Binary channels (codes -1 and 1) among all other widths: RTL simulation = reference, under random AXI stalls."""

from dataclasses import replace

import numpy as np

import random_networks
from bitloom.graph.qgraph import QConv
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.run import run_workload, workload_of
from bitloom.target.arch import named_arch

SEED = 11


def whole_network(rng, channels):
    """Convolutions with whole lanes only (a strided block with a residual, a concatenation, a dense layer), about half
    of the channels binary, and none of them in use beside other widths in some layers."""
    size = (int(rng.integers(4, 12)), int(rng.integers(4, 12)))
    make = random_networks.NetworkMaker(rng, (2 * channels, *size))
    wide = lambda: channels * int(rng.integers(1, 4))  # noqa: E731
    live = make.conv("image", wide(), (3, 3), (1, 1), (1, 1, 1, 1), None)
    cout = wide()
    side = make.conv(live, cout, (1, 1), (2, 2), (0, 0, 0, 0), None)
    inner = make.conv(live, wide(), (3, 3), (2, 2), (1, 1, 1, 1), None)
    live = make.conv(inner, cout, (3, 3), (1, 1), (1, 1, 1, 1), side)
    parts = tuple(make.conv(live, wide(), (k, k), (1, 1), (k // 2,) * 4, None) for k in (1, 3))
    live = make.pool(make.concat(parts), True, (2, 2), (1, 1), (0, 1, 0, 1), None)
    _, h, w = make.tensors[live].shape
    live = make.conv(live, int(rng.integers(2, 12)), (h, w), (1, 1), (0, 0, 0, 0), None)
    for at, node in enumerate(make.nodes):
        if isinstance(node, QConv):
            chosen = (node.bits >= 2) & (rng.random(len(node.bits)) < rng.choice([0.3, 0.7, 1.0]))
            signs = rng.choice(np.array([-1, 1], np.int8), node.weight.shape)
            weight = np.where(chosen[:, None, None, None], signs, node.weight)
            make.nodes[at] = replace(node, weight=weight, bits=np.where(chosen, 1, node.bits).astype(np.int8))
    return make.graph("binary", live)


def test_networks_with_binary_channels_are_bit_exact_under_stalls():
    arch = named_arch("small")
    binary = build(arch, BuildOptions(fast=True))
    widths = set()
    for number in range(25):
        rng = np.random.default_rng((SEED, number))
        qgraph = whole_network(rng, arch.channels)
        widths |= {int(b) for node in qgraph.nodes if isinstance(node, QConv) for b in node.bits}
        program = lower(qgraph, plan(qgraph, arch))
        codes = random_networks.random_codes(rng, qgraph.tensors[qgraph.input].shape)
        options = SimOptions(dump=True, seed=number, stall_probability=float(rng.choice([0.0, 0.1, 0.4])))
        result = run_workload(workload_of(program), [input_image(program, codes)], binary, options).runs[0]
        comparison = compare_run(program, result, reference_tensors(qgraph, codes))
        assert comparison.exact, f"network {number}: {comparison.text()}"
    assert widths == set(range(9))
