"""OMPQ: bits by the orthogonality of layers (Ma et al., AAAI 2023, arXiv:2109.07865), one width per layer, no labels.

ORM(X, Y) = ||Y^T X||_F² / (||X^T X||_F ||Y^T Y||_F) of two layers' outputs, images by features (their eq. 5); γ_i sums
a layer's ORM with all others, θ_i = exp(-β γ_i), and the linear program maximizes Σ_i b_i mean_{j>=i} θ_j within the
size.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.baselines.layers import WIDTHS, by_layer, without_binary
from bitloom.graph.allocation import BitAllocation


def orthogonality(probe: Probe, images: Tensor, batch: int = 16) -> npt.NDArray[np.float64]:
    """ORM of every pair of layers, (layers, layers), 1 on the diagonal; from the layers' Gram matrices of images."""
    probe.place(None)
    rows: dict[str, list[Tensor]] = {name: [] for name in probe.steps}
    with torch.no_grad():
        for part in torch.split(images, batch):
            outputs: dict[str, Tensor] = {}
            probe.logits(part, outputs=outputs)
            for name, y in outputs.items():
                # Averaged over at most 7 x 7 windows: the Gram matrix of 64 images needs no more features.
                small = torch.nn.functional.adaptive_avg_pool2d(y.detach(), (min(7, y.shape[2]), min(7, y.shape[3])))
                rows[name].append(small.flatten(1))
    features = [torch.cat(parts).double() for parts in rows.values()]
    grams = [(f @ f.T) for f in features]
    # ||Y^T X||_F² = <X X^T, Y Y^T>, so that images by images suffice.
    flat = torch.stack([g.flatten() / g.norm().clamp(min=1e-30) for g in grams])
    return np.asarray((flat @ flat.T).numpy())


def ompq(
    orm: npt.NDArray[np.float64],
    channels: Mapping[str, int],
    weights: Mapping[str, int],
    budget_bits: int,
    beta: float = 1.0,
    widths: tuple[int, ...] = WIDTHS,
    binary: Container[str] = frozenset(),
) -> BitAllocation:
    """The allocation of the linear program, solved in integers. Layers in the order of `channels`.

    binary: layers that may have 1 bit.
    """
    gamma = orm.sum(axis=1) - np.diag(orm)
    theta = np.exp(-beta * gamma)
    value = np.array([theta[i:].mean() for i in range(len(theta))])
    costs = {n: -v * np.asarray(widths, np.float64) for n, v in zip(channels, value, strict=True)}
    return by_layer(without_binary(costs, widths, binary), channels, weights, widths, budget_bits)
