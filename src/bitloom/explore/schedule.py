"""Work of a network on one unroll (P, C, M): the commands in order, striped layers once per stripe."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bitloom.explore.layers import IntArray, Network
from bitloom.explore.loops import Nest, Shape, nests
from bitloom.explore.residency import Stripes
from bitloom.explore.stream import Stream


@dataclass(frozen=True, eq=False)
class Workload:
    """Commands in order; `layer_of[i]` is the layer of command i; store_words: words of C bytes of the result."""

    shape: Shape
    nests: tuple[Nest, ...]
    layer_of: tuple[int, ...]
    store_words: int

    @cached_property
    def command_of(self) -> IntArray:
        """(V,) command of each vector (pools count as one vector)."""
        return np.repeat(np.arange(len(self.nests)), [n.vectors for n in self.nests])

    @cached_property
    def stream(self) -> Stream:
        """Weights of all vectors; pools have none."""
        words = np.concatenate([n.lane_words for n in self.nests])
        planes = np.concatenate([np.where(n.hi > 0, n.hi, n.lo) for n in self.nests])
        most = words.max(axis=1)
        share = np.where(most > 0, (self.shape.header_words + planes) / np.maximum(most, 1), 0.0)
        return Stream(self.shape.channels, words, np.minimum(share, 1.0))

    @cached_property
    def issue_cycles(self) -> int:
        """Cycles in which the array or the pool unit works."""
        return sum(n.issue_cycles for n in self.nests)


def workload(network: Network, shape: Shape, stripes: Stripes, tap_entries: int) -> Workload:
    """The commands of `network`: those of striped layers once per stripe, the others once."""
    full = [nests(layer, shape, tap_entries) for layer in network.layers[stripes.layers :]]
    part = [nests(network.layers[i], shape, tap_entries, rows) for i, rows in enumerate(stripes.rows)]
    runs = part * stripes.count + full
    order = list(range(stripes.layers)) * stripes.count + list(range(stripes.layers, len(network.layers)))
    commands = tuple(n for run in runs for n in run)
    layer_of = tuple(layer for layer, run in zip(order, runs, strict=True) for _ in run)
    out = network.tensors[network.output]
    words = out.chunks(shape.channels) * out.height * out.width
    return Workload(shape, commands, layer_of, words)
