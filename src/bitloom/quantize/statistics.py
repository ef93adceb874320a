"""Mean and covariance of every layer's inputs, streamed over images, in passes whose matrices fit a memory bound.

The inputs are im2col rows of activations rounded to their levels, upstream weights float: the same for any allocation.
Rows are sampled evenly over the images. What an error has in common over an image's positions counts as often as the
layer's `coherence` says (`curvature.py`). Peak memory: the matrices of one pass (`memory_mib`), one more of the largest
while it is handed over, and the activations of one batch (for the coherence all of them, with gradients).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.graph.execute import pad2d
from bitloom.quantize.curvature import coherence
from bitloom.quantize.lower import ConvStep
from bitloom.quantize.observe import Calibration
from bitloom.quantize.stream import run_steps

#: Variance over squared means of inputs that never change: what is left is the rounding of float32 sums.
CONSTANT = 1e-6


@dataclass(frozen=True)
class StatisticsOptions:
    """rows, rows_per_input: im2col rows sampled per layer, the larger of the two; memory_mib: matrices of one pass.

    max_inputs: a wider layer has a diagonal only. coherent: images on which the coherence is measured; 0: it is 1.
    """

    rows: int = 16384
    rows_per_input: int = 14
    memory_mib: int = 768
    max_inputs: int = 8192
    coherent: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class LayerStatistics:
    """mean (K,) float32; covariance (K, K) float32, or its diagonal (K,) for very wide layers; rows: samples used.

    K = Cin*KH*KW in the order of the weight's axes. A grouped layer has a mean (groups, K) and covariances
    (groups, K, K), K those of one group. felt: the covariance and, `coherence - 1` times, that of the
    images' mean rows: what an error costs.
    """

    name: str
    mean: npt.NDArray[np.float32]
    covariance: npt.NDArray[np.float32]
    felt: npt.NDArray[np.float32]
    rows: int


def sample_positions(step: ConvStep, x: Tensor, per_image: int, generator: torch.Generator) -> list[Tensor]:
    """For each image of x (N, Cin, H, W) the flat output positions (row-major) of at most per_image random rows."""
    kh, kw = step.weight.shape[2:]
    top, bottom, left, right = step.padding
    height = (x.shape[2] + top + bottom - kh) // step.stride[0] + 1
    count = height * ((x.shape[3] + left + right - kw) // step.stride[1] + 1)
    if count <= per_image:
        return [torch.arange(count)] * len(x)
    return [torch.randperm(count, generator=generator)[:per_image] for _ in range(len(x))]


def rows_at(step: ConvStep, x: Tensor, positions: list[Tensor]) -> Tensor:
    """im2col rows (n, Cin*KH*KW) of x (N, Cin, H, W) at the given output positions of every image."""
    patches = _patches(step, x)
    width = patches.shape[3]
    rows = [
        image[:, at // width, at % width].transpose(0, 1).reshape(len(at), -1)
        for image, at in zip(patches, positions, strict=True)
    ]
    return torch.cat(rows)


def mean_rows(step: ConvStep, x: Tensor) -> Tensor:
    """The mean im2col row (N, Cin*KH*KW) of every image of x (N, Cin, H, W), over all output positions."""
    return _patches(step, x).mean(dim=(2, 3)).flatten(1)


def _patches(step: ConvStep, x: Tensor) -> Tensor:
    """What every output position sees of x (N, Cin, H, W): a view (N, Cin, OH, OW, KH, KW)."""
    kh, kw = step.weight.shape[2:]
    return pad2d(x, step.padding, 0.0).unfold(2, kh, step.stride[0]).unfold(3, kw, step.stride[1])


class _Moments:
    """Running sums of rows (n, groups * inputs); they are collected and multiplied in large pieces."""

    def __init__(self, inputs: int, groups: int, diagonal: bool) -> None:
        self.groups, self.diagonal = groups, diagonal
        self.sum = torch.zeros(groups * inputs, dtype=torch.float64)
        shape = (inputs,) if diagonal else (inputs, inputs) if groups == 1 else (groups, inputs, inputs)
        self.product = torch.zeros(shape)
        self.waiting: list[Tensor] = []
        self.rows = 0

    def add(self, rows: Tensor) -> None:
        self.waiting.append(rows)
        if sum(r.shape[0] for r in self.waiting) >= 2048:
            self.flush()

    def flush(self) -> None:
        if not self.waiting:
            return
        x = torch.cat(self.waiting)
        self.waiting = []
        self.rows += x.shape[0]
        self.sum += x.sum(dim=0, dtype=torch.float64)
        if self.diagonal:
            self.product += x.square().sum(dim=0)
        elif self.groups == 1:
            self.product.addmm_(x.T, x)
        else:
            own = x.reshape(len(x), self.groups, -1).transpose(0, 1)
            self.product.baddbmm_(own.transpose(1, 2), own)

    def finish(self) -> tuple[Tensor, Tensor]:
        """Mean (K,) and covariance (K, K) or (K,), or (groups, K) and (groups, K, K), float32; the sums are used up."""
        self.flush()
        mean = (self.sum / self.rows).float()
        cov = self.product.div_(self.rows)
        if self.diagonal:
            cov -= mean.square()
            cov.clamp_(min=0)
        elif self.groups > 1:
            mean = mean.reshape(self.groups, -1)
            cov -= mean[:, :, None] * mean[:, None, :]
            spread = cov.diagonal(dim1=1, dim2=2).sum(dim=1)
            cov[spread <= CONSTANT * mean.square().sum(dim=1)] = 0.0
        else:
            cov.addr_(mean, mean, alpha=-1.0)
            if float(cov.trace()) <= CONSTANT * float(mean.square().sum()):
                cov.zero_()
        return mean, cov


class _Layer:
    """Rows of one layer, and where its coherence is above 1 the mean rows of its images."""

    def __init__(self, step: ConvStep, coherence: float, opts: StatisticsOptions) -> None:
        inputs, diagonal = _inputs(step), _is_diagonal(step, opts)
        self.step, self.coherence = step, coherence
        self.wanted = max(opts.rows, opts.rows_per_input * inputs)
        self.all = _Moments(inputs, step.groups, diagonal)
        self.common = _Moments(inputs, step.groups, diagonal) if coherence > 1.0 else None

    def add(self, x: Tensor, images: int, generator: torch.Generator) -> None:
        """x: inputs (N, Cin, H, W) of a batch of so many images in all."""
        per_image = max(1, -(-self.wanted // images))
        self.all.add(rows_at(self.step, x, sample_positions(self.step, x, per_image, generator)))
        if self.common is not None:
            self.common.add(mean_rows(self.step, x))

    def finish(self) -> LayerStatistics:
        mean, cov = self.all.finish()
        felt = cov
        if self.common is not None:
            felt = self.common.finish()[1].mul_(self.coherence - 1.0).add_(cov)
        return LayerStatistics(self.step.name, mean.numpy(), cov.numpy(), felt.numpy(), self.all.rows)


def layer_statistics(
    calibration: Calibration, options: StatisticsOptions | None = None, images: Tensor | None = None
) -> Iterator[LayerStatistics]:
    """Statistics of every layer with weights, in order; each is released when the next pass begins.

    images: float (N, C, H, W), by default those of the calibration. The more the better: where a layer has more inputs
    than samples, rounding fits the samples alone.
    """
    opts = options or StatisticsOptions()
    seen = calibration.images if images is None else images
    weights = coherence(calibration.lowered, calibration.images[: opts.coherent]) if opts.coherent else {}
    for group in _passes(calibration.lowered.convs, opts):
        layers = {step.name: _Layer(step, weights.get(step.name, 1.0), opts) for step in group}
        _one_pass(calibration, seen, layers, group[-1].name, opts)
        for step in group:
            yield layers.pop(step.name).finish()


def _one_pass(
    calibration: Calibration, images: Tensor, layers: dict[str, _Layer], until: str, opts: StatisticsOptions
) -> None:
    generator = torch.Generator().manual_seed(opts.seed)

    def visit(step: ConvStep, x: Tensor) -> None:
        if step.name in layers:
            layers[step.name].add(x, len(images), generator)

    for batch in torch.split(images, calibration.options.batch):
        run_steps(calibration.lowered, batch, calibration.activations, visit, until)


def _inputs(step: ConvStep) -> int:
    """K: inputs of an output channel."""
    return int(np.prod(step.weight.shape[1:]))


def _is_diagonal(step: ConvStep, opts: StatisticsOptions) -> bool:
    return step.groups == 1 and _inputs(step) > opts.max_inputs


def _passes(steps: tuple[ConvStep, ...], opts: StatisticsOptions) -> list[list[ConvStep]]:
    """Consecutive layers whose matrices fit the memory bound together (at least one layer a pass)."""
    groups: list[list[ConvStep]] = []
    used, limit, matrices = 0, opts.memory_mib * 2**20, 2 if opts.coherent else 1
    for step in steps:
        inputs = _inputs(step)
        size = 4 * matrices * step.groups * inputs * (1 if _is_diagonal(step, opts) else inputs)
        if groups and used + size <= limit:
            groups[-1].append(step)
            used += size
        else:
            groups.append([step])
            used = size
    return groups
