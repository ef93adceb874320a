"""The cycle model of a program: the loop bounds and tiles are those of its plan, command by command."""

from __future__ import annotations

import numpy as np

from bitloom.explore.layers import IntArray, Layer, Tensor
from bitloom.explore.loops import Nest, Shape, Transfer, Writing, planes_and_words, rounds_of
from bitloom.explore.performance import Performance, run_workload, shape_of
from bitloom.explore.schedule import Workload
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.graph.qgraph import QConv
from bitloom.program.commands import BEAT_BYTES
from bitloom.program.regions import slots
from bitloom.program.steps import EngineStep, LoadStep, Plan, StoreStep
from bitloom.target.device import Device


def _layer(step: EngineStep, shape: Shape) -> Layer:
    """The layer of a command; its multiplications are those of all rows up to the command's last."""
    node, to = step.node, step.dst
    conv = isinstance(node, QConv)
    out = Tensor(to.tensor, to.segments, to.rows, to.width, to.layout.split, to.layout.pitch)
    source = Tensor(node.input, step.src_segments or (shape.channels,), *step.window.in_size, False, 0)
    bits = node.bits.astype(np.int64) if isinstance(node, QConv) else None
    kernel, stride = step.window.kernel, (step.window.stride, step.window.stride)
    macs = 0
    if isinstance(node, QConv):
        macs = int(node.weight.size) * step.window.out_size[1] * (step.first_row + step.n_rows)
    residual = step.residual is not None
    groups = node.groups if isinstance(node, QConv) else 1
    return Layer(
        step.name, conv, source, out, kernel, stride, (0, 0, 0, 0), residual, bits, macs, (node.input,), groups=groups
    )


def _nest(step: EngineStep, layer: Layer, shape: Shape, transfers: tuple[Transfer, ...], loaded: int) -> Nest:
    """transfers: in front of it; loaded: words of the last LOAD so far."""
    grid = step.grid
    if step.flat:
        rounds = np.ones(grid.n_groups, np.int64)
    else:
        rounds = rounds_of(shape.pixels, Writing(grid.out_h, grid.out_w, grid.grid_w, step.dst.layout))
    taps, chunks, m, c = len(step.taps), step.in_chunks, shape.vector, shape.channels
    zero = np.zeros(1, np.int64)
    if layer.bits is None:
        out_chunks, lo, hi, words = np.full(1, chunks), zero, zero, np.zeros((1, m), np.int64)
    else:
        lo, hi, words = planes_and_words(_lane_bits(step, layer.bits, shape), shape, taps * chunks)
        out_chunks = np.minimum(m // c, step.out_chunks - np.arange(lo.size) * (m // c))
    return Nest(
        layer, shape, step.n_rows, grid.n_groups, taps, chunks, rounds, out_chunks, lo, hi, words, transfers,
        min(step.load_first, loaded), step.wait_dma, grid.tile_groups if layer.conv else None,
        layer.residual and not step.res_side, step.first_vector,
    )  # fmt: skip


def _lane_bits(step: EngineStep, bits: IntArray, shape: Shape) -> IntArray:
    """Widths of the lanes of the command's vectors, one vector behind the other; 0 where no channel lies."""
    lanes = np.zeros(step.n_vectors * shape.vector, np.int64)
    at = slots(step.dst.segments, shape.channels) - step.first_vector * shape.vector
    inside = (at >= 0) & (at < lanes.size)
    lanes[at[inside]] = bits[inside]
    return lanes


def planned_workload(plan: Plan) -> tuple[tuple[Layer, ...], Workload]:
    """Layers and commands of a plan, in its order; layers carry the names of the plan's commands."""
    shape = shape_of(plan.arch)
    layers: dict[str, Layer] = {}
    nests: list[Nest] = []
    order: list[int] = []
    front: list[Transfer] = []  # transfers since the last engine command
    loaded = 0
    for step in plan.steps:
        if isinstance(step, LoadStep):
            loaded = step.words * step.chunks
            front.append(Transfer(step.beats * step.chunks * BEAT_BYTES, loaded))
        elif isinstance(step, StoreStep):
            words = step.words * step.chunks
            front.append(Transfer(words * shape.channels, words, store=True))
        else:
            layer = _layer(step, shape)
            nests.append(_nest(step, layer, shape, tuple(front), loaded))
            front.clear()
            known = layers.get(step.name, layer)
            layers[step.name] = known if known.macs > layer.macs else layer
            order.append(list(layers).index(step.name))
    stored = sum(t.words for t in front if t.store)
    return tuple(layers.values()), Workload(shape, tuple(nests), tuple(order), stored)


def planned_performance(plan: Plan, device: Device, timing: Timing = DEFAULT_TIMING) -> Performance:
    """Cycles of every layer of a plan, by cause; layers carry the names of the plan's commands.

    Raises TargetError when a vector does not fit the ring.
    """
    layers, load = planned_workload(plan)
    return run_workload(plan.name, layers, load, plan.arch, device, timing, None)
