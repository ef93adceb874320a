"""Batches: every legal cut gives the reference's tensors on the golden machine, and the earliest that fits is taken."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitloom.errors import BitloomError, DataError, ProgramError
from bitloom.graph.qgraph import QuantGraph
from bitloom.program.batch import batch_schedule, cuts, takes_turns
from bitloom.program.container import from_bytes, to_bytes
from bitloom.program.inputs import output_codes
from bitloom.program.jobs import EngineJob, LoadJob
from bitloom.program.layouts import lay_out
from bitloom.program.lower import input_image, lower
from bitloom.program.machine import run_machine
from bitloom.program.plan import plan
from bitloom.program.steps import EngineStep
from bitloom.simulate.compare import reference_tensors
from bitloom.target.arch import ArchConfig, named_arch
from random_networks import NetworkMaker, random_codes, random_network

SMALL = named_arch("small")
SAME = (1, 1, 1, 1)


def blocks(size: int = 8) -> QuantGraph:
    """A residual block, a stride-2 block with a shortcut, a global pool and a fully connected layer."""
    make = NetworkMaker(np.random.default_rng(5), (3, size, size))
    x = make.conv("image", 8, (3, 3), (1, 1), SAME, None)
    y = make.conv(make.conv(x, 8, (3, 3), (1, 1), SAME, None), 8, (3, 3), (1, 1), SAME, x)
    short = make.conv(y, 16, (1, 1), (2, 2), (0, 0, 0, 0), None)
    z = make.conv(make.conv(y, 16, (3, 3), (2, 2), SAME, None), 16, (3, 3), (1, 1), SAME, short)
    z = make.pool(z, False, (size // 2, size // 2), (1, 1), (0, 0, 0, 0), None)
    return make.graph("blocks", make.conv(z, 10, (1, 1), (1, 1), (0, 0, 0, 0), None))


def check(graph: QuantGraph, arch: ArchConfig, batch: int, seed: int) -> tuple[EngineStep, ...]:
    """The golden machine's output of a batch equals the reference's; the steps of its plan."""
    rng = np.random.default_rng(seed)
    codes = np.stack([random_codes(rng, graph.tensors[graph.input].shape) for _ in range(batch)])
    made = plan(graph, arch, batch)
    program = lower(graph, made)
    expected = reference_tensors(graph, codes)
    tensors = {entry.command: entry for entry in program.trace}

    def watch(index: int, _: object, memory: np.ndarray) -> None:
        if index in tensors:
            entry = tensors[index]
            rows = expected[entry.tensor][:, entry.first_row : entry.first_row + entry.n_rows]
            np.testing.assert_array_equal(entry.read(memory), rows, err_msg=entry.tensor)

    out = run_machine(program, input_image(program, codes), watch, fill=seed % 256)
    np.testing.assert_array_equal(output_codes(program.output_spec, out), expected[graph.output])
    assert from_bytes(to_bytes(program)).batch == batch
    return tuple(s for s in made.steps if isinstance(s, EngineStep))


def test_random_networks_in_batches() -> None:
    done = stacked = 0
    for seed in range(60):
        graph = random_network(np.random.default_rng(seed), 5)
        try:
            steps = check(graph, SMALL, 2 + seed % 3, seed)
        except BitloomError:
            continue  # too large for this build
        done += 1
        stacked += any(s.image_rows for s in steps)
    assert done >= 30 and stacked >= 15


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_weights_come_once_behind_the_cut(batch: int) -> None:
    steps = check(blocks(), SMALL, batch, batch)
    names = [s.name for s in steps]
    late = {s.name for s in steps if s.image_rows}
    assert "conv7" in late and all(names.count(n) == 1 for n in late) and names.count("conv0") == batch


def test_every_cut_is_exact() -> None:
    """Memories that shrink row by row move the cut from the front to the end."""
    graph, seen = blocks(), set()
    for rows in range(400, 64, -4):
        try:
            steps = check(graph, replace(SMALL, act_rows=rows), 4, rows)
        except ProgramError as error:
            assert "4 images do not fit the" in str(error) and f"{rows} rows" in str(error)
            break
        seen.add(sum(s.image_rows is not None for s in steps))
    assert len(seen) >= 3


@pytest.mark.parametrize("batch", [2, 5])
def test_the_next_image_waits_for_the_readers_of_a_concatenation_it_lies_in(batch: int) -> None:
    make = NetworkMaker(np.random.default_rng(3), (3, 8, 8))
    x = make.concat(("image", make.conv("image", 5, (3, 3), (1, 1), SAME, None)))
    x = make.conv(make.conv(x, 8, (3, 3), (1, 1), SAME, None), 8, (3, 3), (1, 1), SAME, None)
    check(make.graph("joined", make.conv(x, 8, (3, 3), (2, 2), SAME, None)), SMALL, batch, batch)


def test_odd_split_tensors_are_not_stacked() -> None:
    laid = lay_out(blocks(10), SMALL.channels, True)
    assert min(c.node for c in cuts(laid)) == 1
    make = NetworkMaker(np.random.default_rng(1), (3, 9, 9))
    x = make.conv("image", 8, (3, 3), (1, 1), SAME, None)
    out = make.conv(x, 8, (3, 3), (2, 2), SAME, None)
    assert [c.node for c in cuts(lay_out(make.graph("odd", out), SMALL.channels, True))] == [2]


def test_wrong_numbers_of_images_are_refused() -> None:
    graph = blocks()
    program = lower(graph, plan(graph, SMALL, 2))
    with pytest.raises(DataError, match="3 images for a program of batch 2; give 2"):
        input_image(program, np.zeros((3, 3, 8, 8), np.int8))
    with pytest.raises(ProgramError, match=r"batch = 65; legal: 1 \.\. 64"):
        plan(graph, SMALL, 65)


def test_images_take_turns_where_nothing_else_hides_their_coming() -> None:
    graph = blocks()
    laid = lay_out(graph, SMALL.channels, False)
    first, later = (next(c for c in cuts(laid) if c.node == node) for node in (1, 4))
    assert takes_turns(laid, first) and not takes_turns(laid, later)
    jobs = batch_schedule(laid, None, 0, SMALL, False, 3, first, turns=True).jobs
    assert [j.name for j in jobs[:6]] == ["load image", "load image", "conv0", "load image", "conv0", "conv0"]
    assert [j.image for j in jobs if isinstance(j, LoadJob)] == [0, 1, 2]
    loads = [j.buffer.region for j in jobs if isinstance(j, LoadJob)]
    assert loads == ["image", "image, odd images", "image"]
    assert [j.src.region for j in jobs if isinstance(j, EngineJob) and j.name == "conv0"] == loads


def test_images_take_the_same_places() -> None:
    laid = lay_out(blocks(), SMALL.channels, False)
    schedule = batch_schedule(laid, None, 0, SMALL, False, 3, cuts(laid)[3])
    assert len(schedule.times) == len(schedule.jobs)
    regions = {r.name: r for r in schedule.regions()}
    assert regions["image"].first == 0 and regions["image"].last >= 3, "the next image comes while one is computed"
