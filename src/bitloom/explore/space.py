"""The search space: values that an architecture's sizes may take, and cheap admissible bounds for an unroll."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bitloom.explore.layers import Layer, Network
from bitloom.explore.loops import Shape, by_vector
from bitloom.numerics.packing import TWO_PASS_BITS
from bitloom.program.commands import BEAT_BYTES
from bitloom.target.device import Device


@dataclass(frozen=True)
class Space:
    """Values to enumerate. least_dsp: smallest share of the device's DSPs that the array must use."""

    pixels: tuple[int, ...] = (2, 4, 6, 8, 10, 12, 14, 16)
    channels: tuple[int, ...] = (4, 8, 16, 32, 64, 128)
    vectors: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    acc_groups: tuple[int, ...] = (8, 16, 32, 64)
    drain_channels: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    ring_words: tuple[int, ...] = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
    weight_ports: tuple[int, ...] = (1, 2, 4)
    act_rows: tuple[int, ...] = (1024, 2048, 4096, 8192, 12288, 16384, 20480, 24576, 32768, 49152, 65536)
    tap_entries: int = 256
    least_dsp: float = 0.25

    def shapes(self, device: Device) -> Iterator[Shape]:
        """Unrolls whose array fits the device's DSPs and uses at least `least_dsp` of them."""
        for p in self.pixels:
            for c in self.channels:
                for m in self.vectors:
                    array = p * c * m // 4 * device.dsps_per_quad
                    if m % c == 0 and self.least_dsp * device.dsp <= array <= device.dsp:
                        yield Shape(p, c, m)

    def drains(self, shape: Shape) -> tuple[int, ...]:
        """Drain widths that divide C."""
        return tuple(d for d in self.drain_channels if shape.channels % d == 0)

    def ports(self, shape: Shape, device: Device) -> tuple[int, ...]:
        """Weight ports that divide M and that the device has."""
        return tuple(w for w in self.weight_ports if shape.vector % w == 0 and w <= device.ddr_ports)


def ideal_cycles(layer: Layer, shape: Shape) -> int:
    """Least cycles in which the array (or the pool unit) can do a layer: no waste but rounding of the loops."""
    p, c, m = shape.pixels, shape.channels, shape.vector
    positions = layer.output.height * layer.output.width
    if not layer.conv or layer.bits is None:
        return -(-positions // p) * layer.input.chunks(c) * layer.kernel[0] * layer.kernel[1]
    passes = np.where((by_vector(layer.bits, m) >= TWO_PASS_BITS).any(axis=1), 2, 1)
    taps = layer.kernel[0] * layer.kernel[1]
    if layer.first and layer.groups == 1:
        return -(-positions // p) * -(-taps * layer.input.parts[0] // c) * int(passes.sum())
    chunks = np.concatenate([np.full(span.vectors, span.chunks) for span in layer.spans(c, m)])
    return -(-positions // p) * taps * int((chunks * passes).sum())


def bound_cycles(network: Network, shape: Shape, ddr_bytes_per_cycle: float) -> int:
    """Admissible bound of a whole run: the array's ideal, and every weight bit once over DDR."""
    compute = sum(ideal_cycles(layer, shape) for layer in network.layers)
    bits = 0
    for x in network.layers:
        if x.bits is not None:
            inputs = x.macs // (x.bits.size * x.output.height * x.output.width)
            bits += int(x.bits.sum()) * inputs
    return max(compute, int(bits / 8 / min(ddr_bytes_per_cycle, 4 * BEAT_BYTES)))
