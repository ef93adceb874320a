"""Equalization: channels of a tensor are scaled so that columns of weights and activations round better.

A factor per channel moves through everything that is positively homogeneous (ReLU, pools, additions of tensors that
have the same factors), so the writers' rows may be divided by it and the readers' columns multiplied; the function is
the same. Rows have scales of their own here, so that only columns and activations can gain: a column is rounded on its
row's grid, and its error counts by the power of its input. Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction" (2019), equalize weight ranges; Lin et al., "AWQ" (2024), scale columns by a power of
their input's size, as is done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv, Graph, Linear, Node
from bitloom.graph.ties import Ties
from bitloom.quantize.lower import ConcatStep, ConvStep, Lowered, lower

Factors = npt.NDArray[np.float64]


@dataclass(frozen=True)
class EqualizeOptions:
    """power: of a channel's root mean square in its factor (0: nothing changes).  limit: largest factor, and least as
    its inverse.  images: measured, at most; batch: together."""

    power: float = 0.5
    limit: float = 8.0
    images: int = 64
    batch: int = 16


def equalize(graph: Graph, images: Tensor, options: EqualizeOptions | None = None) -> Graph:
    """The same function up to float rounding, with scaled channels.

    images: float (N, C, H, W), normalised. Tensors whose factor could not be undone stay: image, result, parts of
    concatenations, and what a ReLU with an upper limit writes. Raises DataError when a tensor is not finite.
    """
    opts = options or EqualizeOptions()
    lowered = lower(graph)
    classes = scale_classes(lowered)
    power = _mean_squares(graph, lowered, classes, images[: opts.images], opts.batch)
    factors = {root: _factors(values, opts) for root, values in power.items()}
    by_tensor = {name: factors[root] for name, root in classes.items() if root is not None}
    steps = {step.name: step for step in lowered.convs}
    nodes = tuple(_scaled(node, steps[node.name], by_tensor) if node.name in steps else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def scale_classes(lowered: Lowered) -> dict[str, str | None]:
    """Tensor -> class of tensors that must share their factors; None: the tensor must stay."""
    ties = Ties(lowered.shapes)
    ties.fix(lowered.input, lowered.output)
    for step in lowered.steps:
        if isinstance(step, ConcatStep):
            ties.fix(*step.inputs, step.output)
            continue
        if step.relu is not None and step.relu.limit is not None:
            ties.fix(step.output)
        if not isinstance(step, ConvStep):
            ties.tie(step.input, step.output)
        if step.residual is not None:
            ties.tie(step.residual, step.output)
    return ties.classes()


def _mean_squares(
    graph: Graph, lowered: Lowered, classes: Mapping[str, str | None], images: Tensor, batch: int
) -> dict[str, Factors]:
    """Class -> (C,) mean square of every channel, over the tensors that layers with weights read."""
    read = sorted({step.input for step in lowered.convs if classes[step.input] is not None})
    sums: dict[str, Factors] = {}
    for part in torch.split(images, batch):
        tensors = execute(graph, part, set(read))
        for name in read:
            square = tensors[name].double().square()
            square = square.mean(dim=(0, 2, 3)) if square.dim() == 4 else square.mean(dim=0)
            if not bool(torch.isfinite(square).all()):
                raise DataError(f"tensor '{name}' holds NaN or infinite values; check the weights and the images")
            root = classes[name]
            assert root is not None
            sums[root] = sums.get(root, 0.0) + square.reshape(lowered.shapes[name][0], -1).mean(dim=1).numpy() * len(
                part
            )
    return sums


def _factors(power: Factors, opts: EqualizeOptions) -> Factors:
    """(C,) factors with a geometric mean of 1 over the channels that live; dead ones keep 1."""
    live = power > 0
    factors = np.ones(power.size)
    if live.any():
        logs = 0.5 * opts.power * np.log(power[live])
        factors[live] = np.exp(logs - logs.mean()).clip(1.0 / opts.limit, opts.limit)
    return factors


def _scaled(node: Node, step: ConvStep, factors: Mapping[str, Factors]) -> Node:
    assert isinstance(node.op, Conv | Linear)
    weight, bias = step.weight.astype(np.float64), node.op.bias.astype(np.float64)
    if (columns := factors.get(step.input)) is not None:
        of_group = columns.reshape(step.groups, 1, -1)  # of the channels that a group reads
        weight = (weight.reshape(step.groups, -1, *weight.shape[1:]) * of_group[..., None, None]).reshape(weight.shape)
    if (rows := factors.get(step.output)) is not None:
        weight, bias = weight / rows[:, None, None, None], bias / rows
    shape = node.op.weight.shape
    op = replace(node.op, weight=weight.reshape(shape).astype(np.float32), bias=bias.astype(np.float32))
    return replace(node, op=op)
