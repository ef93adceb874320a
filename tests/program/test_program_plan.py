"""Plans: geometry, layouts, copies, stripes, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_program_machine import check_exact

from bitloom.errors import ProgramError, UnsupportedLayerError
from bitloom.graph.qgraph import QPool, QuantGraph
from bitloom.program.geometry import make_grid, window_of
from bitloom.program.inputs import FoldSpec, LinearSpec
from bitloom.program.layouts import COPY_SUFFIX, lay_out
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.program.steps import EngineStep, LoadStep
from bitloom.target.arch import ArchConfig, named_arch
from random_networks import NetworkMaker, random_codes

TINY = ArchConfig("tiny", 2, 8, 8, 1, 4, 8, 2048, 2048)
SAME = (1, 1, 1, 1)
NONE = (0, 0, 0, 0)


def _maker(shape: tuple[int, int, int], seed: int = 0) -> NetworkMaker:
    return NetworkMaker(np.random.default_rng(seed), shape)


def _transition(first: int, also_plain: bool = False) -> QuantGraph:
    """A residual block, then a stride-2 block; `first`: kernel of the first layer of either.

    also_plain: the tensor between the blocks is read by a 3×3 window of stride 1 as well.
    """
    make = _maker((3, 12, 12))
    x = make.conv("image", 8, (3, 3), (1, 1), SAME, None)
    half = (first // 2,) * 4
    t = make.conv(x, 8, (first, first), (1, 1), (half[0], half[1], half[2], half[3]), None)
    y = make.conv(t, 8, (1, 1), (1, 1), NONE, x)
    down = make.conv(y, 16, (1, 1), (2, 2), NONE, None)
    if also_plain:
        y = make.conv(y, 8, (3, 3), (1, 1), SAME, None)
    if first == 1:
        y = make.conv(y, 8, (1, 1), (1, 1), NONE, None)
    z = make.conv(y, 16, (3, 3), (2, 2), SAME, down)
    return make.graph("transition", z)


def test_only_conflicting_readers_get_a_copy() -> None:
    free = lay_out(_transition(3), 8, True)
    assert not free.copies and free.split["t2"] and not free.split["t0"], "the residual may lie otherwise"
    bound = lay_out(_transition(3, also_plain=True), 8, True)
    assert bound.copies == {"t2" + COPY_SUFFIX: "t2"}
    assert not bound.split["t0"] and not bound.split["t2"] and bound.split["t2" + COPY_SUFFIX]
    copy = next(n for n in bound.graph.nodes if n.name == "t2" + COPY_SUFFIX)
    assert isinstance(copy, QPool) and copy.maximum and copy.requant.mult[0] == 1 << 16
    readers = [n for n in bound.graph.nodes if getattr(n, "input", None) == "t2" + COPY_SUFFIX]
    assert len(readers) == 1
    shared = lay_out(_transition(3), 8, True, in_place=True)
    assert shared.copies == {"t2" + COPY_SUFFIX: "t2"} and not shared.split["t2"]


def test_pixelwise_layers_walk_split_tensors_in_flat_order() -> None:
    steps = [s for s in plan(_transition(1), TINY).steps if isinstance(s, EngineStep)]
    flat = [s for s in steps if s.flat]
    assert len(flat) == 1
    for step in flat:
        pixels = 4 * step.dst.layout.phase_pixels
        assert (step.grid.out_h, step.grid.out_w, step.grid.grid_w) == (1, pixels, pixels)
        assert step.dst.layout.phase_pixels % TINY.pixels == TINY.pixels // 2


def test_pitch_follows_the_widest_reader() -> None:
    make = _maker((8, 6, 6))
    x = make.conv("image", 8, (1, 1), (1, 1), NONE, None)
    y = make.conv(x, 8, (3, 3), (1, 1), (3, 3, 3, 3), None)
    graph = make.graph("wide", y)
    laid = lay_out(graph, 8, True)
    assert graph.tensors[y].shape[2] == 10 and laid.pitch[x] == 10
    check_exact(graph, plan(graph, TINY), random_codes(np.random.default_rng(0), (8, 6, 6)))


@pytest.mark.parametrize("groups", [1, 8, 9, 16, 17, 23, 100])
def test_tiles_are_balanced(groups: int) -> None:
    grid = make_grid(2, 2, groups, TINY)
    assert grid.n_groups == groups
    assert (grid.n_tiles - 1) * grid.tile_groups + grid.last_tile_groups == groups
    assert 1 <= grid.last_tile_groups <= grid.tile_groups <= TINY.acc_groups
    assert grid.n_tiles == -(-groups // TINY.acc_groups) or grid.tile_groups < TINY.acc_groups


def test_first_layer_is_folded_as_the_specification_says() -> None:
    make = _maker((3, 224, 224))
    out = make.conv("image", 64, (7, 7), (2, 2), (3, 3, 3, 3), None)
    made = plan(make.graph("stem", out), named_arch("full"))
    spec = made.input_spec
    assert isinstance(spec, FoldSpec) and (spec.step, spec.unit_bytes, spec.window) == (2, 16, 2)
    load, conv = made.steps[:2]
    assert isinstance(load, LoadStep) and isinstance(conv, EngineStep)
    assert len(conv.taps) == 8 and conv.in_chunks == 1 and load.units_log2 == 0
    assert conv.load_first + (conv.grid.n_tiles - 1) * conv.load_step <= load.words
    assert conv.load_step == conv.grid.tile_groups * 6 and not conv.wait_dma


def test_small_pixels_use_small_units() -> None:
    make = _maker((3, 16, 16))
    out = make.conv("image", 16, (3, 3), (1, 1), SAME, None)
    made = plan(make.graph("stem", out), named_arch("mid"))
    assert isinstance(made.input_spec, FoldSpec)
    assert (made.input_spec.unit_bytes, made.input_spec.window) == (4, 3)
    assert isinstance(made.steps[1], EngineStep) and len(made.steps[1].taps) == 3


def test_an_image_with_two_readers_is_linear() -> None:
    make = _maker((3, 8, 8))
    a = make.conv("image", 3, (3, 3), (1, 1), SAME, None)
    b = make.conv(a, 3, (3, 3), (1, 1), SAME, "image")
    graph = make.graph("two", b)
    made = plan(graph, TINY)
    assert isinstance(made.input_spec, LinearSpec)
    check_exact(graph, made, random_codes(np.random.default_rng(1), (3, 8, 8)))


def _early_vgg() -> QuantGraph:
    make = _maker((3, 20, 18), 4)
    x = make.conv("image", 12, (3, 3), (1, 1), SAME, None)
    x = make.conv(x, 12, (3, 3), (1, 1), SAME, None)
    x = make.pool(x, True, (2, 2), (2, 2), NONE, None)
    x = make.conv(x, 16, (3, 3), (1, 1), SAME, None)
    x = make.conv(x, 16, (3, 3), (1, 1), SAME, None)
    x = make.pool(x, True, (2, 2), (2, 2), NONE, None)
    x = make.conv(x, 10, (5, 4), (1, 1), NONE, None)
    return make.graph("early_vgg", x)


@pytest.mark.parametrize("rows", [900, 560, 480, 400, 360])
def test_chains_run_in_stripes(rows: int) -> None:
    graph = _early_vgg()
    made = plan(graph, replace(TINY, act_rows=rows))
    loads = [s for s in made.steps if isinstance(s, LoadStep)]
    assert len(loads) == 1 if rows == 900 else len(loads) > 1
    codes = random_codes(np.random.default_rng(2), (3, 20, 18))
    compared = check_exact(graph, made, codes, fill=77)
    assert compared == len([s for s in made.steps if isinstance(s, EngineStep)])


def test_refusals_name_layer_value_and_fix() -> None:
    make = _maker((8, 16, 16))
    out = make.conv("image", 8, (3, 3), (3, 3), SAME, None)
    with pytest.raises(UnsupportedLayerError, match=r"conv0: stride \(3, 3\); legal: 1 and 2"):
        plan(make.graph("three", out), TINY)
    with pytest.raises(
        UnsupportedLayerError, match=r"x: stride \(1, 2\) differs by axis; legal: \(1, 1\) and \(2, 2\)"
    ):
        window_of("x", (3, 3), (1, 2), SAME, (8, 8))
    make = _maker((8, 20, 20))
    out = make.conv("image", 8, (20, 20), (1, 1), NONE, None)
    with pytest.raises(
        UnsupportedLayerError, match="conv0: window 20x20 has 400 taps, but architecture 'tiny' has tap_entries = 256"
    ):
        plan(make.graph("large", out), TINY)


def test_a_stride_that_moves_nothing_is_free() -> None:
    make = _maker((8, 3, 3))
    out = make.pool("image", False, (3, 3), (3, 3), NONE, None)
    graph = make.graph("global", out)
    check_exact(graph, plan(graph, TINY), random_codes(np.random.default_rng(3), (8, 3, 3)))


def test_too_small_a_memory_says_how_many_rows_would_do() -> None:
    graph = _transition(3)
    with pytest.raises(ProgramError) as failure:
        plan(graph, replace(TINY, act_rows=100))
    text = str(failure.value)
    assert "transition: the tensors around layer '" in text and "act_rows = 100" in text
    rows = int(text.split("at least ")[1].split(" rows")[0])
    assert plan(graph, replace(TINY, act_rows=rows)).regions


def test_results_overwrite_their_residual_only_where_memory_is_scarce() -> None:
    graph = _transition(3)
    roomy = plan(graph, TINY)
    rows = max(r.base + r.rows for r in roomy.regions)
    added = [s for s in roomy.steps if isinstance(s, EngineStep) and s.residual is not None]
    assert len(added) == 2 and all(s.residual is not None and s.residual.base != s.dst.base for s in added)
    for fewer in range(rows - 1, 64, -1):
        dense = plan(graph, replace(TINY, act_rows=fewer))
        added = [s for s in dense.steps if isinstance(s, EngineStep) and s.residual is not None]
        if any(s.residual is not None and s.residual.base == s.dst.base for s in added):
            check_exact(graph, dense, random_codes(np.random.default_rng(6), (3, 12, 12)))
            return
    pytest.fail("no number of rows made a result overwrite its residual")


def test_maps_that_the_drain_cannot_address_are_refused() -> None:
    make = NetworkMaker(np.random.default_rng(0), (1, 4, 70000))
    out = make.conv("image", 1, (1, 1), (1, 1), NONE, None)
    with pytest.raises(
        ProgramError, match=r"tensor 't0': a map of 4 x 70000 takes 280000 positions; legal: up to 262144"
    ):
        plan(make.graph("wide", out), replace(TINY, act_rows=262144, pixels=4))


def test_too_small_a_ring_names_layer_and_words() -> None:
    make = _maker((64, 6, 6))
    out = make.conv("image", 8, (5, 5), (1, 1), (2, 2, 2, 2), None)
    graph = make.graph("deep", out)
    small = replace(TINY, ring_words=64)
    made = plan(graph, small)
    with pytest.raises(
        ProgramError,
        match=r"conv0: a lane needs [0-9]+ words for one vector \(25 taps x 8 chunks x . bits\).*ring_words = 64",
    ):
        lower(graph, made)


def test_input_codes_are_checked() -> None:
    made = plan(_transition(1), TINY)
    with pytest.raises(
        Exception, match=r"input codes: int8 \(3, 12, 11\), must be int8 \(3, 12, 12\) in \[-127, 127\]"
    ):
        input_image(made, np.zeros((3, 12, 11), dtype=np.int8))
    with pytest.raises(Exception, match=r"must be int8 \(3, 12, 12\) in \[-127, 127\]"):
        input_image(made, np.full((3, 12, 12), -128, dtype=np.int8))


def test_concatenating_a_tensor_twice_is_refused() -> None:
    make = _maker((8, 4, 4))
    a = make.conv("image", 8, (1, 1), (1, 1), NONE, None)
    out = make.concat((a, a))
    with pytest.raises(ProgramError, match=r"concat1: tensor 't0' is concatenated twice"):
        plan(make.graph("twice", out), TINY)
