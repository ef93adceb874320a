"""HAWQ-V2 and V3: mean Hessian trace of a layer times its squared weight error, one width per layer.

V2 (Dong et al., NeurIPS 2020, arXiv:1911.03852, eq. 2): Ω = Σ_i mean-trace(H_i) · ||Q(W_i) - W_i||². The trace is
Hutchinson's: E[v^T H v], v of random signs, H v by differentiating the gradient once more; the loss is the cross
entropy with labels. V2 takes the least Ω within the size; V3 (Yao et al., ICML 2021, arXiv:2011.10680) solves the
integer program of the same Ω with the widths 4 and 8 that its integer kernels have.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.baselines.layers import by_layer, without_binary
from bitloom.errors import DataError
from bitloom.graph.allocation import BitAllocation

V2_WIDTHS = (2, 3, 4, 5, 6, 7, 8)
V3_WIDTHS = (4, 8)


def mean_traces(
    probe: Probe, images: Tensor, labels: npt.NDArray[np.int64], draws: int = 4, batch: int = 8, seed: int = 0
) -> dict[str, float]:
    """Trace of the loss's Hessian by each layer's weights, over their number; float weights.

    Cost: `draws` double backward passes, about five forward passes each. Raises DataError when labels do not match
    images or a trace is not finite.
    """
    if len(labels) != len(images):
        raise DataError(f"{len(labels)} labels for {len(images)} images; give one label an image")
    probe.place(None)
    names = list(probe.steps)
    variables = [probe.weight[n].requires_grad_(True) for n in names]
    generator = torch.Generator().manual_seed(seed)
    totals = np.zeros(len(names))
    for start in range(0, len(images), batch):
        x, y = images[start : start + batch], torch.from_numpy(labels[start : start + batch])
        loss = F.cross_entropy(probe.logits(x), y, reduction="sum") / len(images)
        gradients = torch.autograd.grad(loss, variables, create_graph=True)
        for draw in range(draws):
            signs = [torch.randint(0, 2, v.shape, generator=generator).float() * 2 - 1 for v in variables]
            dot = torch.stack([(g * s).sum() for g, s in zip(gradients, signs, strict=True)]).sum()
            products = torch.autograd.grad(dot, variables, retain_graph=draw + 1 < draws)
            totals += [float((h * s).sum()) / draws for h, s in zip(products, signs, strict=True)]
    for variable in variables:
        variable.requires_grad_(False)
    if not np.isfinite(totals).all():
        raise DataError(f"{names[int(np.argmin(np.isfinite(totals)))]}: the Hessian trace is not finite; check images")
    return {n: float(t) / probe.weight[n].numel() for n, t in zip(names, totals, strict=True)}


def hawq(
    probe: Probe,
    traces: Mapping[str, float],
    budget_bits: int,
    widths: tuple[int, ...],
    binary: Container[str] = frozenset(),
) -> BitAllocation:
    """The allocation of least Ω; a negative trace (possible off a minimum) counts as zero.

    Needs the probe's rounded rows at `widths` (V2_WIDTHS or V3_WIDTHS, or 1 bit too); binary: layers that may have it.
    Raises BudgetError when infeasible.
    """
    costs, channels, weights = {}, {}, {}
    for name, step in probe.steps.items():
        flat = step.weight.reshape(len(step.weight), -1)
        channels[name], weights[name] = flat.shape
        ones = np.ones(len(flat), np.int8)
        errors = [float(np.square(probe.rows(name, (ones * b).astype(np.int8)) - flat).sum()) for b in widths]
        costs[name] = max(traces[name], 0.0) * np.array(errors)
    return by_layer(without_binary(costs, widths, binary), channels, weights, widths, budget_bits)
