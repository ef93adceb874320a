"""Activation scales: per tensor, asymmetric, 255 levels, by the least error over clipping candidates.

The error of a value counts with an exponent of 1.4. Squares spare the few largest values at the price of coarse steps
for all others, and what falls to zero then costs a deep network a good part of its signal's slope; at 1 a range breaks
down (docs/quantization.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.execute import check_images, execute
from bitloom.graph.ir import Graph
from bitloom.numerics.fixed import round_half_up
from bitloom.numerics.requantize import FRACTION_BITS, RATIO_LIMIT, largest_scale, representable_ratio
from bitloom.quantize.gain import output_samples
from bitloom.quantize.lower import ConcatStep, ConvStep, Lowered, PoolStep, lower

Values = npt.NDArray[np.float32]
TINY_SCALE = 2.0**-30  #: of a tensor that is zero on every image, before its producer's floor raises it
LEVELS = 254  #: steps between code -127 and code 127
RATIO_MARGIN = 1.05  #: of a row's scale below what a multiplier can hold
WIDENED = 1.5  #: times its own scale that a tensor takes, at most, for rows that have no multiplier at few bits
EXPONENT = 1.4  #: of a value's absolute error, where a range is chosen


@dataclass(frozen=True)
class ActivationQuantizer:
    """code = round(x / scale) + zero_point, clamped to [-127, 127]."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class CalibrationOptions:
    """samples: values kept per tensor; batch: images per pass; min_images: fewer are refused; seed: of the sampling.

    bias_images: the first so many images serve bias correction.
    """

    samples: int = 1 << 17
    batch: int = 8
    min_images: int = 4
    bias_images: int = 64
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Calibration:
    """Calibration images (N, C, H, W) float32, the lowered graph, and one quantizer per tensor.

    output_means, output_deviations: layer name -> float64 (Cout,), mean and standard deviation of the float layer's
    output (before add and ReLU) over the bias-correction images. last_outputs: samples of the last layer's output on
    the same images (`gain.py`).
    """

    images: Tensor
    lowered: Lowered
    activations: dict[str, ActivationQuantizer]
    output_means: dict[str, npt.NDArray[np.float64]]
    output_deviations: dict[str, npt.NDArray[np.float64]]
    last_outputs: Tensor
    options: CalibrationOptions

    @property
    def correction_images(self) -> Tensor:
        """The first images, which biases and scales are corrected on."""
        return self.images[: self.options.bias_images]

    def largest_scale(self, step: ConvStep) -> float:
        """Of a row of weights of a layer, such that a multiplier can hold it."""
        return held_scale(self.activations[step.input].scale, self.activations[step.output].scale)

    def __getstate__(self) -> dict[str, object]:
        """For a pickle: a slice of images would take all others of its storage along, every view of every picture."""
        return {**self.__dict__, "images": self.images.clone()}


def held_scale(source: float, target: float) -> float:
    """Largest scale of a row of weights between activations of scales `source` and `target` that rounding uses."""
    return largest_scale(source, target) / RATIO_MARGIN


def calibrate(graph: Graph, images: Tensor, options: CalibrationOptions | None = None) -> Calibration:
    """Activation quantizers from images. DataError when images are too few, constant, misshapen or NaN."""
    opts = options or CalibrationOptions()
    if images.dim() == 4 and images.shape[0] < opts.min_images:
        raise DataError(f"{images.shape[0]} calibration images, need at least {opts.min_images}; give more images")
    images = images.to(torch.float32) if images.is_floating_point() else images
    check_images(graph, images)
    if bool((images == images[:1]).all()):
        raise DataError(f"all {images.shape[0]} calibration images are equal; give different images")
    lowered = lower(graph)
    samples, moments, last = _sample(graph, lowered, images, opts)
    ranges: dict[str, list[Values]] = {}
    for name, values in samples.items():
        ranges.setdefault(lowered.group[name], []).append(values)
    logits = lowered.group[lowered.output]
    quantizers = {rep: fit_quantizer(np.concatenate(parts), rep != logits) for rep, parts in ranges.items()}
    quantizers = _raise_floors(lowered, quantizers)
    activations = {name: quantizers[rep] for name, rep in lowered.group.items()}
    means = {name: first for name, (first, _) in moments.items()}
    deviations = {name: np.sqrt(np.maximum(second - first**2, 0.0)) for name, (first, second) in moments.items()}
    return Calibration(images, lowered, activations, means, deviations, last, opts)


