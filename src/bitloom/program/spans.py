"""Which input chunks the vectors of a convolution read: a run of vectors that read the same ones is a command.

The channels of a group are read by the vectors that hold the group's outputs alone, so that a grouped convolution is a
row of short commands, and a dense one the case of a single command (docs/spec/streams.md, "Grouped convolution").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from bitloom.program.regions import slots


@dataclass(frozen=True)
class Span:
    """Vectors first_vector .. first_vector+vectors-1 read chunks first_chunk .. first_chunk+chunks-1 of the input."""

    first_vector: int
    vectors: int
    first_chunk: int
    chunks: int


@lru_cache(maxsize=4096)
def spans(
    groups: int, source: tuple[int, ...], target: tuple[int, ...], channels: int, vector: int
) -> tuple[Span, ...]:
    """The commands of a convolution of `groups` groups, in order of their vectors, which they cover without a gap.

    source, target: segments of input and output (channel counts, each beginning at a chunk border).  channels: C.
    vector: M.
    """
    read, written = slots(source, channels), slots(target, channels)
    width, rows = len(read) // groups, len(written) // groups  # channels of a group, in and out
    found: list[Span] = []
    for index in range(int(written[-1]) // vector + 1):
        begin, end = written.searchsorted([index * vector, (index + 1) * vector])
        first = int(read[begin // rows * width]) // channels
        chunks = int(read[((end - 1) // rows + 1) * width - 1]) // channels + 1 - first
        last = found[-1] if found else None
        if last is not None and (last.first_chunk, last.chunks) == (first, chunks):
            found[-1] = Span(last.first_vector, last.vectors + 1, first, chunks)
        else:
            found.append(Span(index, 1, first, chunks))
    return tuple(found)
