"""Plan, lowering and packing against the reference interpreter: every tensor, on the golden machine, with equality."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.program.commands import Command, Opcode, decode
from bitloom.program.inputs import output_codes
from bitloom.program.lower import extract, input_image, lower
from bitloom.program.machine import run_machine
from bitloom.program.plan import Plan, plan
from bitloom.program.regions import Uint8Array
from bitloom.reference.naive import run_naive
from bitloom.target.arch import ArchConfig
from random_networks import random_codes, random_layer, random_network

ARCHS = (
    ArchConfig("p2c8", 2, 8, 8, 1, 4, 8, 4096, 4096),
    ArchConfig("p4c4", 4, 4, 8, 1, 4, 8, 8192, 8192),
    ArchConfig("p6c16", 6, 16, 32, 2, 8, 16, 2048, 2048),
    ArchConfig("p4c8", 4, 8, 16, 4, 8, 8, 4096, 4096),
    ArchConfig("p2c16", 2, 16, 16, 2, 16, 8, 2048, 4096),
    ArchConfig("p6c32", 6, 32, 64, 4, 32, 32, 8192, 1024),
    ArchConfig("p2c128", 2, 128, 128, 2, 32, 8, 1024, 1024),
)


def check_exact(graph: QuantGraph, made: Plan, codes: np.ndarray, fill: int = 0) -> int:
    """Runs the program on the machine and compares every tensor and the output; the number of comparisons."""
    reference = run_naive(graph, codes)
    program = lower(graph, made)
    trace = {t.command: t for t in program.trace}
    compared = 0

    def watch(index: int, command: Command, memory: Uint8Array) -> None:
        nonlocal compared
        if index in trace:
            t = trace[index]
            expected = reference[t.tensor][:, t.first_row : t.first_row + t.n_rows]
            np.testing.assert_array_equal(t.read(memory), expected, err_msg=f"{t.name}, {made.arch.name}")
            compared += 1

    result = run_machine(program, input_image(program, codes), watch, fill)
    np.testing.assert_array_equal(output_codes(program.output_spec, result), reference[graph.output])
    return compared


def with_fewer_rows(make: Callable[[int], Plan], most: int, percents: tuple[int, ...]) -> Iterator[Plan]:
    """Plans at shares of the rows that the plan of `most` rows needs, until nothing fits any more. make: of rows."""
    rows = max(r.base + r.rows for r in make(most).regions)
    for percent in percents:
        if rows * percent // 100 < 64:
            return
        try:
            made = make(rows * percent // 100)
        except ProgramError as error:
            assert "rows of the activation memory" in str(error)
            return
        yield made


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arch=st.sampled_from(ARCHS))
def test_random_layer_is_exact(seed: int, arch: ArchConfig) -> None:
    rng = np.random.default_rng(seed)
    graph = random_layer(rng)
    codes = random_codes(rng, graph.tensors[graph.input].shape)
    assert check_exact(graph, plan(graph, arch), codes, int(rng.integers(256))) >= len(graph.nodes)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arch=st.sampled_from(ARCHS), depth=st.integers(2, 10))
def test_random_network_is_exact(seed: int, arch: ArchConfig, depth: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_network(rng, depth)
    codes = random_codes(rng, graph.tensors[graph.input].shape)
    check_exact(graph, plan(graph, arch), codes, int(rng.integers(256)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), arch=st.sampled_from(ARCHS))
def test_scarce_memory_is_exact_too(seed: int, arch: ArchConfig) -> None:
    """Rows are taken away until nothing fits any more: in place and in stripes the integers stay the same."""
    rng = np.random.default_rng(seed)
    graph = random_network(rng, 5, largest_map=24)
    codes = random_codes(rng, graph.tensors[graph.input].shape)
    for made in with_fewer_rows(lambda rows: plan(graph, replace(arch, act_rows=rows)), 8192, (95, 80, 65, 50, 40)):
        check_exact(graph, made, codes)


def _one(seed: int = 5) -> tuple[QuantGraph, np.ndarray]:
    rng = np.random.default_rng(seed)
    graph = random_network(rng, 5)
    return graph, random_codes(rng, graph.tensors[graph.input].shape)


def test_extract_reads_the_output_tensor_and_refuses_unknown_names() -> None:
    graph, codes = _one()
    program = lower(graph, plan(graph, ARCHS[0]))
    last: list[Uint8Array] = []

    def watch(index: int, command: Command, memory: Uint8Array) -> None:
        last[:] = [memory.copy()]

    run_machine(program, input_image(program, codes), watch)
    np.testing.assert_array_equal(extract(program, graph.output, last[0]), run_naive(graph, codes)[graph.output])
    with pytest.raises(Exception, match="tensor 'nothing' never lies in the activation memory as a whole; legal: "):
        extract(program, "nothing", last[0])


def test_a_changed_weight_bit_is_seen() -> None:
    graph, codes = _one()
    program = lower(graph, plan(graph, ARCHS[0]))
    stream = bytearray(program.weights[0])
    stream[16 + 2] ^= 0x20  # bit 21 of the bias of the first lane
    broken = replace(program, weights=(bytes(stream), *program.weights[1:]))
    good = run_machine(program, input_image(program, codes))
    seen: list[bytes] = []
    run_machine(broken, input_image(program, codes), lambda i, c, m: seen.append(m.tobytes()))
    clean: list[bytes] = []
    assert run_machine(program, input_image(program, codes), lambda i, c, m: clean.append(m.tobytes())) == good
    assert seen != clean


def test_machine_refuses_a_load_bound_that_is_one_tile_too_early() -> None:
    """The bounds are tight: with one word less the first layer would read a word before it is written."""
    rng = np.random.default_rng(3)
    graph = random_layer(rng, largest_channels=3, largest_map=14)
    while not isinstance(graph.nodes[0], QConv) or graph.tensors[graph.nodes[0].output].shape[1] < 8:
        graph = random_layer(rng, largest_channels=3, largest_map=14)
    program = lower(graph, plan(graph, ARCHS[0]))
    codes = random_codes(rng, graph.tensors[graph.input].shape)
    commands = []
    for command in decode(program.commands):
        if command.fields["load_first"]:
            assert not command.fields["wait_dma"] and command.fields["load_step"] > 0
            command = Command({**command.fields, "load_first": command.fields["load_first"] - 1}, command.taps)
        commands.append(command)
    early = replace(program, commands=b"".join(c.encode() for c in commands))
    assert early.commands != program.commands
    with pytest.raises(ProgramError, match=r"reads word [0-9]+ of LOAD before it is written"):
        run_machine(early, input_image(program, codes))


def test_machine_refuses_another_architecture_and_a_missing_begin() -> None:
    graph, codes = _one()
    program = lower(graph, plan(graph, ARCHS[0]))
    image = input_image(program, codes)
    with pytest.raises(ProgramError, match=r"program for architecture [0-9a-f]{8}, machine is [0-9a-f]{8}"):
        run_machine(replace(program, arch=replace(ARCHS[0], act_rows=4097)), image)
    with pytest.raises(ProgramError, match="the first command is WEIGHTS, must be BEGIN"):
        run_machine(replace(program, commands=program.commands[96:]), image)
    with pytest.raises(ProgramError, match=r"INPUT: [0-9]+ bytes at 0 are not aligned or not inside its 16 bytes"):
        run_machine(program, image[:16])


def test_every_run_begins_with_begin_and_ends_with_end() -> None:
    graph, _ = _one()
    opcodes = [Opcode(c.fields["opcode"]) for c in decode(lower(graph, plan(graph, ARCHS[3])).commands)]
    assert opcodes[0] is Opcode.BEGIN and opcodes[-1] is Opcode.END and opcodes[-2] is Opcode.STORE
    assert opcodes[1:5] == [Opcode.WEIGHTS] * 4 and opcodes[5] is Opcode.LOAD
