"""Constants of the cycle model, in one record: everything that is not a loop bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bitloom.program.commands import HEADER_BEATS


@dataclass(frozen=True)
class Timing:
    """Cycles unless said otherwise. Read off the RTL named; `drain`, `address` and `dma_stop` by simulation.

    launch: Next, Fetch, Check, Launch, start register, Prime (bl_sequencer, bl_issue), besides P + 1 of bl_coords.
    fetch: a command without an engine in a row of such: six beats, check and hold (bl_cmd_fetch); the taps of the
    command behind a running one are fetched meanwhile.
    fetch_beats: of the command stream, that wait in its reader while a command runs (bl_cmd_fetch).
    decode: of `launch`, the part in front of the state in which a command waits for LOAD and STORE (bl_sequencer).
    learn: from the last header word to the first plane: lane read, plane counts, their maxima (bl_weight_engine).
    read: bl_reader.  accumulate: bl_mac_array without its tree, bl_accum, job queue.
    drain: from the last drained group to the written code, as far as the next command waits for it (bl_drain).
    address: from a command's first step, as early as it may come, to the drain's first addresses (bl_drain_addr).
    pool_back: from the use of a pool's result to the group that takes its place (bl_drain, bl_pool_issue).
    begin: from the start register to the first request (bl_sequencer).  stop: END and the last response's way.
    ddr_efficiency: delivered share of the peak (refresh, turnarounds).  ddr_refresh: share of the time in which a
    port alone gets nothing either.  ddr_latency_ns: first beat of a read;
    ddr_write_latency_ns: response of a write.  dma_start: LOAD or STORE command to its first request; dma_stop: last
    word of LOAD to the step that waits for it.  port_beats: of 16 bytes, that a weight port holds (bl_axi_reader).
    """

    launch: int = 7
    fetch: int = 8
    fetch_beats: int = 32
    decode: int = 3
    learn: int = 8
    read: int = 4
    accumulate: int = 10
    drain: int = 12
    address: int = 14
    pool_back: int = 2
    begin: int = 14
    stop: int = 27
    ddr_efficiency: float = 0.85
    ddr_refresh: float = 350.0 / 7800.0
    ddr_latency_ns: float = 150.0
    ddr_write_latency_ns: float = 100.0
    dma_start: int = 10
    dma_stop: int = 1
    port_beats: int = 128

    def start(self, pixels: int) -> int:
        """Control cycles in front of a CONV or POOL command."""
        return self.launch + pixels + 1

    def fetching(self, taps: int, latency: int) -> int:
        """From showing a command to having the next one and its taps: what the FIFO holds, and DDR for the rest."""
        beats = HEADER_BEATS + taps
        return beats + latency * max(0, math.ceil((beats - self.fetch_beats) / self.fetch_beats))

    def lag(self, channels: int) -> int:
        """From issuing a group's last step to draining it; the adder tree has ceil(log3 C) levels."""
        return self.read + self.accumulate + math.ceil(math.log(channels, 3) - 1e-9)

    def latency(self, clock_mhz: float) -> int:
        """Cycles from a DDR request to its first beat."""
        return math.ceil(self.ddr_latency_ns * clock_mhz / 1e3)

    def write_latency(self, clock_mhz: float) -> int:
        """Cycles from the last beat of a write to its response."""
        return math.ceil(self.ddr_write_latency_ns * clock_mhz / 1e3)


#: The model's constants.
DEFAULT_TIMING = Timing()
