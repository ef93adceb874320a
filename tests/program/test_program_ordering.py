"""Renumbered channels: the same function, wide channels together, lanes evenly filled."""

from __future__ import annotations

import numpy as np
import pytest

import random_networks
from bitloom.graph.qgraph import QConcat, QConv, QPool, QuantGraph
from bitloom.program.ordering import choose_order, reorder, tied_tensors
from bitloom.reference.fast import run_fast
from bitloom.target.arch import ArchConfig, named_arch

ARCH = ArchConfig("narrow", 2, 4, 8, 1, 4, 8, 512, 2048)


def vectors_of_two_passes(qgraph: QuantGraph, arch: ArchConfig) -> int:
    count = 0
    for node in qgraph.nodes:
        if isinstance(node, QConv):
            wide = np.zeros(-(-node.bits.size // arch.vector) * arch.vector, np.bool_)
            wide[: node.bits.size] = node.bits >= 6
            count += int(wide.reshape(-1, arch.vector).any(axis=1).sum())
    return count


@pytest.mark.parametrize("seed", range(30))
def test_the_function_stays_the_same_bit_for_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    qgraph = random_networks.random_network(rng, 4)
    order = choose_order(qgraph, ARCH)
    ordered = reorder(qgraph, order)
    codes = random_networks.random_codes(rng, qgraph.tensors[qgraph.input].shape)[None]
    before, after = run_fast(qgraph, codes, qgraph.tensors), run_fast(ordered, codes, qgraph.tensors)
    for name in qgraph.tensors:
        expected = before[name][:, order[name]] if name in order else before[name]
        np.testing.assert_array_equal(after[name], expected)
    assert qgraph.output not in order and qgraph.input not in order


@pytest.mark.parametrize("seed", range(10))
def test_every_order_is_a_permutation_shared_by_the_tied(seed: int) -> None:
    qgraph = random_networks.random_network(np.random.default_rng(seed), 5)
    order, ties = choose_order(qgraph, ARCH), tied_tensors(qgraph)
    for name, index in order.items():
        np.testing.assert_array_equal(np.sort(index), np.arange(qgraph.tensors[name].shape[0]))
    for node in qgraph.nodes:
        if isinstance(node, QConcat):
            assert all(ties[name] is None for name in (*node.inputs, node.output))
        elif node.residual is not None:
            assert ties[node.residual] == ties[node.output]
        if isinstance(node, QPool):
            assert ties[node.input] == ties[node.output]


def test_some_network_is_reordered_and_none_takes_more_passes_where_nothing_is_tied() -> None:
    fewer = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        maker = random_networks.NetworkMaker(rng, (3, 6, 6))
        x = "image"
        for _ in range(3):
            x = maker.conv(x, int(rng.integers(9, 40)), (3, 3), (1, 1), (1, 1, 1, 1), None)
        qgraph = QuantGraph("chain", maker.tensors, tuple(maker.nodes), "image", x)
        ordered = reorder(qgraph, choose_order(qgraph, ARCH))
        inner = [n for n in ordered.nodes[:-1] if isinstance(n, QConv)]
        for node in inner:
            wide = int((node.bits >= 6).sum())
            blocks = sum((node.bits[i : i + 8] >= 6).any() for i in range(0, node.bits.size, 8))
            assert blocks == -(-wide // 8)
        assert vectors_of_two_passes(ordered, ARCH) <= vectors_of_two_passes(qgraph, ARCH)
        fewer += vectors_of_two_passes(ordered, ARCH) < vectors_of_two_passes(qgraph, ARCH)
    assert fewer > 10


def test_lanes_are_filled_more_evenly() -> None:
    rng = np.random.default_rng(5)
    maker = random_networks.NetworkMaker(rng, (8, 6, 6))
    x = "image"
    for _ in range(6):
        x = maker.conv(x, 48, (3, 3), (1, 1), (1, 1, 1, 1), None)
    qgraph = QuantGraph("chain", maker.tensors, tuple(maker.nodes), "image", x)
    arch = named_arch("small")

    def spread(g: QuantGraph) -> float:
        load = np.zeros(arch.vector)
        for node in g.nodes:
            assert isinstance(node, QConv)
            words = node.bits.astype(np.int64) * int(np.prod(node.weight.shape[1:]))
            load += words.reshape(-1, arch.vector).sum(axis=0)
        return float(load.max() / load.mean())

    assert spread(reorder(qgraph, choose_order(qgraph, arch))) < spread(qgraph)
