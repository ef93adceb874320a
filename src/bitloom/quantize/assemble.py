"""Integer nodes from steps: scales, zero points and real biases become multipliers and integer biases."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from bitloom.errors import GraphError
from bitloom.graph.ir import Relu
from bitloom.graph.qgraph import Int8Array, QConv, QPool, QTensor
from bitloom.numerics.fixed import round_half_up
from bitloom.numerics.requantize import (
    FRACTION_BITS,
    IDENTITY,
    Requant,
    accumulator_bound,
    choose_requant,
    effective_ratio,
    largest_scale,
    residual_multiplier,
)
from bitloom.quantize.lower import ConvStep, PoolStep

BIAS_LIMIT = 1 << 25  #: |b / (s_a*s_c)| of a channel with weights
SCALE_ROOM = 1 - 2.0**-16  #: below the scale that no multiplier holds any more; training may reach it
CONSTANT_LIMIT = 4000.0  #: codes; a constant beyond saturates any sum with a residual
SUM_LIMIT = 1 << 23  #: |sum| of a pool
Float64Array = npt.NDArray[np.float64]


def make_conv(
    step: ConvStep,
    tensors: dict[str, QTensor],
    codes: Int8Array,
    bits: Int8Array,
    scale: Float64Array,
    bias: Float64Array,
) -> QConv:
    """codes (Cout, K), bits, scale (of either sign) and real bias (Cout,): the integer layer.

    GraphError when a bound cannot be met.
    """
    source, target = tensors[step.input], tensors[step.output]
    codes, scale, bias = _normal_rows(codes, scale, bias, source, target)
    bits = np.where((bits == 1) & ~codes.any(axis=1), 0, bits).astype(np.int8)  # no binary code is 0
    weight = codes.reshape(step.weight.shape)
    sums = codes.sum(axis=1, dtype=np.int64)
    res_mult, post, lo, hi = _output(step, tensors)

    def choose(at: Float64Array) -> tuple[npt.NDArray[np.int64], Requant]:
        integer = round_half_up(bias / (source.scale * at)) - source.zero_point * sums
        ratio = source.scale * at / target.scale
        return integer, choose_requant(ratio, accumulator_bound(weight, integer), post, lo, hi, res_mult, step.name)

    _, first = choose(scale)
    exact = effective_ratio(first) * target.scale / source.scale  # the scale that the multiplier stands for
    scale = np.where(exact != 0, exact, scale)
    integer, requant = choose(scale)
    if np.abs(integer).max(initial=0) >= 1 << 31:
        channel = int(np.abs(integer).argmax())
        raise GraphError(f"{step.name}: channel {channel}: bias {integer[channel]} exceeds 32 bits; use fewer bits")
    bias32 = integer.astype(np.int32)
    names = (step.name, step.input, step.output)
    return QConv(*names, weight, bits, bias32, scale, step.stride, step.padding, requant, step.residual, step.groups)


def _normal_rows(
    codes: Int8Array, scale: Float64Array, bias: Float64Array, source: QTensor, target: QTensor
) -> tuple[Int8Array, Float64Array, Float64Array]:
    """Rows without weights get a scale fine enough for their constant; rows far below their bias a coarser one.

    A bias that keeps the output saturated whatever the input is drawn in as far as that stays so: beside a tensor that
    never left zero in calibration, any bias is that large.
    """
    dead = ~codes.any(axis=1)
    unit = source.scale * scale
    centre = source.zero_point * unit * codes.sum(axis=1, dtype=np.int64)
    reach = 127 * np.abs(unit) * np.abs(codes.astype(np.int64)).sum(axis=1) + CONSTANT_LIMIT * target.scale
    bias = np.clip(bias, centre - reach, centre + reach)
    floor = np.abs(bias) / (source.scale * BIAS_LIMIT)
    small = ~dead & (np.abs(scale) < floor)
    if small.any():
        codes = codes.copy()
        size = round_half_up(np.abs(codes[small]) * (np.abs(scale[small]) / floor[small])[:, None])
        codes[small] = (np.sign(codes[small]) * size).astype(np.int8)
    scale = np.where(small, np.copysign(floor, scale), scale)
    largest = largest_scale(source.scale, target.scale) * SCALE_ROOM
    scale = np.clip(scale, -largest, largest)
    scale = np.where(dead, target.scale / (source.scale * 2**FRACTION_BITS), scale)
    return codes, scale, bias


def make_pool(step: PoolStep, tensors: dict[str, QTensor]) -> QPool:
    """The integer pool of a step."""
    parts = (step.name, step.input, step.output, step.maximum, step.kernel, step.stride, step.padding)
    if step.same_scale:
        return QPool(*parts, 0, IDENTITY)
    source, target = tensors[step.input], tensors[step.output]
    taps = 1 if step.maximum else step.kernel[0] * step.kernel[1]
    if 127 * taps >= SUM_LIMIT:
        raise GraphError(f"{step.name}: a sum over {taps} taps exceeds 2^23; legal: at most {SUM_LIMIT // 127} taps")
    res_mult, post, lo, hi = _output(step, tensors)
    ratio = np.array([source.scale / (step.count * target.scale)])
    bound = np.array([254 * taps], dtype=np.int64)
    requant = choose_requant(ratio, bound, post, lo, hi, res_mult, step.name)
    return QPool(*parts, -taps * source.zero_point, requant, step.residual)


def _output(step: ConvStep | PoolStep, tensors: dict[str, QTensor]) -> tuple[int, int, int, int]:
    """mr, post, lo, hi: the part after the multiplication."""
    target = tensors[step.output]
    res_mult, post = 0, target.zero_point << FRACTION_BITS
    if step.residual is not None:
        residual = tensors[step.residual]
        res_mult = residual_multiplier(residual.scale / target.scale, step.name)
        post -= residual.zero_point * res_mult
    return res_mult, post, *code_limits(step.relu, target)


def code_limits(relu: Relu | None, target: QTensor) -> tuple[int, int]:
    """Lowest and highest code of a layer's output, -127 to 127 without a ReLU."""
    if relu is None:
        return -127, 127
    high = 127 if relu.limit is None else target.zero_point + math.floor(relu.limit / target.scale + 0.5)
    return target.zero_point, min(127, high)
