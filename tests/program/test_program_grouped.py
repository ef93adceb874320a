"""Grouped and depthwise convolutions: which chunks a command reads, and every tensor against the reference."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_program_machine import ARCHS, check_exact, with_fewer_rows

from bitloom.errors import ProgramError
from bitloom.graph.ir import Conv, Graph, Input, Node
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.program.binary import binary_layers
from bitloom.program.inputs import output_codes
from bitloom.program.lower import input_image, lower
from bitloom.program.machine import run_machine
from bitloom.program.ordering import choose_order, reorder, tied_tensors
from bitloom.program.plan import Plan, plan
from bitloom.program.regions import slots
from bitloom.program.spans import Span, spans
from bitloom.program.steps import EngineStep
from bitloom.reference.fast import run_fast
from bitloom.target.arch import ArchConfig, named_arch
from random_networks import NetworkMaker, inverted_residual, random_codes, random_grouped

BUILDS = (*ARCHS, *(named_arch(name) for name in ("tiny", "small", "mid", "full")))


def engine(made: Plan, name: str) -> list[EngineStep]:
    return [s for s in made.steps if isinstance(s, EngineStep) and s.name == name]


def planned(graph: QuantGraph, arch: ArchConfig) -> Plan:
    """With a ring that holds any of these layers."""
    return plan(graph, replace(arch, ring_words=max(arch.ring_words, 8192)))


def test_a_depthwise_layer_is_a_command_a_vector() -> None:
    assert spans(160, (160,), (160,), 32, 64) == (Span(0, 1, 0, 2), Span(1, 1, 2, 2), Span(2, 1, 4, 1))


def test_a_dense_layer_is_one_command() -> None:
    assert spans(1, (160,), (160,), 32, 64) == (Span(0, 3, 0, 5),)
    assert spans(1, (20, 7), (40, 100), 32, 64) == (Span(0, 3, 0, 2),)


def test_vectors_that_read_the_same_chunks_share_a_command() -> None:
    assert spans(2, (64,), (256,), 32, 64) == (Span(0, 2, 0, 1), Span(2, 2, 1, 1))
    assert spans(4, (12,), (64,), 4, 8) == (Span(0, 2, 0, 1), Span(2, 2, 0, 2), Span(4, 2, 1, 2), Span(6, 2, 2, 1))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_command_reads_the_chunks_of_its_groups_and_no_others(data: st.DataObject) -> None:
    channels = data.draw(st.sampled_from([4, 8, 16]))
    vector = channels * data.draw(st.sampled_from([1, 2, 4]))
    groups, width, rows = (data.draw(st.integers(1, n)) for n in (12, 9, 9))

    def cut(total: int) -> tuple[int, ...]:
        first = data.draw(st.integers(1, total))
        return (first, total - first) if first < total else (total,)

    source, target = cut(groups * width), cut(groups * rows)
    found = spans(groups, source, target, channels, vector)
    read, written = slots(source, channels) // channels, slots(target, channels) // vector
    needed: dict[int, set[int]] = {}
    for channel, at in enumerate(written):
        group = channel // rows
        needed.setdefault(int(at), set()).update(read[group * width : (group + 1) * width].tolist())
    theirs = [s for s in found for _ in range(s.vectors)]
    assert [s.first_vector for s in found] == np.cumsum([0, *(s.vectors for s in found)])[:-1].tolist()
    assert len(theirs) == len(needed)
    for vector_index, span in enumerate(theirs):
        chunks = needed[vector_index]
        assert (span.first_chunk, span.chunks) == (min(chunks), max(chunks) - min(chunks) + 1)
    assert all((a.first_chunk, a.chunks) != (b.first_chunk, b.chunks) for a, b in pairwise(found))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arch=st.sampled_from(BUILDS), depth=st.integers(1, 6), ordered=st.booleans())
def test_random_networks_are_exact(seed: int, arch: ArchConfig, depth: int, ordered: bool) -> None:
    rng = np.random.default_rng(seed)
    graph = random_grouped(rng, depth)
    if ordered:
        graph = reorder(graph, choose_order(graph, arch))
    codes = random_codes(rng, graph.tensors[graph.input].shape)
    check_exact(graph, planned(graph, arch), codes, int(rng.integers(256)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arch=st.sampled_from(BUILDS))
def test_scarce_memory_is_exact_too(seed: int, arch: ArchConfig) -> None:
    """Results in place of residuals, stripes of rows, and tensors in DDR where words are whole beats."""
    rng = np.random.default_rng(seed)
    graph = random_grouped(rng, 4, largest_map=20)
    codes = random_codes(rng, graph.tensors[graph.input].shape)
    for made in with_fewer_rows(lambda rows: planned(graph, replace(arch, act_rows=rows)), 16384, (90, 60, 35)):
        check_exact(graph, made, codes)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arch=st.sampled_from(BUILDS), images=st.integers(2, 4))
def test_batches_are_exact(seed: int, arch: ArchConfig, images: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_grouped(rng, 4)
    codes = np.stack([random_codes(rng, graph.tensors[graph.input].shape) for _ in range(images)])
    try:
        made = plan(graph, replace(arch, ring_words=8192, act_rows=16384), images)
    except ProgramError as error:
        assert "images do not fit" in str(error)
        return
    program = lower(graph, made)
    result = output_codes(program.output_spec, run_machine(program, input_image(program, codes)))
    expected = run_fast(graph, codes)[graph.output]
    np.testing.assert_array_equal(result, np.concatenate(list(expected), axis=1))


def _block(wide: int = 160, stride: int = 1) -> QuantGraph:
    make = NetworkMaker(np.random.default_rng(0), (48, 9, 9))
    return make.graph("block", inverted_residual(make, "image", wide, 48, stride))


@pytest.mark.parametrize("stride", [1, 2])
def test_commands_of_an_inverted_residual(stride: int) -> None:
    graph = _block(stride=stride)
    made = plan(graph, named_arch("full"))
    expand, depthwise, project = (engine(made, node.name) for node in graph.nodes)
    assert [(s.in_chunks, s.n_vectors, s.out_chunks) for s in expand] == [(2, 3, 5)]
    assert [(s.in_chunks, s.n_vectors, s.out_chunks) for s in depthwise] == [(2, 1, 2), (2, 1, 2), (1, 1, 1)]
    assert [(s.in_chunks, s.n_vectors, s.out_chunks) for s in project] == [(5, 1, 2)]
    assert [s.ends for s in depthwise] == [False, False, True]
    first = depthwise[0]
    assert [s.in_base - first.in_base for s in depthwise] == [2 * i * first.in_chunk_rows for i in range(3)]
    program = lower(graph, made)
    assert [t.name for t in program.trace] == [node.name for node in graph.nodes]
    codes = random_codes(np.random.default_rng(1), (48, 9, 9))
    assert check_exact(graph, made, codes) == 3


def test_only_the_first_command_waits_for_the_image() -> None:
    make = NetworkMaker(np.random.default_rng(0), (24, 9, 9))
    graph = make.graph("first", make.conv("image", 24, (3, 3), (1, 1), (1, 1, 1, 1), None, 24))
    several = engine(plan(graph, named_arch("tiny")), "conv0")
    assert [s.wait_dma for s in several] == [True, False, False] and not any(s.load_first for s in several)
    (one,) = engine(plan(graph, named_arch("full")), "conv0")
    assert one.load_first > 0 and not one.wait_dma and one.fold is None


def test_a_grouped_layer_on_the_image_is_not_folded() -> None:
    make = NetworkMaker(np.random.default_rng(0), (3, 12, 12))
    graph = make.graph("first", make.conv("image", 6, (3, 3), (2, 2), (1, 1, 1, 1), None, 3))
    made = plan(graph, named_arch("small"))
    assert all(s.fold is None for s in engine(made, "conv0"))
    check_exact(graph, made, random_codes(np.random.default_rng(0), (3, 12, 12)))


def _one_layer(cin: int, cout: int, groups: int) -> Graph:
    weight = np.zeros((cout, cin // groups, 3, 3), np.float32)
    conv = Conv(weight, np.zeros(cout, np.float32), (1, 1), (1, 1, 1, 1), groups)
    return Graph("one", (Node("x", Input((cin, 8, 8)), ()), Node("conv", conv, ("x",))), "conv")


@pytest.mark.parametrize(
    ("cin", "cout", "groups", "legal"),
    [(64, 64, 64, False), (32, 32, 2, True), (32, 64, 4, True), (32, 64, 8, False), (96, 96, 2, True)],
)
def test_binary_channels_need_groups_that_fill_their_lanes(cin: int, cout: int, groups: int, legal: bool) -> None:
    """On a build of 8 channels and vectors of 16: every lane must use all the chunks that its command reads."""
    arch = replace(named_arch("small"), ring_words=4096)
    assert ("conv" in binary_layers(_one_layer(cin, cout, groups), arch)) == legal
    make = NetworkMaker(np.random.default_rng(0), (cin, 8, 8))
    out = make.conv("image", cout, (3, 3), (1, 1), (1, 1, 1, 1), None, groups)
    node = make.nodes[0]
    assert isinstance(node, QConv)
    make.nodes[0] = replace(node, weight=np.ones_like(node.weight), bits=np.ones_like(node.bits))
    graph = make.graph("binary", out)
    if legal:
        check_exact(graph, plan(graph, arch), random_codes(np.random.default_rng(0), (cin, 8, 8)))
        return
    with pytest.raises(ProgramError, match=rf"has {cin // groups} input channels in each of {groups} groups, which"):
        lower(graph, plan(graph, arch))


def test_channels_of_a_depthwise_layer_move_together_and_those_of_other_groups_stay() -> None:
    make = NetworkMaker(np.random.default_rng(3), (5, 6, 6))
    x = make.conv("image", 40, (1, 1), (1, 1), (0, 0, 0, 0), None)
    y = make.conv(x, 40, (3, 3), (1, 1), (1, 1, 1, 1), None, 40)
    z = make.conv(y, 36, (1, 1), (1, 1), (0, 0, 0, 0), None)
    out = make.conv(make.conv(z, 36, (3, 3), (1, 1), (1, 1, 1, 1), None, 4), 4, (1, 1), (1, 1), (0, 0, 0, 0), None)
    graph = make.graph("two", out)
    ties = tied_tensors(graph)
    assert ties[x] == ties[y] is not None and ties[z] is None
    order = choose_order(graph, ARCHS[1])
    assert set(order) == {x, y} and np.array_equal(order[x], order[y])
    codes = random_codes(np.random.default_rng(0), (5, 6, 6))[None]
    before, after = run_fast(graph, codes, graph.tensors), run_fast(reorder(graph, order), codes, graph.tensors)
    for name in graph.tensors:
        np.testing.assert_array_equal(after[name], before[name][:, order[name]] if name in order else before[name])


def test_the_ring_holds_what_a_command_reads_not_the_whole_layer() -> None:
    make = NetworkMaker(np.random.default_rng(0), (64, 6, 6))
    out = make.conv("image", 64, (3, 3), (1, 1), (1, 1, 1, 1), None, 64)
    node = make.nodes[0]
    assert isinstance(node, QConv)
    make.nodes[0] = replace(node, bits=np.full_like(node.bits, 8))
    graph, arch = make.graph("ring", out), replace(named_arch("tiny"), ring_words=128)
    program = lower(graph, plan(graph, arch))
    assert Counter(step.in_chunks for step in engine(plan(graph, arch), "conv0")) == {1: 8}
    assert len(program.weights[0]) * 8 >= 64 * 9 * 8 * 8  # a byte of a word in eight is of the channel
    with pytest.raises(ProgramError, match=r"conv0: a lane needs 80 words for one vector \(9 taps x 1 chunks x 8 bits"):
        lower(graph, plan(graph, replace(arch, ring_words=64)))
