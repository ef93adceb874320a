"""What each ONNX operator means: one small reader per operator, in the table HANDLERS."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bitloom.frontends.advice import GENERIC
from bitloom.frontends.draft import Affine, Reshape, Select
from bitloom.frontends.onnx_pointwise import POINTWISE
from bitloom.frontends.onnx_reader import Reader, behind
from bitloom.frontends.padding import strided_same_pads
from bitloom.graph.fold import batch_norm_affine
from bitloom.graph.ir import AvgPool, Concat, Conv, GlobalAvgPool, Linear, MaxPool, Pads, Shape


def _pair(values: Any) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def _window(r: Reader, kernel: tuple[int, int]) -> tuple[tuple[int, int], Pads] | str:
    """Stride and padding of a convolution or pool, or why they cannot be expressed."""
    stride = _pair(r.attribute("strides", (1, 1)))
    if any(k > 1 and d != 1 for k, d in zip(kernel, _pair(r.attribute("dilations", (1, 1))), strict=True)):
        return f"dilation = {_pair(r.attribute('dilations', (1, 1)))}"
    auto = r.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        size = _pair(r.shape[1:]) if r.shape is not None and len(r.shape) == 3 else (1, 1)
        return stride, strided_same_pads(size, kernel, stride, auto == "SAME_UPPER")
    top, left, bottom, right = (0, 0, 0, 0) if auto == "VALID" else r.attribute("pads", (0, 0, 0, 0))
    return stride, (int(top), int(bottom), int(left), int(right))


def _conv(r: Reader) -> str:
    weight, bias = r.weight(1, "weight"), r.weight(2, "bias")
    if weight is None or (bias is None and r.given(2)):
        return r.unsupported("its weight is computed from the image", "use constant weights")
    if weight.ndim != 4:
        return r.unsupported(f"is a {weight.ndim - 2}-D convolution", "only 2-D convolutions can be expressed")
    window = _window(r, _pair(weight.shape[2:]))
    if isinstance(window, str):
        return r.unsupported(window, GENERIC["dilation"])
    bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    return r.add(Conv(weight, bias, *window, int(r.attribute("group", 1))))


def _batch_norm(r: Reader) -> str:
    gamma, beta, mean, var = (r.weight(i, w) for i, w in enumerate(("weight", "bias", "mean", "variance"), start=1))
    trains = r.attribute("training_mode", 0) or any(r.node.output[1:])  # before opset 14, further outputs say so
    if gamma is None or beta is None or mean is None or var is None or trains:
        return r.unsupported("normalises with the statistics of the batch", "export the model in eval mode")
    return r.add(Affine(*batch_norm_affine(r.name, gamma, beta, mean, var, float(r.attribute("epsilon", 1e-5)))))


def _pool(r: Reader) -> str:
    window_shape = r.attribute("kernel_shape", (1, 1))
    if len(window_shape) != 2:
        return r.unsupported(f"is a {len(window_shape)}-D pool", "only 2-D pools can be expressed")
    kernel = _pair(window_shape)
    window = _window(r, kernel)
    if isinstance(window, str):
        return r.unsupported(window, GENERIC["dilation"])
    stride, pads = window
    ceil = bool(r.attribute("ceil_mode", 0))
    if r.node.op_type == "MaxPool":
        return r.add(MaxPool(kernel, stride, pads, ceil))
    if any(pads) and not r.attribute("count_include_pad", 0):
        return r.unsupported("count_include_pad = 0 with padding: the divisor varies", GENERIC["count_include_pad"])
    return r.add(AvgPool(kernel, stride, pads, ceil))


def _global_pool(r: Reader) -> str:
    if r.node.op_type == "GlobalAveragePool":
        return r.add(GlobalAvgPool())
    shape = r.shape
    if shape is None:
        return behind(r)
    if len(shape) != 3:
        return r.unsupported(f"pools a tensor of shape {shape}", "pool (N, C, H, W)")
    return r.add(MaxPool(_pair(shape[1:]), (1, 1), (0, 0, 0, 0)))


def _reduce_mean(r: Reader) -> str:
    axes = r.constant(1) if r.given(1) else r.attribute("axes", None)
    axes = None if axes is None else [int(a) for a in np.reshape(axes, -1)]
    shape = r.shape
    if shape is None:
        return behind(r)
    if axes is None or len(shape) != 3 or sorted(a % 4 for a in axes) != [2, 3]:
        return r.unsupported(f"takes the mean over axes {axes} of {shape}", "take it over height and width")
    pooled = r.add(GlobalAvgPool())
    return pooled if r.attribute("keepdims", 1) else r.draft.add(f"{r.name}.flatten", Reshape((shape[0],)), (pooled,))


def _gemm(r: Reader) -> str:
    weight, bias = r.weight(1, "weight"), r.weight(2, "bias")
    if weight is None or (bias is None and r.given(2)) or r.attribute("transA", 0):
        return r.unsupported("is not a product with a constant weight", "use a linear layer")
    weight = weight if r.attribute("transB", 0) else weight.T
    alpha, beta = float(r.attribute("alpha", 1.0)), float(r.attribute("beta", 1.0))
    zero = np.zeros(weight.shape[0], np.float32)
    if bias is not None and bias.size not in (1, zero.size):
        return r.unsupported(f"adds a constant of shape {bias.shape}", "add one value per output, as a bias")
    bias = zero if bias is None else np.broadcast_to(bias.reshape(-1) * beta, zero.shape).astype(np.float32)
    return _linear(r, np.ascontiguousarray(weight * np.float32(alpha)), bias)


def _matmul(r: Reader) -> str:
    weight = r.weight(1, "weight")
    if weight is None or weight.ndim != 2:
        return r.unsupported("is not a product with a constant matrix", "use a linear layer")
    return _linear(r, np.ascontiguousarray(weight.T), np.zeros(weight.shape[1], np.float32))


def _linear(r: Reader, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> str:
    if r.shape is not None and len(r.shape) != 1:
        return r.unsupported(f"reads a tensor of shape {r.shape}", "flatten to (N, features) before a linear layer")
    return r.add(Linear(weight, bias))


def _reshape(r: Reader) -> str:
    shape = r.shape
    if shape is None:
        return behind(r)
    target = reshaped(r, shape)
    if isinstance(target, str):
        return r.unsupported(target, "keep the batch as the first dimension")
    return r.add(Reshape(target))


def reshaped(r: Reader, shape: Shape) -> Shape | str:
    """What Flatten, Reshape, Squeeze or Unsqueeze makes of a tensor of `shape`, without batch; or why it cannot be."""
    match r.node.op_type:
        case "Flatten":
            axis = int(r.attribute("axis", 1))
            return (prod(shape),) if axis in (1, -len(shape)) else f"flattens from axis {axis}"
        case "Reshape":
            return _reshape_target(r, shape)
        case _:
            return _squeezed(r, shape)


def _reshape_target(r: Reader, shape: Shape) -> Shape | str:
    target = r.constant(1)
    if target is None:
        return "its target is computed from the image"
    dims = [int(d) for d in target]
    dims = [(1, *shape)[i] if d == 0 and not r.attribute("allowzero", 0) else d for i, d in enumerate(dims)]
    if dims and _is_batch(r, dims, shape):
        dims[0] = 1
    if -1 in dims:
        known = prod(d for d in dims if d != -1)
        dims[dims.index(-1)] = prod(shape) // known if known else 0
    if len(dims) < 2 or dims[0] != 1 or prod(dims) != prod(shape):
        return f"reshapes {shape} to {tuple(int(d) for d in target)}"
    return tuple(dims[1:])


def _is_batch(r: Reader, dims: list[int], shape: Shape) -> bool:
    """Whether the first entry stands for the batch: the file's batch, or -1 where the others hold the whole image."""
    return dims[0] == r.batch or (dims[0] == -1 and prod(dims[1:]) == prod(shape))


