"""Constants of the cycle model, in one record: everything that is not a loop bound."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Cycles unless said otherwise. Structural values come from the RTL named; the rest is to be calibrated against it.

    launch: Next, Fetch, Launch, engine start (bl_sequencer), Prime after the coordinates' set-up of P + 1 (bl_coords).
    command_beats: cycles per beat of a command (6 + taps) that the command fetch adds in front of a command.
    read: bl_reader.  accumulate: bl_mac_array and bl_accum from activations to written sums.
    drain: bl_drain from the accumulators to the written code.  finish: END and done.
    ddr_efficiency: delivered share of the peak (refresh, turnarounds); 0.85 is the mark of the speed goals.
    ddr_latency_ns: first beat of a read.  dma_start: LOAD or STORE command to its first request.
    """

    launch: int = 6
    command_beats: int = 1
    read: int = 4
    accumulate: int = 12
    drain: int = 12
    finish: int = 4
    ddr_efficiency: float = 0.85
    ddr_latency_ns: float = 150.0
    dma_start: int = 8

    def start(self, pixels: int, taps: int) -> int:
        """Control cycles in front of a CONV or POOL command."""
        return self.launch + pixels + 1 + self.command_beats * (6 + taps)

    @property
    def plain_command(self) -> int:
        """Control cycles of a command without an engine (BEGIN, WEIGHTS, LOAD, STORE, END)."""
        return self.launch + 6 * self.command_beats

    def latency(self, clock_mhz: float) -> int:
        """Cycles from a DDR request to its first beat."""
        return math.ceil(self.ddr_latency_ns * clock_mhz / 1e3)

    @property
    def flush(self) -> int:
        """Control cycles behind the last issue: pipelines run empty."""
        return self.read + self.accumulate + self.drain


#: The uncalibrated model.
DEFAULT_TIMING = Timing()
