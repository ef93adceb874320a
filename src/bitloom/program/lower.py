"""From a plan to bits: the command stream and the weight streams."""

from __future__ import annotations

import hashlib

from bitloom.errors import DataError
from bitloom.graph.qgraph import Int8Array, QConcat, QConv, QPool, QuantGraph
from bitloom.program.commands import BEAT_BYTES, HEADER_BEATS, Base, Command, Opcode
from bitloom.program.container import Program, TraceEntry, weight_offsets
from bitloom.program.inputs import input_bytes
from bitloom.program.regions import Uint8Array
from bitloom.program.steps import EngineStep, LoadStep, Plan, StoreStep
from bitloom.program.weights import WeightPacker
from bitloom.target.arch import ArchConfig

ONE_IMAGE = 4095  #: image_rows of a grid that holds one image: never reached

__all__ = ["extract", "input_image", "lower"]


def lower(qgraph: QuantGraph, plan: Plan) -> Program:
    """The program of `plan`, made from `qgraph`.

    ProgramError when a vector's weights exceed the ring of a lane, or a field of a command cannot hold its value.
    """
    packer = WeightPacker(plan.arch)
    for step in plan.steps:
        if isinstance(step, EngineStep) and isinstance(step.node, QConv):
            packer.add(step)
    weights = packer.ports()
    used = [p for p, stream in enumerate(weights) if stream]
    commands: list[Command] = []
    trace: list[TraceEntry] = []
    for step in plan.steps:
        if isinstance(step, EngineStep):
            index = 1 + len(used) + len(commands)
            if step.ends:
                trace.append(TraceEntry(index, step.layer, step.name, step.dst, step.first_row, step.n_rows))
            commands.append(_engine(step, plan.arch))
        else:
            commands.append(_load(step) if isinstance(step, LoadStep) else _store(step))
    end = Command({"opcode": Opcode.END, "layer": len(plan.layers) - 1})
    begin = Command({"opcode": Opcode.BEGIN, "arch_hash": plan.arch.hash})
    beats = sum(c.beats for c in (begin, *commands, end)) + HEADER_BEATS * len(used)
    offsets = weight_offsets(beats * BEAT_BYTES, weights)
    starts = [_weights(port, offsets[port], len(weights[port])) for port in used]
    stream = b"".join(c.encode() for c in (begin, *starts, *commands, end))
    return Program(
        name=plan.name,
        arch=plan.arch,
        commands=stream,
        weights=weights,
        input_spec=plan.input_spec,
        output_spec=plan.output_spec,
        layers=plan.layers,
        trace=tuple(trace),
        placements=plan.placements,
        graph_hash=graph_hash(qgraph),
        scratch_bytes=plan.scratch_bytes,
        batch=plan.batch,
    )


def input_image(target: Plan | Program, codes: Int8Array) -> bytes:
    """DDR bytes of a run: an image of codes, int8 (C, H, W) in [-127, 127], or a batch (N, C, H, W); else DataError."""
    images = codes[None] if codes.ndim == 3 else codes
    if len(images) != target.batch:
        raise DataError(f"{len(images)} images for a program of batch {target.batch}; give {target.batch}")
    return b"".join(input_bytes(target.input_spec, image) for image in images)


def extract(target: Plan | Program, tensor: str, memory: Uint8Array) -> Int8Array:
    """A whole tensor, int8 (C, H, W), from a shadow of the activation memory taken while the tensor lives.

    memory: uint8 [P, act_rows, C]. DataError for a tensor that never lies there as a whole.
    """
    if tensor not in target.placements:
        legal = ", ".join(sorted(target.placements))
        raise DataError(f"tensor '{tensor}' never lies in the activation memory as a whole; legal: {legal}")
    return target.placements[tensor].read(memory)


