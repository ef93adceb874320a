"""Fisher information along each channel's own rounding error, one number for every channel and width.

cost[c, b] = E[(G_c · (w_c - v_c,b))^2] / 2, G the weight gradient of a draw (`curvature.py`), inputs centred because
bias correction removes what is constant. Nothing is assumed and nothing is shared: with few images every cell has its
own noise, which the solver then picks from. The naive per-channel baseline is this at temperature 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.quantize.curvature import curvature_draw

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ChannelFisher:
    """temperature: divides the logits. together: images of one draw (their draws are independent: no bias)."""

    temperature: float = 2.0
    together: int = 4
    seed: int = 0

    def passes(self, layers: int) -> int:
        """One forward and one backward pass."""
        return 3

    def costs(self, probe: Probe, images: Tensor) -> dict[str, FloatArray]:
        """Memory: float rows of every width of every layer."""
        probe.place(None)
        probe.correct()
        means = probe.input_means(probe.correction_images)
        names = list(probe.steps)
        lost = {name: probe.lost(name, probe.widths) for name in names}
        variables = [probe.weight[n] for n in names] + [probe.bias[n] for n in names]
        for variable in variables:
            variable.requires_grad_(True)
        generator = torch.Generator().manual_seed(self.seed)
        sums: dict[str, Tensor] = {}
        batches = torch.split(images, self.together)
        for batch in batches:
            logits = probe.logits(batch) / self.temperature
            loss = (logits * curvature_draw(logits.detach(), generator)).sum() / len(batch) ** 0.5
            gradients = torch.autograd.grad(loss, variables)
            for i, name in enumerate(names):
                g = gradients[i] - gradients[len(names) + i][:, None, None, None] * means[name][:, :, None, None]
                along = torch.einsum("bck,ck->cb", lost[name], g.flatten(1)).double().square()
                sums[name] = sums[name] + along if name in sums else along
        for variable in variables:
            variable.requires_grad_(False)
        return {name: np.asarray((total / (2 * len(batches))).numpy()) for name, total in sums.items()}