def _squeezed(r: Reader, shape: Shape) -> Shape | str:
    axes = r.constant(1) if r.given(1) else r.attribute("axes", None)
    full = (1, *shape)
    rank = len(full) + (len(axes) if axes is not None and r.node.op_type == "Unsqueeze" else 0)
    chosen = {int(a) % rank for a in axes} if axes is not None else {i for i, d in enumerate(full) if d == 1}
    if r.node.op_type == "Unsqueeze":
        rest = iter(full)
        dims = tuple(1 if i in chosen else next(rest) for i in range(rank))
    else:
        dims = tuple(d for i, d in enumerate(full) if i not in chosen)
    if 0 in chosen or prod(dims) != prod(full):
        return f"removes or adds axes {sorted(chosen)} of {full}"
    return dims[1:]


def _concat(r: Reader) -> str:
    rank = 1 + len(r.shape or (0, 0, 0))
    if int(r.attribute("axis", 1)) % rank != 1:
        return r.unsupported(f"concatenates along axis {r.attribute('axis', 1)}", "concatenate channels (axis 1)")
    if len(r.names) != len(r.node.input):
        return r.unsupported("concatenates constants", "only tensors can be concatenated; pad channels with Pad")
    return r.add(Concat()) if len(r.names) > 1 else r.names[0]


