"""bl_sequencer alone: a start meets AXI masters that stay busy, because a slave never answers."""

from __future__ import annotations

import numpy as np
from vector_bench import VectorBench, port_bytes

from bitloom.program.commands import COMMAND_FIELDS, ErrorCode

INPUTS = {
    "rst_i": 1, "start_i": 1, "program_base_i": 64, "input_base_i": 64, "output_base_i": 64, "scratch_base_i": 64,
    "timeout_i": 32, "axi_busy_i": 1, "cmd_valid_i": 1, "cmd_i": sum(f.width for f in COMMAND_FIELDS),
    "fetch_error_i": 8, "weights_error_i": 1, "weights_beat_i": 1, "dma_busy_i": 1, "dma_progress_i": 1,
    "dma_read_error_i": 1, "dma_write_error_i": 1, "conv_busy_i": 1, "pool_busy_i": 1, "drain_active_i": 1,
    "drain_idle_i": 1, "issue_i": 1, "wait_weights_i": 1, "wait_planes_i": 1, "wait_drain_i": 1, "wait_input_i": 1,
}  # fmt: skip
OUTPUTS = {"idle_o": 1, "done_o": 1, "error_o": 8, "flush_o": 1, "fetch_start_o": 1, "counters_o": 7 * 32}


def run(busy: np.ndarray, starts: list[int], timeout: int) -> dict[str, np.ndarray]:
    cycles = len(busy)
    drive = {name: np.zeros((cycles, port_bytes(width)), np.uint8) for name, width in INPUTS.items()}
    drive["rst_i"][0] = 1
    drive["axi_busy_i"][:, 0] = busy
    drive["start_i"][starts, 0] = 1
    drive["timeout_i"][:, :2] = [timeout & 255, timeout >> 8]
    return VectorBench("bl_sequencer", INPUTS, OUTPUTS).run(cycles, **drive)


def test_a_start_that_finds_busy_masters_times_out_and_the_next_one_runs() -> None:
    busy = np.zeros(900, np.uint8)
    busy[:600] = 1
    out = run(busy, [5, 700], 300)
    done = np.nonzero(out["done_o"][:, 0])[0]
    assert 300 <= done[0] - 5 <= 310 and out["error_o"][done[0], 0] == ErrorCode.TIMEOUT
    assert out["idle_o"][done[0], 0] and out["flush_o"][done[0] : 600, 0].all() and not out["flush_o"][605, 0]
    assert np.nonzero(out["fetch_start_o"][:, 0])[0].tolist() == [out["fetch_start_o"][:, 0].argmax()]
    assert 700 < out["fetch_start_o"][:, 0].argmax() < 720, "the second start fetches commands"
    assert out["error_o"][720, 0] == ErrorCode.NONE and not out["counters_o"][done[0]].any()


def test_without_a_timeout_a_start_waits_for_the_masters() -> None:
    busy = np.zeros(900, np.uint8)
    busy[:800] = 1
    out = run(busy, [5], 0)
    assert not out["done_o"].any() and 800 < out["fetch_start_o"][:, 0].argmax() < 810
