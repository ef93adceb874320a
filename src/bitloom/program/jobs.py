"""What a schedule consists of: buffers, and the jobs that read and write them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from bitloom.graph.qgraph import QConv, QPool
from bitloom.program.commands import Base
from bitloom.program.geometry import Window
from bitloom.program.regions import Layout, Pairs, Region, chunk_count
from bitloom.program.spans import spans
from bitloom.target.arch import ArchConfig


@dataclass(frozen=True)
class Buffer:
    """Rows y0 .. y0+rows-1 of a tensor (unit rows of a folded image) inside a region, from region row row_offset on.

    words: flat positions per chunk, rounded to whole beats where the buffer meets DDR.
    """

    tensor: str
    segments: tuple[int, ...]
    y0: int
    rows: int
    width: int
    layout: Layout
    region: str
    row_offset: int
    chunk_rows: int
    words: int


@dataclass(frozen=True)
class Home:
    """Where a tensor lies in DDR: bytes from `base`; words of C bytes from one chunk to the next."""

    base: Base
    offset: int
    words: int


@dataclass(frozen=True)
class LoadJob:
    """LOAD of a buffer of input image `image` (of the folded image: first unit row buffer.y0), or from its home."""

    name: str
    buffer: Buffer
    image: int = 0
    home: Home | None = None


@dataclass(frozen=True, eq=False)
class EngineJob:
    """Rows first .. end-1 of the output of `node`; rows of a batch count through its images.

    images: of one image, or of all of a batch at once.  src_row: row of src at which the (first) image begins.
    """

    name: str
    node: QConv | QPool
    src: Buffer
    dst: Buffer
    residual: Buffer | None
    first: int
    end: int
    window: Window  #: of these rows (of one image), on the rows that src holds
    images: int = 1
    src_row: int = 0


@dataclass(frozen=True)
class StoreJob:
    """STORE of a buffer to its home; without one it is the result."""

    name: str
    buffer: Buffer
    home: Home | None = None


Job = LoadJob | EngineJob | StoreJob


@dataclass(frozen=True, eq=False)
class Schedule:
    """Jobs in order, rows of every region, and the buffers that hold whole tensors.

    times: when each job takes place; the images of a batch take theirs one after the other, at the same times.
    kept: regions that live as long as images come, until time `kept_until` at least.
    """

    jobs: tuple[Job, ...]
    region_rows: dict[str, int]
    whole: dict[str, Buffer]
    times: tuple[int, ...]
    kept: frozenset[str] = frozenset()
    kept_until: int = 0
    scratch_bytes: int = 0

    def regions(self) -> tuple[Region, ...]:
        """Every region with the span of jobs that touch it, in order of birth; not yet allocated."""
        span: dict[str, tuple[int, int]] = {}
        for time, job in zip(self.times, self.jobs, strict=True):
            touched = (job.src, job.dst, job.residual) if isinstance(job, EngineJob) else (job.buffer,)
            for buffer in touched:
                if buffer is not None:
                    first, last = span.get(buffer.region, (time, time))
                    span[buffer.region] = (min(first, time), max(last, time))
        for name in self.kept:
            span[name] = (0, max(span[name][1], self.kept_until))
        return tuple(Region(name, self.region_rows[name], *life) for name, life in span.items())

    def apart(self, arch: ArchConfig) -> tuple[Pairs, Pairs]:
        """Pairs of regions that best lie in different halves of the memory, each with ports of its own: all, and those
        that cost cycles otherwise.

        Input and residual of a job (which costs where results come faster than port B alone adds and writes them); an
        image and the result that is made while it comes in.
        """
        every: dict[tuple[str, str], None] = {}
        costly: dict[tuple[str, str], None] = {}
        for before, job in pairwise((None, *self.jobs)):
            if isinstance(job, EngineJob) and job.residual is not None:
                every[job.src.region, job.residual.region] = None
                if _drain_binds(job, arch):
                    costly[job.src.region, job.residual.region] = None
            if isinstance(before, LoadJob) and isinstance(job, EngineJob) and _is_image_of(before, job):
                for region in (job.src.region, before.buffer.region):
                    every[region, job.dst.region] = costly[region, job.dst.region] = None
        return tuple(every), tuple(costly)


def _is_image_of(load: LoadJob, job: EngineJob) -> bool:
    """What comes in is what the job reads, or the image behind it."""
    return load.buffer is job.src or (load.home is None and load.buffer.tensor == job.src.tensor and load.image > 0)


def _chunks_read(job: EngineJob, arch: ArchConfig) -> int:
    """Fewest input chunks that a vector reads; 1 for a pool."""
    if not isinstance(job.node, QConv):
        return 1
    if job.node.groups == 1:
        return chunk_count(job.src.segments, arch.channels)
    found = spans(job.node.groups, job.src.segments, job.dst.segments, arch.channels, arch.vector)
    return min(span.chunks for span in found)


def _drain_binds(job: EngineJob, arch: ArchConfig) -> bool:
    """A group takes fewer steps than the drain takes cycles at two a word."""
    kernel = job.window.kernel
    steps = kernel[0] * kernel[1] * _chunks_read(job, arch)
    chunks = min(arch.vector // arch.channels, chunk_count(job.dst.segments, arch.channels))
    return steps < 2 * arch.channels // arch.drain_channels * (chunks if isinstance(job.node, QConv) else 1)
