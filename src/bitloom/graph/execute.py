"""The float executor: runs a Graph on a batch of images with torch."""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.ir import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    Graph,
    Input,
    Linear,
    MaxPool,
    Op,
    Pads,
    Relu,
)
from bitloom.graph.shapes import overhang


def execute(graph: Graph, images: Tensor, keep: Collection[str] | None = None) -> dict[str, Tensor]:
    """Tensors of a batch, by name, batch dimension first.

    images: float (N, C, H, W) of the Input's shape. keep: names to return (None: only the graph's output); every other
    tensor is freed after its last use. Raises DataError on a wrong shape or non-finite pixels, KeyError on an unknown
    name in `keep`.
    """
    check_images(graph, images)
    wanted = {graph.output} if keep is None else set(keep)
    unknown = wanted - {node.name for node in graph.nodes}
    if unknown:
        raise KeyError(f"graph '{graph.name}' has no tensor {sorted(unknown)[0]!r}")
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    live: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    with torch.no_grad():
        for index, node in enumerate(graph.nodes):
            value = images if isinstance(node.op, Input) else apply_op(node.op, [live[n] for n in node.inputs])
            live[node.name] = value
            if node.name in wanted:
                kept[node.name] = value
            for name in {*node.inputs, node.name}:
                if last_use.get(name, index) <= index:
                    live.pop(name, None)
            if len(kept) == len(wanted):
                break
    return kept


def check_images(graph: Graph, images: Tensor, what: str = "images") -> None:
    """DataError, which calls them `what`, unless images are finite floats (N, *Input.shape) with N >= 1."""
    if not isinstance(images, Tensor):
        raise DataError(
            f"{what} are of type {type(images).__name__}, must be a torch tensor (N, C, H, W); make one by "
            "torch.from_numpy or torch.stack"
        )
    op = graph.input.op
    shape = op.shape if isinstance(op, Input) else ()
    if images.dim() != 4 or tuple(images.shape[1:]) != tuple(shape) or images.shape[0] < 1:
        need = ", ".join(map(str, shape))
        raise DataError(f"{what} have shape {tuple(images.shape)}, but '{graph.name}' needs (N, {need})")
    if not images.is_floating_point():
        raise DataError(f"{what} are {images.dtype}, but must be normalised floats; divide by 255 and normalise")
    bad = ~torch.isfinite(images).flatten(1).all(dim=1)
    if bool(bad.any()):
        raise DataError(f"{what}: image {int(bad.int().argmax())} holds NaN or infinite pixels; remove it")


def pad2d(x: Tensor, pads: Pads, value: float) -> Tensor:
    """x (N, C, H, W) with top, bottom, left, right borders of `value`."""
    if not any(pads):
        return x
    top, bottom, left, right = pads
    return F.pad(x, (left, right, top, bottom), value=value)


def even_border(x: Tensor, pads: Pads) -> tuple[Tensor, tuple[int, int]]:
    """What to convolve instead of x (N, C, H, W) with zero borders: a tensor, and the rows and columns of zeros that
    the convolution adds on both sides itself, which saves the copy. Borders that differ are in the tensor.
    """
    top, bottom, left, right = pads
    return (x, (top, left)) if (top, left) == (bottom, right) else (pad2d(x, pads, 0.0), (0, 0))


def apply_op(op: Op, xs: list[Tensor]) -> Tensor:
    """One operation on batched float tensors."""
    x = xs[0]
    match op:
        case Conv():
            weight = torch.from_numpy(op.weight).to(x.dtype)
            bias = torch.from_numpy(op.bias).to(x.dtype)
            x, border = even_border(x, op.padding)
            return F.conv2d(x, weight, bias, op.stride, border, groups=op.groups)
        case Linear():
            return F.linear(x, torch.from_numpy(op.weight).to(x.dtype), torch.from_numpy(op.bias).to(x.dtype))
        case Relu():
            return x.clamp(min=0.0) if op.limit is None else x.clamp(0.0, op.limit)
        case Add():
            return xs[0] + xs[1]
        case MaxPool():
            return F.max_pool2d(_cover(x, op, float("-inf")), op.kernel, op.stride)
        case AvgPool():
            return _average(x, op)
        case GlobalAvgPool():
            return x.mean(dim=(2, 3), keepdim=True)
        case Flatten():
            return x.flatten(1)
        case Concat():
            return torch.cat(xs, dim=1)
        case Input():
            return x


def _cover(x: Tensor, op: MaxPool | AvgPool, value: float) -> Tensor:
    """x padded so that floor-mode windows are exactly the windows of `op`."""
    return pad2d(x, overhang(op, x.shape[2], x.shape[3]), value)


def _average(x: Tensor, op: AvgPool) -> Tensor:
    """Mean over the window clipped to the padded image: declared zeros count, the overhang of ceil mode does not."""
    sums = F.avg_pool2d(_cover(x, op, 0.0), op.kernel, op.stride, divisor_override=1)
    ones = pad2d(torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype), op.padding, 1.0)
    flat = AvgPool(op.kernel, op.stride, (0, 0, 0, 0), op.ceil_mode)
    counts = F.avg_pool2d(_cover(ones, flat, 0.0), op.kernel, op.stride, divisor_override=1)
    return sums / counts[:, :, : sums.shape[2], : sums.shape[3]]