def _sample(
    graph: Graph, lowered: Lowered, images: Tensor, opts: CalibrationOptions
) -> tuple[dict[str, Values], dict[str, npt.NDArray[np.float64]], Tensor]:
    """Random values of every tensor (and its extremes, once per batch); of the layers' outputs the mean and the mean
    square, (2, Cout); the last outputs."""
    known = {node.name for node in graph.nodes}
    names = [name for name in lowered.shapes if name in known]  # copies for Concat are not in the float graph
    layers = [step.name for step in lowered.convs]
    generator = torch.Generator().manual_seed(opts.seed)
    quota = max(64, -(-opts.samples * opts.batch // images.shape[0]))
    kept: dict[str, list[Values]] = {name: [] for name in names}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    last: list[Tensor] = []
    used = min(opts.bias_images, images.shape[0])
    for index, batch in enumerate(torch.split(images, opts.batch)):
        tensors = execute(graph, batch, {*names, *layers})
        for name in names:
            kept[name].append(_pick(name, tensors[name].flatten(), quota, generator))
        for name in layers:
            part = tensors[name][: max(0, used - index * opts.batch)].double()
            part = part.flatten(2) if part.dim() == 4 else part[:, :, None]
            powers = torch.stack([part.mean(dim=2).sum(dim=0), part.square().mean(dim=2).sum(dim=0)])
            sums[name] = sums.get(name, 0.0) + powers.numpy()
        for name in layers[-1:]:
            last.append(output_samples(tensors[name][: max(0, used - index * opts.batch)]))
    return (
        {name: np.concatenate(parts) for name, parts in kept.items()},
        {n: s / used for n, s in sums.items()},
        torch.cat(last) if last else torch.empty(0, 0, 0),
    )


def _pick(name: str, flat: Tensor, quota: int, generator: torch.Generator) -> Values:
    low, high = torch.aminmax(flat)
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise DataError(f"tensor '{name}' holds NaN or infinite values; check the weights and the images")
    if flat.numel() > quota:
        flat = flat[torch.randint(flat.numel(), (quota,), generator=generator)]
    return np.asarray(torch.cat([flat, low[None], high[None]]).numpy())


def quantizer_of(low: float, high: float) -> ActivationQuantizer:
    """255 levels over [low, high], widened to hold zero exactly; a constant zero gets TINY_SCALE."""
    low, high = float(min(low, 0.0)), float(max(high, 0.0))
    scale = (high - low) / LEVELS
    if scale <= np.finfo(np.float32).tiny:
        return ActivationQuantizer(TINY_SCALE, -127)
    return ActivationQuantizer(scale, int(np.clip(round_half_up(-127 - low / scale), -127, 127)))


def fake_quantize(x: Values, q: ActivationQuantizer) -> Values:
    """x rounded to the quantizer's levels, as reals."""
    codes = np.clip(np.floor(x / q.scale + 0.5) + q.zero_point, -127, 127)
    return np.asarray((codes - q.zero_point) * q.scale)


def fit_quantizer(values: Values, clip: bool = True, exponent: float = EXPONENT) -> ActivationQuantizer:
    """The quantizer of least mean |error|^exponent on `values` (1-D float32); clip = False keeps the whole range."""
    low, high = float(min(values.min(), 0.0)), float(max(values.max(), 0.0))
    best = quantizer_of(low, high)
    if not clip or low == high:
        return best

    def error(q: ActivationQuantizer) -> float:
        return float((np.abs(fake_quantize(values, q) - values) ** exponent).sum())

    least = error(best)
    for f in np.linspace(1.0, 0.3, 36):  # both ends together, then each end alone
        q = quantizer_of(low * f, high * f)
        if (e := error(q)) < least:
            best, least = q, e
    ends = _ends(best)
    if low < 0:
        for f in np.linspace(1.3, 0.5, 17):
            q = quantizer_of(max(low, ends[0] * f), ends[1])
            if (e := error(q)) < least:
                best, least = q, e
        ends = _ends(best)
        for f in np.linspace(1.3, 0.5, 17):
            q = quantizer_of(ends[0], min(high, ends[1] * f))
            if (e := error(q)) < least:
                best, least = q, e
    return best


def _ends(q: ActivationQuantizer) -> tuple[float, float]:
    return (-127 - q.zero_point) * q.scale, (127 - q.zero_point) * q.scale


def _raise_floors(lowered: Lowered, quantizers: dict[str, ActivationQuantizer]) -> dict[str, ActivationQuantizer]:
    """Scales so large that every row has a multiplier at 8 bits and t cannot overflow, whatever the widths.

    Binds only where an output is small beside what one weight can contribute. Up to WIDENED times its own scale a
    tensor gives way to rows of any width; beyond, rows that have no multiplier at few bits are clipped there
    (`RoundingOptions.largest`): a few rows of a depthwise layer may be a thousand times the others, and a scale for
    them would leave the others no levels.
    """
    own = {name: q.scale for name, q in quantizers.items()}
    scale, group = dict(own), lowered.group
    for _ in range(8):
        before = dict(scale)
        for step in lowered.steps:
            if isinstance(step, ConcatStep):
                continue
            out, source = group[step.output], scale[group[step.input]]
            floors = [scale[out]]
            if isinstance(step, ConvStep):
                rows = np.abs(step.weight.reshape(step.weight.shape[0], -1)).astype(np.float64)
                held = source * rows.max() * RATIO_MARGIN / RATIO_LIMIT  # the largest row, whatever its width
                floors += [min(held, WIDENED * own[out]), held / 127, source * rows.sum(axis=1).max() / 1024]
            elif not step.same_scale:
                floors.append(source / step.count * RATIO_MARGIN / RATIO_LIMIT)
            if step.residual is not None:
                floors.append(scale[group[step.residual]] / 15.9)
            scale[out] = max(floors)
        if before == scale:
            break
    _snap(lowered, scale)
    return {name: ActivationQuantizer(scale[name], q.zero_point) for name, q in quantizers.items()}


def _snap(lowered: Lowered, scale: dict[str, float]) -> None:
    """Moves scales by a fraction of a per cent so that residual and pool multipliers stand for them exactly."""
    group, done = lowered.group, {lowered.group[lowered.input]}
    for step in lowered.steps:
        out = group[step.output]
        if out not in done and not isinstance(step, ConcatStep):
            if step.residual is not None:
                source = scale[group[step.residual]]
                exact = np.floor(source / scale[out] * 2**FRACTION_BITS) / 2**FRACTION_BITS
            else:
                source = scale[group[step.input]] / (step.count if isinstance(step, PoolStep) else 1)
                exact = representable_ratio(source / scale[out]) if isinstance(step, PoolStep) else 0.0
            if exact > 0:
                scale[out] = float(source / exact)
        done.add(out)
