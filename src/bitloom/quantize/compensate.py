"""Rounding after the allocation: layer after layer, on the inputs it will really see, towards the float outputs.

`round_network` rounds every layer for float inputs, because it serves all allocations. Once one is chosen, the errors
of the layers before are known and can be taken back: with quantized inputs x' and the float target t (the layer's
float output, and where a residual joins, the error of that too), the best real weights are the ridge regression

    W' = W + strength * (Cov(t, x') - W Cov(x')) (Cov(x') + ridge I)^-1,

and W' is rounded under Cov(x') by GPTQ, scale search and coordinate descent; the bias keeps the mean of t, and the
last layer follows its target with a slope of one (`gain.py`). The same objective as the asymmetric calibration of GPTAQ
(Li et al., 2025). Regression over-fits where the inputs are many and the images few, so held-out images choose, for
each layer, among the strengths and the rows that the layer had before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bitloom.graph.qgraph import QuantGraph
from bitloom.quantize.blocks import Block, blocks_of
from bitloom.quantize.gain import restoring_gain
from bitloom.quantize.lower import ConvStep, Lowered
from bitloom.quantize.observe import held_scale
from bitloom.quantize.paths import Paths, check_fitting_images
from bitloom.quantize.rounding import RoundingOptions, round_rows
from bitloom.quantize.statistics import rows_at, sample_positions
from bitloom.quantize.stream import conv_step, run_float
from bitloom.quantize.trainable import TrainableNetwork


@dataclass(frozen=True)
class CompensateOptions:
    """strengths: of the compensation, tried beside the rows at hand; ridge: relative to the mean diagonal.

    rows: im2col rows sampled per layer; held_out: share of the images that choose; max_inputs: wider layers stay as
    they are (a matrix K x K must fit), as grouped ones do; batch: images per pass.
    """

    strengths: tuple[float, ...] = (0.5, 1.0)
    ridge: float = 0.1
    rows: int = 20480
    held_out: float = 0.2
    max_inputs: int = 8192
    batch: int = 16
    min_images: int = 8
    seed: int = 0


@dataclass(frozen=True)
class LayerChoice:
    """What held-out images said about a layer: mean squared output error before and after, and the strength chosen.

    strength: None where the rows stayed as they were.
    """

    name: str
    before: float
    after: float
    strength: float | None


def compensate(
    lowered: Lowered, start: QuantGraph, images: Tensor, options: CompensateOptions | None = None
) -> tuple[QuantGraph, tuple[LayerChoice, ...]]:
    """The network `start` with every layer rounded again, and what was chosen for each.

    images: float (N, C, H, W), normalised; the last share of them is held out. Widths, activation scales and pruned
    channels stay. Deterministic. Peak memory: input and output of one block for all images at 3 bytes a
    value, and a few matrices of one layer. Raises DataError when the images are too few or not finite.
    """
    opts = options or CompensateOptions()
    check_fitting_images(images, opts.min_images, "rounding")
    network = TrainableNetwork(lowered, start)
    choices: list[LayerChoice] = []
    with torch.no_grad():
        paths = Paths(network, images, opts.batch)
        for block in blocks_of(lowered):
            for step in block.convs:
                if step.groups == 1 and int(np.prod(step.weight.shape[1:])) <= opts.max_inputs:
                    choices.append(_layer(network, block, step, paths, opts))
            paths.advance(block)
    return network.harden(), tuple(choices)


@dataclass(frozen=True, eq=False)
class _Sample:
    """Rows of quantized inputs (n, K) and float targets (n, Cout)."""

    inputs: Tensor
    targets: Tensor


def _layer(
    network: TrainableNetwork, block: Block, step: ConvStep, paths: Paths, opts: CompensateOptions
) -> LayerChoice:
    layer = network.layer(step.name)
    fit, held = _samples(network, block, step, paths, opts)
    mean, target_mean = fit.inputs.mean(dim=0), fit.targets.mean(dim=0)
    cov, shared = _covariances(fit, mean, target_mean)
    weight = torch.from_numpy(step.weight).flatten(1)
    damped = cov.clone()
    damped.diagonal().add_(opts.ridge * cov.diagonal().mean() + 1e-12)
    missing = torch.linalg.solve(damped, (shared - weight @ cov).T).T
    before = best = _error(held, layer().flatten(1), layer.bias)
    chosen: float | None = None
    tensors = network.start.tensors
    rounding = RoundingOptions(largest=held_scale(tensors[step.input].scale, tensors[step.output].scale))
    for strength in opts.strengths:
        codes, scale = round_rows(weight + strength * missing, cov, layer.bits, rounding)
        rows = codes * scale[:, None]
        bias = target_mean - rows @ mean
        error = _error(held, rows, bias)
        if error < best:
            best, chosen = error, strength
            layer.assign(codes, scale, bias)
    if step.name == network.lowered.last.name:
        found = fit.inputs @ layer().flatten(1).T
        gain = restoring_gain(fit.targets.T[None], found.T[None])
        layer.log_scale.add_(math.log(gain))
        layer.bias.copy_(target_mean - gain * found.mean(dim=0))
    return LayerChoice(step.name, before, best, chosen)


def _samples(
    network: TrainableNetwork, block: Block, step: ConvStep, paths: Paths, opts: CompensateOptions
) -> tuple[_Sample, _Sample]:
    """Rows of the images that fit and of those held out."""
    prefix = block.steps[: block.steps.index(step)]
    generator = torch.Generator().manual_seed(opts.seed)
    count = len(paths)
    per_image = max(1, -(-opts.rows // count))
    inputs, targets, owners = [], [], []
    for exact, quantized in paths.batches():
        a, b = run_float(prefix, {block.input: exact}), network.run(prefix, {block.input: quantized})
        target = conv_step(step, a[step.input])
        if step.residual is not None:
            target = target + a[step.residual] - b[step.residual]
        at = sample_positions(step, b[step.input], per_image, generator)
        inputs.append(rows_at(step, b[step.input], at))
        targets += [image.flatten(1)[:, p].T for image, p in zip(target, at, strict=True)]
        owners += [len(p) for p in at]
    split = sum(owners[: max(1, round(count * (1 - opts.held_out)))])
    x, t = torch.cat(inputs), torch.cat(targets)
    return _Sample(x[:split], t[:split]), _Sample(x[split:], t[split:])


def _covariances(sample: _Sample, mean: Tensor, target_mean: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance of the inputs (K, K) and of targets with inputs (Cout, K)."""
    x, n = sample.inputs - mean, sample.inputs.shape[0]
    return x.T @ x / n, (sample.targets - target_mean).T @ x / n


def _error(sample: _Sample, rows: Tensor, bias: Tensor) -> float:
    """Mean squared output error per position."""
    return float((sample.inputs @ rows.T + bias - sample.targets).square().sum(dim=1).mean())
