"""Tensors in DDR: exact on the golden machine whatever the memory, and refused with a reason where nothing helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_program_machine import check_exact

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import QuantGraph
from bitloom.program.commands import Base
from bitloom.program.lower import lower
from bitloom.program.plan import plan
from bitloom.program.steps import EngineStep, LoadStep, StoreStep
from bitloom.target.arch import ArchConfig
from random_networks import NetworkMaker, random_codes, random_network

ROWS = 64
ARCHS = (
    ArchConfig("p2c16", 2, 16, 16, 2, 16, 8, 2048, ROWS),
    ArchConfig("p6c16", 6, 16, 32, 2, 8, 16, 2048, ROWS),
    ArchConfig("p4c32", 4, 32, 32, 2, 8, 16, 2048, ROWS),
)
SAME = (1, 1, 1, 1)


def _block() -> QuantGraph:
    """A residual block between two stride-2 layers, its maps too large for ROWS rows of two pixels."""
    make = NetworkMaker(np.random.default_rng(5), (3, 30, 26))
    x = make.conv("image", 20, (3, 3), (1, 1), SAME, None)
    y = make.conv(x, 12, (3, 3), (1, 1), SAME, None)
    z = make.conv(y, 20, (3, 3), (1, 1), SAME, x)
    side = make.conv(z, 24, (1, 1), (2, 2), (0, 0, 0, 0), None)
    w = make.conv(z, 24, (3, 3), (2, 2), SAME, None)
    out = make.conv(w, 24, (3, 3), (1, 1), SAME, side)
    return make.graph("block", make.pool(out, False, (15, 13), (1, 1), (0, 0, 0, 0), None))


@pytest.mark.parametrize("arch", ARCHS, ids=lambda a: a.name)
def test_a_block_that_does_not_fit_is_exact(arch: ArchConfig) -> None:
    graph = _block()
    roomy = replace(arch, act_rows=256)
    made = plan(graph, roomy)
    assert made.scratch_bytes > 0
    assert check_exact(graph, made, random_codes(np.random.default_rng(1), (3, 30, 26)), fill=0x5A) > 6


def test_what_goes_to_scratch_comes_back_from_where_it_lies() -> None:
    made = plan(_block(), replace(ARCHS[0], act_rows=256))
    stored = [s for s in made.steps if isinstance(s, StoreStep) and s.target is Base.SCRATCH]
    loaded = [s for s in made.steps if isinstance(s, LoadStep) and s.source is Base.SCRATCH]
    assert stored and loaded
    written = np.zeros(made.scratch_bytes, bool)
    for step in made.steps:
        if isinstance(step, StoreStep) and step.target is Base.SCRATCH:
            written[step.offset : step.offset + step.words * 16] = True
        elif isinstance(step, LoadStep) and step.source is Base.SCRATCH:
            assert written[step.offset : step.offset + step.beats * 16].all(), step.name
    program = lower(_block(), made)
    assert program.scratch_bytes == made.scratch_bytes


def test_layers_wait_for_what_they_load() -> None:
    made = plan(_block(), replace(ARCHS[0], act_rows=256))
    pending = False
    for step in made.steps:
        pending |= isinstance(step, LoadStep)
        if isinstance(step, EngineStep):
            assert step.wait_dma or step.load_first or not pending
            pending = False


@settings(max_examples=60, deadline=None)
@example(seed=2208546, arch=ARCHS[0], rows=4)  # a layer of stride 2 that leaves the last row of its input unread
@given(seed=st.integers(0, 2**32 - 1), arch=st.sampled_from(ARCHS), rows=st.integers(1, 6))
def test_random_networks_are_exact_in_a_small_memory(seed: int, arch: ArchConfig, rows: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_network(rng, largest_map=20)
    try:
        made = plan(graph, replace(arch, act_rows=ROWS * rows))
    except ProgramError:
        return  # a global pool or a single layer that no stripe makes small enough
    check_exact(graph, made, random_codes(rng, graph.tensors[graph.input].shape), fill=0xA5)


def test_narrow_words_are_refused_with_a_reason() -> None:
    arch = ArchConfig("narrow", 2, 8, 8, 1, 4, 8, 2048, 128)
    with pytest.raises(ProgramError, match=r"act_rows = 128; .* DDR need channels >= 16; use an"):
        plan(_block(), arch)


def test_a_global_pool_that_does_not_fit_is_refused() -> None:
    make = NetworkMaker(np.random.default_rng(0), (16, 16, 16))
    x = make.conv("image", 16, (3, 3), (1, 1), SAME, None)
    graph = make.graph("wide", make.pool(x, False, (16, 16), (1, 1), (0, 0, 0, 0), None))
    with pytest.raises(ProgramError, match=r"neither stripes of rows nor tensors in DDR help"):
        plan(graph, ArchConfig("p2c16", 2, 16, 16, 2, 16, 8, 2048, 64))