def graph_hash(qgraph: QuantGraph) -> str:
    """SHA-256 over everything that decides the integers of a graph."""
    digest = hashlib.sha256(f"{qgraph.input}>{qgraph.output}".encode())
    for name, tensor in qgraph.tensors.items():
        digest.update(f"{name}{tensor.shape}{tensor.zero_point}".encode())
    for node in qgraph.nodes:
        if isinstance(node, QConcat):
            digest.update(f"{node.inputs}{node.output}".encode())
            continue
        rq = node.requant
        digest.update(f"{node.input}{node.output}{node.residual}{node.stride}{node.padding}".encode())
        digest.update(f"{rq.post}{rq.lo}{rq.hi}{rq.res_mult}".encode())
        if isinstance(node, QConv) and node.groups > 1:
            digest.update(f"groups {node.groups}".encode())
        arrays = [rq.mult.astype("<i4"), rq.s_sel.astype("i1"), rq.pre.astype("i1")]
        if isinstance(node, QConv):
            arrays += [node.weight, node.bits.astype("i1"), node.bias.astype("<i4")]
        else:
            digest.update(f"{node.maximum}{node.kernel}{node.bias}".encode())
        for array in arrays:
            digest.update(f"{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _weights(port: int, offset: int, size: int) -> Command:
    """size: bytes at `offset` of the program."""
    return Command(
        {
            "opcode": Opcode.WEIGHTS,
            "port": port,
            "ddr_sel": Base.PROGRAM,
            "ddr_offset": offset,
            "beats": size // BEAT_BYTES,
        }
    )


def _engine(step: EngineStep, arch: ArchConfig) -> Command:
    node, grid, dst, rq = step.node, step.grid, step.dst, step.node.requant
    rows = ONE_IMAGE if step.image_rows is None else step.image_rows
    out_chunk = step.first_vector * arch.vector // arch.channels
    fields = {
        "opcode": Opcode.CONV if isinstance(node, QConv) else Opcode.POOL,
        "layer": step.layer,
        "wait_dma": int(step.wait_dma),
        "residual": int(step.residual is not None),
        "out_split": int(dst.layout.split and not step.flat),
        "in_base": step.in_base,
        "in_chunk_rows": step.in_chunk_rows,
        "in_chunks": step.in_chunks,
        "pad_code": step.pad_code,
        "grid_w": grid.grid_w,
        "image_rows": rows,
        "adv_y": arch.pixels // grid.grid_w,
        "adv_image": arch.pixels // grid.grid_w % rows,
        "adv_x": arch.pixels % grid.grid_w,
        "out_w": grid.out_w,
        "out_h": grid.out_h,
        "n_groups": grid.n_groups,
        "tile_groups": grid.tile_groups,
        "n_tiles": grid.n_tiles,
        "last_tile_groups": grid.last_tile_groups,
        "n_vectors": step.n_vectors,
        "out_base": dst.base + out_chunk * dst.chunk_rows,
        "out_chunk_rows": dst.chunk_rows,
        "out_chunks": step.out_chunks,
        "out_pitch": grid.grid_w if step.flat else dst.layout.pitch,
        "out_phase_pixels": 0 if step.flat else dst.layout.phase_pixels,
        "out_y0": step.first_row - dst.y0,
        "post": rq.post,
        "clamp_lo": rq.lo,
        "clamp_hi": rq.hi,
        "load_first": step.load_first,
        "load_step": step.load_step,
    }
    if step.residual is not None:
        res = step.residual
        fields |= {
            "res_base": res.base + out_chunk * res.chunk_rows,
            "res_chunk_rows": res.chunk_rows,
            "res_split": int(res.layout.split and not step.flat),
            "res_pitch": grid.grid_w if step.flat else res.layout.pitch,
            "res_phase_pixels": 0 if step.flat else res.layout.phase_pixels,
            "res_y0": step.first_row - res.y0,
            "res_side": int(step.res_side),
            "res_mult": rq.res_mult,
        }
    if isinstance(node, QPool):
        fields |= {
            "pool_max": int(node.maximum),
            "pool_bias": node.bias,
            "pool_mult": int(rq.mult[0]),
            "pool_s_sel": int(rq.s_sel[0]),
            "pool_pre": int(rq.pre[0]),
        }
    taps = tuple(
        {
            "row_off": t.offset // arch.pixels,
            "bank_off": t.offset % arch.pixels,
            "y_lo": t.y_lo,
            "y_hi": t.y_hi,
            "x_lo": t.x_lo,
            "x_hi": t.x_hi,
        }
        for t in step.taps
    )
    return Command({k: int(v) for k, v in fields.items()}, taps)


def _load(step: LoadStep) -> Command:
    return Command(
        {
            "opcode": Opcode.LOAD,
            "layer": step.layer,
            "out_base": step.base,
            "out_chunk_rows": step.chunk_rows,
            "ddr_sel": step.source,
            "ddr_offset": step.offset,
            "beats": step.beats,
            "dma_linear": int(step.linear),
            "dma_chunks": step.chunks,
            "units_log2": step.units_log2,
            "window": step.window,
        }
    )


def _store(step: StoreStep) -> Command:
    return Command(
        {
            "opcode": Opcode.STORE,
            "layer": step.layer,
            "in_base": step.placement.base,
            "in_chunk_rows": step.placement.chunk_rows,
            "ddr_sel": step.target,
            "ddr_offset": step.offset,
            "beats": step.words,
            "dma_chunks": step.chunks,
        }
    )
