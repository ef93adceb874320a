"""What a width costs a channel: the measured harm of one layer quantized alone, shared among its channels.

Estimate where the data suffice, decide where it pays: the Kullback-Leibler divergence of
the network's output with one layer at one width is measured on calibration images; the layer's channels share it in
proportion to their output error under the input covariance. Widths that are not measured follow the summed error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.allocate.hbp import LayerCosts
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv, Graph, Linear, Node
from bitloom.quantize.lower import Lowered
from bitloom.quantize.rounding import RoundedLayer


@dataclass(frozen=True)
class SensitivityOptions:
    """measured: widths at which every layer is measured alone. images: how many calibration images serve."""

    measured: tuple[int, ...] = (0, 2, 3, 4)
    images: int = 32
    batch: int = 16


def layer_costs(
    graph: Graph,
    lowered: Lowered,
    rounded: Mapping[str, RoundedLayer],
    images: Tensor,
    options: SensitivityOptions | None = None,
) -> dict[str, LayerCosts]:
    """Costs of every channel of every layer at every rounded width.

    images: float (N, C, H, W), best not those the rounding has seen. Cost: len(measured) forward passes a layer.
    Raises nothing of its own; a NaN loss is refused by the solver.
    """
    opts = SensitivityOptions() if options is None else options
    batches = torch.split(images[: opts.images], opts.batch)
    source = {step.name: step.input for step in lowered.convs}
    target, means = _reference(graph, {graph[name].inputs[0] for name in source}, batches)
    result = {}
    for name, layer in rounded.items():
        error = np.maximum(np.nan_to_num(layer.error, nan=np.inf), 0.0)
        mean = means[graph[name].inputs[0]]
        measured = {b: _divergence(_with_layer(graph, name, layer, b, mean), batches, target) for b in opts.measured}
        result[name] = LayerCosts(_share(error, layer.widths, measured), _weights(graph[name]))
    return result


def _share(
    error: npt.NDArray[np.float64], widths: tuple[int, ...], measured: Mapping[int, float]
) -> npt.NDArray[np.float64]:
    """cost[c, b] = KL(m) · error[c, b] / Σ_c error[c, m], m the nearest measured width.

    Width 0 takes the larger of its own measurement and what the next width foretells: the divergence of a whole pruned
    layer saturates, so that its shares are too small; and a layer that the next width holds exactly (weights of -1, 0
    and 1) foretells nothing, so that only its own measurement keeps it from being pruned.
    """
    cost = np.zeros_like(error)
    for i, b in enumerate(widths):
        near = min(measured, key=lambda m: abs(m - b))
        cost[:, i] = _scaled(measured[near], error[:, widths.index(near)], error[:, i])
    live = [m for m in measured if m]
    if 0 in widths and live:
        low = min(live)
        cost[:, widths.index(0)] = np.maximum(
            cost[:, widths.index(0)], _scaled(measured[low], error[:, widths.index(low)], error[:, widths.index(0)])
        )
    # More bits never cost more: noise in the estimate must not be rewarded.
    monotone: npt.NDArray[np.float64] = np.minimum.accumulate(cost, axis=1)
    return monotone


def _scaled(
    divergence: float, base: npt.NDArray[np.float64], error: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Shares of a divergence (never below 0, where rounding can put it) measured where the errors were `base`."""
    total = float(base.sum())
    return np.zeros_like(error) if total <= 0 else max(divergence, 0.0) * error / total


def _weights(node: Node) -> int:
    assert isinstance(node.op, Conv | Linear)
    return int(np.prod(node.op.weight.shape[1:]))


def _reference(graph: Graph, names: set[str], batches: tuple[Tensor, ...]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Log-probabilities of the float network and the mean of each named tensor per channel (or per element)."""
    target, sums, count = [], dict[str, Tensor](), 0
    for batch in batches:
        values = execute(graph, batch, {graph.output, *names})
        target.append(F.log_softmax(values[graph.output].flatten(1), dim=1))
        count += len(batch)
        for name in names:
            value = values[name]
            total = value.mean(dim=(2, 3)).sum(dim=0) if value.ndim == 4 else value.sum(dim=0)
            sums[name] = sums[name] + total if name in sums else total
    return target, {name: total / count for name, total in sums.items()}


def _with_layer(graph: Graph, name: str, layer: RoundedLayer, bits: int, mean: Tensor) -> Graph:
    """The network with one layer at one width, the mean shift of its output corrected in the bias."""
    op = graph[name].op
    assert isinstance(op, Conv | Linear)
    codes, scale = layer.pick(np.full(op.weight.shape[0], bits, np.int8))
    weight = (codes * np.asarray(scale)[:, None]).astype(np.float32).reshape(op.weight.shape)
    lost = op.weight - weight
    lost = lost.sum(axis=(2, 3)) if lost.ndim == 4 else lost
    bias = (op.bias + lost @ mean.numpy()).astype(np.float32)
    nodes = tuple(replace(n, op=replace(op, weight=weight, bias=bias)) if n.name == name else n for n in graph.nodes)
    return replace(graph, nodes=nodes)


def _divergence(graph: Graph, batches: tuple[Tensor, ...], target: list[Tensor]) -> float:
    """Mean KL(float || quantized) in nats per image."""
    total, count = 0.0, 0
    with torch.no_grad():
        for batch, reference in zip(batches, target, strict=True):
            logits = execute(graph, batch)[graph.output].flatten(1)
            kl = F.kl_div(F.log_softmax(logits, dim=1), reference, reduction="sum", log_target=True)
            total += float(kl)
            count += len(batch)
    return total / count
