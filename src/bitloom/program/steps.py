"""What a plan consists of: the frozen steps that become commands one by one."""

from __future__ import annotations

from dataclasses import dataclass

from bitloom.graph.qgraph import QConv, QPool
from bitloom.program.commands import Base
from bitloom.program.geometry import Grid, Tap, Window
from bitloom.program.inputs import FoldSpec, InputSpec, LinearSpec
from bitloom.program.regions import Placement, Region
from bitloom.target.arch import ArchConfig


@dataclass(frozen=True)
class LoadStep:
    """DDR to activation memory. beats: of 16 bytes per chunk; words: written per chunk."""

    layer: int
    name: str
    placement: Placement | None  #: None for a folded image
    base: int
    chunk_rows: int
    chunks: int
    source: Base
    offset: int
    beats: int
    words: int
    linear: bool
    units_log2: int = 0
    window: int = 0


@dataclass(frozen=True)
class StoreStep:
    """Activation memory to DDR. words: per chunk."""

    layer: int
    name: str
    placement: Placement
    target: Base
    offset: int
    words: int
    chunks: int


@dataclass(frozen=True, eq=False)
class EngineStep:
    """A convolution or pool over rows first_row .. first_row+grid.out_h-1 (flat: all positions) of its output.

    src_segments: channel groups of the input (empty for a folded image).  fold: the input is the folded image.
    res_side: the residual lies in the other half of the memory than the input.  image_rows: rows of one image, where
    the grid holds several of a batch; first_row counts through them.

    A grouped convolution takes several steps. first_vector, first_chunk: those of the output's vectors and the input's
    chunks that the step begins with; dst and residual are whole.  ends: behind this step the rows are complete.
    """

    layer: int
    name: str
    node: QConv | QPool
    window: Window
    fold: FoldSpec | None
    src_segments: tuple[int, ...]
    in_base: int
    in_chunk_rows: int
    in_chunks: int
    pad_code: int
    dst: Placement
    residual: Placement | None
    res_side: bool
    grid: Grid
    taps: tuple[Tap, ...]
    flat: bool
    first_row: int
    n_rows: int
    n_vectors: int
    out_chunks: int
    wait_dma: bool
    load_first: int
    load_step: int
    image_rows: int | None = None
    first_vector: int = 0
    first_chunk: int = 0
    ends: bool = True


Step = LoadStep | EngineStep | StoreStep


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything the hardware needs to know about a network, before it is written as bits.

    placements: where each whole tensor lies (absent: tensors that exist only in stripes, or image by image).  layers:
    names by number.  batch: images of a run; input_spec is of one, the output holds their rows one below the other.
    """

    name: str
    arch: ArchConfig
    steps: tuple[Step, ...]
    regions: tuple[Region, ...]
    placements: dict[str, Placement]
    input_spec: InputSpec
    output_spec: LinearSpec
    layers: tuple[str, ...]
    scratch_bytes: int = 0
    batch: int = 1
