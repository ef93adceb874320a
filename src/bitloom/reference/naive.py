"""The meaning of an integer network: plain loops over taps in int64, written for reading (docs/spec/arithmetic.md)."""

from __future__ import annotations

import numpy as np

from bitloom.errors import DataError
from bitloom.graph.qgraph import Int8Array, QConcat, QConv, QPool, QTensor, QuantGraph
from bitloom.numerics.fixed import Int64Array
from bitloom.numerics.requantize import requantize

OUTSIDE = -(1 << 40)  #: smaller than any code: a maximum never takes a pixel outside the image


def run_naive(qgraph: QuantGraph, codes: Int8Array) -> dict[str, Int8Array]:
    """Every tensor of one image: codes int8 (C, H, W) in, int8 (C, H, W) by tensor name out (the input included)."""
    expected = qgraph.tensors[qgraph.input].shape
    if codes.shape != expected or codes.dtype != np.int8 or (codes == -128).any():
        raise DataError(f"input codes: {codes.dtype} {codes.shape}, must be int8 {expected} in [-127, 127]")
    maps: dict[str, Int8Array] = {qgraph.input: codes}
    for node in qgraph.nodes:
        if isinstance(node, QConcat):
            maps[node.output] = np.concatenate([maps[x] for x in node.inputs], axis=0)
            continue
        source = qgraph.tensors[node.input]
        if isinstance(node, QConv):
            acc = _convolve(node, maps[node.input], source)
        else:
            acc = _pool(node, maps[node.input], source)
        residual = None if node.residual is None else maps[node.residual]
        maps[node.output] = requantize(acc, node.requant, residual)
    return maps


def _padded(x: Int8Array, node: QConv | QPool, value: int) -> Int64Array:
    top, bottom, left, right = node.padding
    wide: Int64Array = x.astype(np.int64)
    return np.pad(wide, ((0, 0), (top, bottom), (left, right)), constant_values=value)


def _convolve(node: QConv, x: Int8Array, source: QTensor) -> Int64Array:
    """acc[o, y, x] = bias[o] + sum over taps and the group's channels of w·a; outside the image a is the zero point."""
    padded = _padded(x, node, source.zero_point)
    out, width, kh, kw = node.weight.shape
    rows_of_group = out // node.groups
    sy, sx = node.stride
    rows = (padded.shape[1] - kh) // sy + 1
    cols = (padded.shape[2] - kw) // sx + 1
    acc = np.zeros((out, rows, cols), dtype=np.int64) + node.bias.astype(np.int64)[:, None, None]
    for dy in range(kh):
        for dx in range(kw):
            window = padded[:, dy : dy + sy * rows : sy, dx : dx + sx * cols : sx][:, :rows, :cols]
            for g in range(node.groups):
                of = slice(g * rows_of_group, (g + 1) * rows_of_group)
                tap = node.weight[of, :, dy, dx].astype(np.int64)
                acc[of] += np.tensordot(tap, window[g * width : (g + 1) * width], axes=1)
    return acc


def _pool(node: QPool, x: Int8Array, source: QTensor) -> Int64Array:
    """acc = bias + maximum over the taps inside, or bias + sum over all taps; outside a sum reads the zero point."""
    padded = _padded(x, node, OUTSIDE if node.maximum else source.zero_point)
    (kh, kw), (sy, sx) = node.kernel, node.stride
    rows = (padded.shape[1] - kh) // sy + 1
    cols = (padded.shape[2] - kw) // sx + 1
    acc = np.full((x.shape[0], rows, cols), OUTSIDE if node.maximum else 0, dtype=np.int64)
    for dy in range(kh):
        for dx in range(kw):
            window = padded[:, dy : dy + sy * rows : sy, dx : dx + sx * cols : sx][:, :rows, :cols]
            acc = np.maximum(acc, window) if node.maximum else acc + window
    return acc + node.bias
