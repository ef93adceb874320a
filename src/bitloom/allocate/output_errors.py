"""Squared output error of every channel at every width, on images that the rounding has not seen.

The error that the rounding itself reports is of the images that it was fitted to. Where a layer has more inputs than it
has seen samples (the last layer sees one sample an image) that is several times too small, and a solver would spend the
bits elsewhere: on a ResNet-18 with 240 images the true error of the last layer is nine times the reported one.

The error map of a channel splits into its mean over the positions and the variation about it, as the gradient map does
(`gradients.py`). The mean over all images and positions is taken out, because bias correction does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.errors import DataError
from bitloom.quantize.lower import ConvStep

FloatArray = npt.NDArray[np.float64]
#: A larger layer's errors are made a width at a time: VGG-16 has one of 2.9 GB at all, and 0.1 MB of inputs an image.
#: Of a small matrix the processor's kernels add up other rows in another order, so that small ones stay whole.
SPLIT = 1 << 22
LARGEST = 6  #: wider errors follow the rounding's own ratios: too small to overfit, and four times less a bit


@dataclass(frozen=True, eq=False)
class ErrorPower:
    """common (Cout, widths): variance over images of the map's mean error; varying: mean variance inside the maps."""

    common: FloatArray
    varying: FloatArray


class _Sums:
    """Running sums of one layer, (widths * Cout,) each."""

    def __init__(self, size: int) -> None:
        self.mean, self.square, self.inside = (torch.zeros(size, dtype=torch.float64) for _ in range(3))
        self.count = 0

    def add(self, error: Tensor) -> None:
        """error (N, widths * Cout, H, W), overwritten."""
        mean = error.mean(dim=(2, 3)).double()
        self.mean += mean.sum(dim=0)
        self.square += mean.square().sum(dim=0)
        self.inside += (error.square_().mean(dim=(2, 3)).double() - mean.square()).clamp(min=0).sum(dim=0)
        self.count += len(error)


class _Layer:
    """One layer's error maps at `widths`, summed over all images once it is finished.

    Until then it holds the weight errors of all widths or the inputs of all images, whose weight errors are made at the
    end, in layers of more than SPLIT weights one width at a time. The maps are summed together either way: over
    positions, the order of a sum depends on how many maps there are.
    """

    def __init__(self, probe: Probe, step: ConvStep, widths: tuple[int, ...], hold_inputs: bool) -> None:
        self.probe, self.step, self.widths = probe, step, widths
        self.sums = _Sums(len(widths) * len(step.weight))
        self.inputs: list[Tensor] = []
        self.lost = None if hold_inputs else self._lost(widths)

    def add(self, x: Tensor) -> None:
        """x: padded input (N, Cin, H, W) of some images."""
        if self.lost is None:
            self.inputs.append(x)
        else:
            self.sums.add(self._maps(x, self.lost))

    def finish(self) -> _Sums:
        """After the last image; what was held is given back."""
        if self.lost is None:
            maps: list[list[Tensor]] = [[] for _ in self.inputs]
            pieces = [(b,) for b in self.widths] if self.step.weight.size > SPLIT else [self.widths]
            for piece in pieces:
                lost = self._lost(piece)
                for x, found in zip(self.inputs, maps, strict=True):
                    found.append(self._maps(x, lost))
            for found in maps:
                self.sums.add(torch.cat(found, dim=1))
        self.lost, self.inputs = None, []
        return self.sums

    def _maps(self, x: Tensor, lost: Tensor) -> Tensor:
        """Error maps (N, widths * Cout, OH, OW) of weight errors as `_lost` gives them."""
        stride, groups = self.step.stride, self.step.groups
        if groups == 1:
            return F.conv2d(x, lost, None, stride)
        parts = torch.split(lost, len(self.step.weight))  # a width at a time: the channels of a group stand together
        return torch.cat([F.conv2d(x, part, None, stride, groups=groups) for part in parts], dim=1)

    def _lost(self, widths: tuple[int, ...]) -> Tensor:
        """Weight errors (widths * Cout, Cin / groups, KH, KW)."""
        return self.probe.lost(self.step.name, widths).reshape(-1, *self.step.weight.shape[1:])


def output_errors(probe: Probe, images: Tensor, batch: int = 8) -> dict[str, ErrorPower]:
    """Of every layer, its input as the probe's present weights make it. images: float (N, C, H, W).

    Cost: a forward pass for each width up to LARGEST, all in one run. Memory: of every layer its weight errors at those
    widths, or its inputs and error maps of all images, whichever is less; and the error maps of one batch. Raises
    DataError when an error is not finite.
    """
    narrow = tuple(b for b in probe.widths if b <= LARGEST)
    layers: dict[str, _Layer] = {}

    def visit(step: ConvStep, x: Tensor) -> None:
        if step.name not in layers:
            layers[step.name] = _Layer(probe, step, narrow, _inputs_are_less(probe, step, x, len(images), len(narrow)))
        layers[step.name].add(x)

    with torch.no_grad():
        for part in torch.split(images, batch):
            probe.logits(part, visit)
        sums = {name: layer.finish() for name, layer in layers.items()}
    return {name: _finish(probe, name, total, narrow) for name, total in sums.items()}


def _inputs_are_less(probe: Probe, step: ConvStep, x: Tensor, images: int, widths: int) -> bool:
    """Inputs, like x (N, Cin, H, W), and error maps of so many images take less than so many copies of the weights."""
    values = x[0].numel() + widths * int(np.prod(probe.lowered.shapes[step.output]))
    return images * values < widths * step.weight.size


def _finish(probe: Probe, name: str, sums: _Sums, narrow: tuple[int, ...]) -> ErrorPower:
    common = (sums.square / sums.count - (sums.mean / sums.count).square()).clamp(min=0)
    parts = [np.asarray(x.reshape(len(narrow), -1).T.numpy()) for x in (common, sums.inside / sums.count)]
    if not all(np.isfinite(part).all() for part in parts):
        raise DataError(f"{name}: an output error is not finite; check the weights and the images")
    wide = [i for i, b in enumerate(probe.widths) if b > LARGEST]
    if wide:
        own = np.maximum(probe.rounded[name].error, 0.0)
        last = probe.widths.index(narrow[-1])
        ratio = own[:, wide] / np.maximum(own[:, [last]], 1e-300)
        parts = [np.hstack([part, part[:, [-1]] * np.minimum(ratio, 1.0)]) for part in parts]
    return ErrorPower(*parts)
