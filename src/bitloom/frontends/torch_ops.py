"""What each ATen operation means: one small reader per operation, in the table HANDLERS."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from bitloom.frontends.advice import GENERIC, explain
from bitloom.frontends.draft import Affine, Reshape, Select
from bitloom.frontends.padding import same_pads, window_pads
from bitloom.frontends.torch_pointwise import POINTWISE
from bitloom.frontends.torch_reader import Reader
from bitloom.graph.fold import batch_norm_affine
from bitloom.graph.ir import (
    AvgPool,
    Concat,
    Conv,
    GlobalAvgPool,
    Linear,
    MaxPool,
    Pads,
)


def _two(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    return (int(values[0]), int(values[-1]))


def _conv(r: Reader) -> str:
    weight, bias = r.constant("weight"), r.constant("bias")
    dilation, groups = _two(r.arg("dilation")), int(r.arg("groups"))
    if weight is None or (bias is None and r.arg("bias") is not None):
        return r.unsupported("its weight is computed from the image", "use constant weights")
    if r.kind == "convolution" and r.arg("transposed"):
        return r.unsupported(
            "is a transposed convolution", "use upsampling outside the accelerator, or another network"
        )
    if weight.ndim != 4:
        return r.unsupported(f"is a {weight.ndim - 2}-D convolution", "only 2-D convolutions can be expressed")
    given, kernel = r.arg("padding"), (weight.shape[2], weight.shape[3])
    if any(k > 1 and d != 1 for k, d in zip(kernel, dilation, strict=True)):
        return r.unsupported(f"dilation = {dilation}", GENERIC["dilation"])
    if isinstance(given, str):
        pads = same_pads(kernel) if given == "same" else (0, 0, 0, 0)
    else:
        pads = window_pads(_two(given))
    bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    return r.add(Conv(weight, bias, _two(r.arg("stride")), pads, groups), r.tensor("input"))


def _linear(r: Reader) -> str:
    weight, bias = r.constant("weight"), r.constant("bias")
    if weight is None or (bias is None and r.arg("bias") is not None):
        return r.unsupported("its weight is computed from the image", "use constant weights")
    shape = r.shape(r.arg("input"))
    if len(shape) != 2:
        return r.unsupported(f"reads a tensor of shape {shape}", "flatten to (N, features) before a linear layer")
    return r.add(Linear(weight, np.zeros(weight.shape[0], np.float32) if bias is None else bias), r.tensor("input"))


def _batch_norm(r: Reader) -> str:
    mean, var = r.constant("running_mean"), r.constant("running_var")
    if mean is None or var is None or (r.kind == "batch_norm" and r.arg("training")):
        return r.unsupported(*explain("_native_batch_norm_legit"))
    scale, shift = batch_norm_affine(r.name, r.constant("weight"), r.constant("bias"), mean, var, float(r.arg("eps")))
    return r.add(Affine(scale, shift), r.tensor("input"))


def _max_pool(r: Reader) -> str:
    if any(k > 1 and d != 1 for k, d in zip(_two(r.arg("kernel_size")), _two(r.arg("dilation")), strict=True)):
        return r.unsupported(f"dilation = {_two(r.arg('dilation'))}", GENERIC["dilation"])
    kernel = _two(r.arg("kernel_size"))
    stride = _two(r.arg("stride") or kernel)
    pads = window_pads(_two(r.arg("padding")))
    return r.add(MaxPool(kernel, stride, pads, bool(r.arg("ceil_mode"))), r.tensor("self"))


def _avg_pool(r: Reader) -> str:
    kernel = _two(r.arg("kernel_size"))
    stride, pads = _two(r.arg("stride") or kernel), window_pads(_two(r.arg("padding")))
    if any(pads) and not r.arg("count_include_pad"):
        return r.unsupported("count_include_pad = False with padding: the divisor varies", GENERIC["count_include_pad"])
    if r.arg("divisor_override") not in (None, prod(kernel)):
        return r.unsupported(f"divisor_override = {r.arg('divisor_override')}", "divide by the window's size")
    return r.add(AvgPool(kernel, stride, pads, bool(r.arg("ceil_mode"))), r.tensor("self"))


def _adaptive_pool(r: Reader) -> str:
    x, have = r.tensor("self"), r.shape(r.arg("self"))[1:]
    rows, cols = r.shape(r.node)[-2:]
    if len(have) != 3:
        return r.unsupported(f"reads a tensor of shape {have}", "pool a (N, C, H, W) tensor")
    if (rows, cols) == have[1:]:
        return str(x)
    if have[1] % rows or have[2] % cols:
        return r.unsupported(
            f"pools {have[1]}x{have[2]} to {rows}x{cols}, which does not divide evenly", GENERIC["adaptive"]
        )
    kernel = (have[1] // rows, have[2] // cols)
    if r.kind == "adaptive_max_pool2d":
        return r.add(MaxPool(kernel, kernel, (0, 0, 0, 0)), x)
    return r.add(GlobalAvgPool() if (rows, cols) == (1, 1) else AvgPool(kernel, kernel, (0, 0, 0, 0)), x)


def _mean(r: Reader) -> str:
    shape = r.shape(r.arg("self"))
    dims = sorted(int(d) % len(shape) for d in (r.arg("dim") or range(len(shape))))
    if len(shape) != 4 or dims != [2, 3]:
        return r.unsupported(f"takes the mean over dimensions {dims} of {shape}", "take it over height and width")
    pooled = r.add(GlobalAvgPool(), r.tensor("self"))
    return pooled if r.arg("keepdim") else r.draft.add(f"{r.name}.flatten", Reshape((shape[1],)), (pooled,))


def _reshape(r: Reader) -> str:
    shape = r.shape(r.node)
    if len(shape) < 2 or shape[0] != 1:
        return r.unsupported(f"reshapes to {shape}, which mixes the batch in", "keep the batch as the first dimension")
    return r.add(Reshape(shape[1:]), r.tensor("self"))


def _cat(r: Reader) -> str:
    nodes = list(r.arg("tensors"))
    rank = len(r.shape(r.node))
    if int(r.arg("dim")) % rank != 1:
        return r.unsupported(f"concatenates along dimension {r.arg('dim')}", "concatenate channels (dim=1)")
    values = [r.values[node] for node in nodes]
    names = [v for v in values if isinstance(v, str)]
    if len(names) == len(values):
        return r.add(Concat(), *names) if len(names) > 1 else names[0]
    if len(names) != 1 or rank != 4 or any(isinstance(v, Tensor) and bool(v.any()) for v in values):
        return r.unsupported("concatenates constants", "only zero channels around one tensor can be expressed")
    at = next(i for i, v in enumerate(values) if isinstance(v, str))
    widths = [r.shape(node)[1] for node in nodes]
    return r.add(Select(channels=(sum(widths[:at]), sum(widths[at + 1 :]))), names[0])


def _pad(r: Reader) -> str:
    sizes = [int(size) for size in r.arg("pad")] + [0] * 6
    mode = r.arg("mode") if r.kind == "pad" else "constant"
    if mode != "constant" or r.arg("value") not in (None, 0):
        return r.unsupported(f"pads with mode '{mode}' and value {r.arg('value')}", "pad with zeros")
    left, right, top, bottom, before, after, *rest = sizes
    pads: Pads = (top, bottom, left, right)
    if min(sizes) < 0 or any(rest) or len(r.shape(r.node)) != 4:
        return r.unsupported(f"pads by {list(r.arg('pad'))}", "pad height, width and channels of (N, C, H, W) by >= 0")
    return r.add(Select(padding=pads, channels=(before, after)), r.tensor("self"))


def _slice(r: Reader) -> str:
    shape = r.shape(r.arg("self"))
    dim, step = int(r.arg("dim")) % len(shape), int(r.arg("step"))
    start, end = int(r.arg("start") or 0), r.arg("end")
    whole = start == 0 and (end is None or int(end) >= shape[dim])
    if whole and step == 1:
        return str(r.tensor("self"))
    if not whole or len(shape) != 4 or dim < 2:
        reason = f"slices dimension {dim} of {shape} from {start} to {end} by {step}"
        return r.unsupported(reason, "only every s-th row or column from the first can be expressed")
    return r.add(Select(stride=(step, 1) if dim == 2 else (1, step)), r.tensor("self"))


def _identity(r: Reader) -> str:
    return str(next(r.values[x] for x in r.node.all_input_nodes))


def _cast(r: Reader) -> str:
    if not r.node.meta["val"].is_floating_point():
        return r.unsupported(f"casts to {r.node.meta['val'].dtype}", "keep activations in floating point")
    return _identity(r)


def _dropout(r: Reader) -> str:
    if r.arg("train") and r.arg("p"):
        return r.unsupported("drops values in inference too", "use nn.Dropout, or pass training=self.training")
    return _identity(r)


HANDLERS: dict[str, Callable[[Reader], str]] = {
    **POINTWISE,
    **dict.fromkeys(("conv2d", "convolution", "conv1d", "conv3d"), _conv),
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), _batch_norm),
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _max_pool),
    **dict.fromkeys(("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d"), _adaptive_pool),
    **dict.fromkeys(("flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze"), _reshape),
    **dict.fromkeys(("clone", "contiguous", "detach", "alias", "lift_fresh_copy"), _identity),
    **dict.fromkeys(("dropout", "feature_dropout", "native_dropout"), _dropout),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **dict.fromkeys(("_to_copy", "to"), _cast),
    "linear": _linear,
    "avg_pool2d": _avg_pool,
    "mean": _mean,
    "cat": _cat,
    "slice": _slice,
}