def _pad(r: Reader) -> str:
    raw = r.constant(1) if r.given(1) else r.attribute("pads", None)
    value = r.constant(2) if r.given(2) else r.attribute("value", 0)
    mode = r.attribute("mode", "constant")
    if r.shape is not None and len(r.shape) != 3:
        return r.unsupported(f"pads a tensor of shape {r.shape}", "pad (N, C, H, W)")
    if mode != "constant" or value is None or np.any(value):
        return r.unsupported(f"pads with mode '{mode}' and value {value}", "pad with zeros")
    axes = [int(a) % 4 for a in r.constants[r.node.input[3]]] if r.given(3) else [0, 1, 2, 3]
    if raw is None or len(raw) != 2 * len(axes) or min(int(p) for p in raw) < 0:
        return r.unsupported(f"pads by {raw}", "pad height, width and channels by constants >= 0")
    before, after = ({a: int(p) for a, p in zip(axes, part, strict=True)} for part in np.split(np.asarray(raw), 2))
    if before.get(0, 0) or after.get(0, 0):
        return r.unsupported("pads the batch", "pad height, width and channels only")
    pads = (before.get(2, 0), after.get(2, 0), before.get(3, 0), after.get(3, 0))
    return r.add(Select(padding=pads, channels=(before.get(1, 0), after.get(1, 0))))


def _slice(r: Reader) -> str:
    parts = [r.constant(i) for i in (1, 2)]
    shape = r.shape
    if shape is None:
        return behind(r)
    starts, ends = parts
    if starts is None and r.attribute("starts", None) is not None:  # before opset 10
        return r.unsupported("is of an opset below 10", "export the model again with opset 13 or later")
    if starts is None or ends is None:
        return r.unsupported("slices by limits that are not constant", "slice by constants")
    if len(shape) != 3:
        return r.unsupported(f"slices {shape}", "only rows and columns of a map can be sliced")
    axes = r.constants[r.node.input[3]] if r.given(3) else np.arange(len(starts))
    steps = r.constants[r.node.input[4]] if r.given(4) else np.ones(len(starts), np.int64)
    stride = [1, 1, 1, 1]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = (1, *shape)[int(axis) % 4]
        whole = int(start) == 0 and int(end) >= size and int(step) >= 1
        if not whole or (int(step) != 1 and int(axis) % 4 < 2):
            reason = f"slices axis {int(axis)} of {(1, *shape)} from {int(start)} to {int(end)} by {int(step)}"
            return r.unsupported(reason, "only every s-th row or column from the first can be expressed")
        stride[int(axis) % 4] = int(step)
    return r.add(Select(stride=(stride[2], stride[3]))) if stride != [1, 1, 1, 1] else r.names[0]


def _identity(r: Reader) -> str:
    return r.names[0]


def _dropout(r: Reader) -> str:
    training = r.constant(2)
    if r.given(2) and (training is None or bool(training)):
        return r.unsupported("drops values in inference too", "export the model in eval mode")
    return r.names[0]


def _cast(r: Reader) -> str:
    target = r.attribute("to", onnx.TensorProto.FLOAT)
    if target not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16):
        return r.unsupported(f"casts to type {target}", "keep activations in floating point")
    return r.names[0]


Handler = Callable[[Reader], str]

#: Operators that `reshaped` knows.
RESHAPES = frozenset(("Flatten", "Reshape", "Squeeze", "Unsqueeze"))

HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(RESHAPES, _reshape),
    **POINTWISE,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "ReduceMean": _reduce_mean,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Concat": _concat,
    "Pad": _pad,
    "Slice": _slice,
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
}
