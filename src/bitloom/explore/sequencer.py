"""The sequencer of the cycle model: when a command may start, and LOAD and STORE beside the commands behind them."""

from __future__ import annotations

import numpy as np

from bitloom.explore.loops import Nest, Transfer
from bitloom.explore.stream import FloatArray
from bitloom.explore.timing import Timing
from bitloom.program.commands import BEAT_BYTES
from bitloom.target.device import Device


def writing_cycles(beats: float, device: Device, timing: Timing) -> float:
    """From the first beat of a STORE to DDR to the response of its last one."""
    return beats * max(1.0, BEAT_BYTES * 8 / device.ddr_port_bits) + timing.write_latency(device.clock_mhz)


class Sequencer:
    """One command and one transfer at a time; all times in cycles, shape (W, K), one per variant.

    dma_idle: when the last transfer so far has ended.  load_rate: bytes a cycle that a LOAD draws; the weight ports
    give way.
    """

    def __init__(self, device: Device, timing: Timing, port_bytes: float, variants: tuple[int, int]) -> None:
        self._timing = timing
        self._latency = timing.latency(device.clock_mhz)
        self._device = device
        self.load_rate = min(port_bytes, device.ddr_bytes_per_cycle(timing.ddr_efficiency) / 2)
        self.dma_idle: FloatArray = np.zeros(variants)
        self._storing = False
        self._first_word: FloatArray = np.zeros(variants)
        self._word, self._words = 1.0, 0  # of the last LOAD: cycles a word, words
        self._shown: FloatArray | None = None  # when the command in front was

    def start(self, nest: Nest, at: FloatArray) -> tuple[FloatArray, FloatArray]:
        """A command that the sequencer comes to at `at`: when its first tile may begin, and how long it stood before.

        It stands while LOAD and STORE are not over, where it or a transfer in front of it has to wait for them.
        """
        timing, start = self._timing, self._timing.start(nest.shape.pixels)
        fetched = at
        if self._shown is not None:
            fetched = np.maximum(at, self._shown + timing.fetching(nest.taps, self._latency))
        self._shown, ready = at, fetched
        for transfer in nest.transfers:
            ready = self._transfer(transfer, ready)
        begin = ready + start
        if nest.held or self._storing:
            begin = np.maximum(begin, np.ceil(self.dma_idle) + start - timing.decode)
        return begin, begin - fetched - start - len(nest.transfers) * timing.fetch

    def _transfer(self, transfer: Transfer, at: FloatArray) -> FloatArray:
        """Starts a LOAD or STORE; when the sequencer is done with it."""
        timing = self._timing
        done = np.maximum(at, self.dma_idle) + timing.fetch
        begin = done + timing.dma_start
        self._storing = transfer.store  # every command waits for a STORE
        if transfer.store:
            self.dma_idle = begin + writing_cycles(transfer.bytes / BEAT_BYTES, self._device, timing)
        else:
            self._first_word, self._words = begin + self._latency, transfer.words
            self._word = max(transfer.bytes / self.load_rate / transfer.words, 1.0)  # one word a cycle at most
            self.dma_idle = self.written() + timing.dma_stop
        return done

    def written(self, words: int | None = None) -> FloatArray:
        """When the last LOAD has written so many words, or all of its own."""
        return self._first_word + self._word * (self._words if words is None else words)
