"""The fast exact interpreter: float32 convolutions that cannot round, batched over images; equal to `run_naive`.

A float32 sum of integers is exact while every partial sum stays below 2^24. Activations are at most 127 in size, so
input channels are split into runs with sum|w| <= 2^24 / 127 per output channel, and the runs are added in int32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.execute import pad2d
from bitloom.graph.ir import Pads
from bitloom.graph.qgraph import Int8Array, Int32Array, QConcat, QConv, QPool, QTensor, QuantGraph, node_inputs
from bitloom.numerics.requantize import requantize

EXACT_SUM = ((1 << 24) - 1) // 127  #: largest sum|w| of one float32 run


def quantize_input(qgraph: QuantGraph, images: Tensor) -> Int8Array:
    """Codes of normalised float images (N, C, H, W): round half up to the input tensor's levels, clamped to +-127."""
    tensor = qgraph.tensors[qgraph.input]
    if images.dim() != 4 or tuple(images.shape[1:]) != tensor.shape:
        raise DataError(f"images have shape {tuple(images.shape)}, but '{qgraph.name}' needs (N, {tensor.shape})")
    if not bool(torch.isfinite(images).all()):
        raise DataError("images hold NaN or infinite pixels; remove them")
    return codes_of(images, tensor)


def codes_of(values: Tensor, tensor: QTensor) -> Int8Array:
    """Real values to codes of `tensor`, round half up."""
    codes = torch.floor(values.double() / tensor.scale + 0.5) + tensor.zero_point
    return np.asarray(codes.clamp(-127, 127).to(torch.int8).numpy())


def run_fast(qgraph: QuantGraph, codes: Int8Array, keep: Collection[str] | None = None) -> dict[str, Int8Array]:
    """Tensors of a batch: codes int8 (N, C, H, W) in, int8 (N, C, H, W) by name out.

    keep: names to return (None: only the output tensor); others are freed after their last use.
    """
    expected = qgraph.tensors[qgraph.input].shape
    if codes.shape[1:] != expected or codes.dtype != np.int8 or bool((codes == -128).any()):
        raise DataError(f"input codes: {codes.dtype} {codes.shape}, must be int8 (N, {expected}) in [-127, 127]")
    wanted = {qgraph.output} if keep is None else set(keep)
    unknown = wanted - qgraph.tensors.keys()
    if unknown:
        raise KeyError(f"'{qgraph.name}' has no tensor {sorted(unknown)[0]!r}")
    last_use: dict[str, int] = {}
    for index, node in enumerate(qgraph.nodes):
        last_use |= dict.fromkeys(node_inputs(node), index)
    live = {qgraph.input: codes}
    kept = {qgraph.input: codes} if qgraph.input in wanted else {}
    for index, node in enumerate(qgraph.nodes):
        if isinstance(node, QConcat):
            result = np.concatenate([live[x] for x in node.inputs], axis=1)
        else:
            residual = None if node.residual is None else live[node.residual]
            result = run_node(node, live[node.input], qgraph.tensors[node.input].zero_point, residual)
        live[node.output] = result
        if node.output in wanted:
            kept[node.output] = result
        for name in [n for n in live if last_use.get(n, index) <= index]:
            del live[name]
    return kept


def run_node(node: QConv | QPool, x: Int8Array, zero_point: int, residual: Int8Array | None) -> Int8Array:
    """Output codes (N, Cout, OH, OW) of one layer, image by image to bound the memory."""
    if isinstance(node, QConv):
        convolve = exact_convolution(node.weight, node.stride, node.padding, zero_point, node.groups)
    outputs = []
    for i in range(x.shape[0]):
        image = x[i : i + 1]
        if isinstance(node, QConv):
            acc = convolve(image) + node.bias[:, None, None]
        else:
            acc = pool_accumulate(node, image, zero_point) + node.bias
        outputs.append(requantize(acc, node.requant, None if residual is None else residual[i : i + 1]))
    return np.concatenate(outputs, axis=0)


def exact_convolution(
    weight: Int8Array, stride: tuple[int, int], padding: Pads, pad: int, groups: int = 1
) -> Callable[[Int8Array], Int32Array]:
    """The exact sum of w·a without bias as a function of x (N, Cin, H, W) int8, giving int32 (N, Cout, OH, OW).

    weight: (Cout, Cin / groups, KH, KW); pixels outside read the code `pad`.
    """
    least = weight.shape[2] * weight.shape[3] if groups == 1 else int(np.prod(weight.shape[1:]))
    single = least * 127 <= EXACT_SUM  # else a huge map, or wide groups: float64 needs no runs
    dtype = torch.float32 if single else torch.float64
    kernel = torch.from_numpy(np.ascontiguousarray(weight)).to(dtype)
    runs = _exact_runs(weight) if single and groups == 1 else [(0, weight.shape[1] * groups)]
    kernels = [kernel[:, begin:end].contiguous() for begin, end in runs]

    def convolve(x: Int8Array) -> Int32Array:
        image = pad2d(torch.from_numpy(x).to(dtype), padding, float(pad))
        total: Tensor | None = None
        for (begin, end), part in zip(runs, kernels, strict=True):
            sums = F.conv2d(image[:, begin:end], part, stride=stride, groups=groups).to(torch.int32)
            total = sums if total is None else total + sums
        assert total is not None
        return np.asarray(total.numpy())

    return convolve


def _exact_runs(weight: Int8Array) -> list[tuple[int, int]]:
    """Runs of input channels whose sum|w| stays exact for every output channel."""
    flat = np.abs(weight.reshape(*weight.shape[:2], -1).astype(np.int16)).sum(axis=2, dtype=np.int64)
    sums = flat.cumsum(axis=1)
    runs, begin, base = [], 0, np.zeros(weight.shape[0], dtype=np.int64)
    while begin < weight.shape[1]:
        over = ((sums - base[:, None]) > EXACT_SUM).any(axis=0)
        end = int(np.argmax(over)) if over.any() else weight.shape[1]
        runs.append((begin, end))
        begin, base = end, sums[:, end - 1]
    return runs


def pool_accumulate(node: QPool, x: Int8Array, zero_point: int) -> Int32Array:
    """Maximum or sum without bias, int32 (N, C, OH, OW); exact, |sum| < 2^23."""
    if node.kernel == (1, 1) and node.stride == (1, 1) and not any(node.padding):
        return np.asarray(x.astype(np.int32))
    image = pad2d(torch.from_numpy(x).float(), node.padding, -128.0 if node.maximum else float(zero_point))
    if node.maximum:
        pooled = F.max_pool2d(image, node.kernel, node.stride)
    else:
        pooled = F.avg_pool2d(image, node.kernel, node.stride, divisor_override=1)
    return np.asarray(pooled.to(torch.int32).numpy())
