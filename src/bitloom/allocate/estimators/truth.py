"""The measured harm of one layer quantized alone, shared among its channels.

The divergence of the network with one layer at one width is measured; the channels share it in proportion to another
estimate (the gradient's, its exponent at choice). Widths that are not measured follow the nearest measured one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.probe import Probe, divergence

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LayerTruth:
    """measured: widths at which every layer is measured alone, on the first `images`; temperature: of the divergence.

    share: how the channels share it; exponent 0 shares by output error alone.
    """

    measured: tuple[int, ...] = (0, 1, 2, 3, 4)
    images: int = 64
    batch: int = 16
    temperature: float = 1.0
    share: GradientShare = field(default_factory=GradientShare)

    def passes(self, layers: int) -> int:
        """One forward pass a layer and measured width, and those of the shares."""
        return 1 + len(self.measured) * layers + self.share.passes(layers)

    def costs(self, probe: Probe, images: Tensor) -> dict[str, FloatArray]:
        """(Cout, widths) of every layer."""
        shares = self.share.costs(probe, images)
        probe.place(None)
        probe.correct()
        measure = Alone(probe, images[: self.images], self.batch, self.temperature)
        result = {}
        for name, share in shares.items():
            truth = {b: measure.of(name, np.full(len(share), b, np.int8)) for b in self.measured}
            result[name] = share_out(share, probe.widths, truth)
        return result


class Alone:
    """Divergence of the float network with some rows of one layer rounded, its output means kept."""

    def __init__(self, probe: Probe, images: Tensor, batch: int, temperature: float) -> None:
        self.probe, self.temperature = probe, temperature
        self.batches = torch.split(images, batch)
        self.means = probe.input_means(probe.correction_images)
        self.bias = {name: bias.clone() for name, bias in probe.bias.items()}
        self.target = [self._log_probabilities(x) for x in self.batches]

    def of(self, name: str, bits: npt.NDArray[np.int8], rows: npt.NDArray[np.bool_] | None = None) -> float:
        """Mean KL in nats per image; rows: the channels to round (None: all). The layer is float again afterwards."""
        probe = self.probe
        original = torch.from_numpy(probe.steps[name].weight)
        probe.place({name: bits}, only=name)
        if rows is not None:
            probe.weight[name][torch.from_numpy(~rows)] = original[torch.from_numpy(~rows)]
        lost = (original - probe.weight[name]).sum(dim=(2, 3))
        probe.bias[name] = self.bias[name] + (lost * self.means[name]).sum(dim=1)
        total, count = 0.0, 0
        for batch, target in zip(self.batches, self.target, strict=True):
            total += float(divergence(target, self._log_probabilities(batch)).sum())
            count += len(batch)
        probe.place(None, only=name)
        probe.bias[name] = self.bias[name].clone()
        return total / count

    def _log_probabilities(self, batch: Tensor) -> Tensor:
        with torch.no_grad():
            return F.log_softmax(self.probe.logits(batch) / self.temperature, dim=1)


def share_out(share: FloatArray, widths: tuple[int, ...], truth: Mapping[int, float]) -> FloatArray:
    """cost[c, b] = KL(m) · share[c, b] / Σ_c share[c, m], m the nearest measured width.

    Width 0 takes the larger of its own measurement and what the next width foretells: the divergence of a whole pruned
    layer saturates, so that its shares are too small; and a layer that the next width holds exactly (weights of -1, 0
    and 1) foretells nothing, so that only its own measurement keeps it from being pruned.
    """
    cost = np.zeros_like(share)
    for i, b in enumerate(widths):
        near = min(truth, key=lambda m: abs(m - b))
        cost[:, i] = _scaled(truth[near], share[:, widths.index(near)], share[:, i])
    live = [m for m in truth if m]
    if 0 in widths and live:
        low, zero = min(live), widths.index(0)
        cost[:, zero] = np.maximum(cost[:, zero], _scaled(truth[low], share[:, widths.index(low)], share[:, zero]))
    return cost


def _scaled(truth: float, base: FloatArray, share: FloatArray) -> FloatArray:
    """Shares of a divergence (never below 0, where rounding can put it) measured where the shares were `base`."""
    total = float(base.sum())
    return np.zeros_like(share) if total <= 0 else max(truth, 0.0) * share / total
