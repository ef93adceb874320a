"""A network whose layers take rounded rows at will, differentiable: what sensitivities are measured on.

float32 on the levels of the activations, as `quantize` would have them; the biases keep every channel's mean output
over given images, layer by layer, so that a pick is measured as it will be used. Rounding passes gradients straight
through where it does not clip (Bengio et al., arXiv:1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.allocation import BitAllocation
from bitloom.graph.execute import execute, pad2d
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import Int8Array
from bitloom.quantize.coded import CodedLayer, CodedNetwork
from bitloom.quantize.correction import restore_scale, restoring_bias
from bitloom.quantize.curvature import CHOICE_TEMPERATURE
from bitloom.quantize.lower import ConcatStep, ConvStep
from bitloom.quantize.observe import ActivationQuantizer, Calibration
from bitloom.quantize.rounding import RoundedLayer
from bitloom.quantize.stream import pool_step

Bits = Mapping[str, Int8Array]


class Probe:
    """weight (Cout, Cin / groups, KH, KW) and bias (Cout,) of every layer by name, float at first; gains (Cout,) in it.

    `place` picks rows, `correct` sets biases and gains, `logits` runs a batch. What stays float needs no rounded rows.
    """

    def __init__(self, calibration: Calibration, rounded: Mapping[str, RoundedLayer]) -> None:
        self.calibration, self.lowered, self.rounded = calibration, calibration.lowered, rounded
        self.steps = {step.name: step for step in self.lowered.convs}
        self.weight = {name: torch.from_numpy(step.weight.copy()) for name, step in self.steps.items()}
        self.bias = {name: torch.from_numpy(step.bias.copy()) for name, step in self.steps.items()}
        self.last = self.lowered.last.name
        self.gains = {name: torch.ones(len(step.weight)) for name, step in self.steps.items()}
        self._picked: dict[str, Int8Array] = {}

    @property
    def widths(self) -> tuple[int, ...]:
        """That the rows are rounded at."""
        return next(iter(self.rounded.values())).widths

    @property
    def correction_images(self) -> Tensor:
        """The images that `quantize` corrects biases on."""
        return self.calibration.correction_images

    def place(self, bits: Bits | None, only: str | None = None) -> None:
        """Rows of `bits` (layers that it lacks, and None: float); only: one layer, the others as they are."""
        for name, step in self.steps.items():
            if only is None or name == only:
                picked = None if bits is None else bits.get(name)
                values = step.weight if picked is None else self.rows(name, picked)
                self._picked.pop(name, None)
                if picked is not None:
                    self._picked[name] = picked
                self.weight[name] = torch.from_numpy(np.array(values)).reshape(step.weight.shape)
                self.gains[name] = torch.ones(len(step.weight))

    def rows(self, name: str, bits: Int8Array) -> npt.NDArray[np.float32]:
        """Rounded weights (Cout, K) of one layer."""
        codes, scale = self.rounded[name].pick(bits)
        return np.asarray(codes * scale[:, None].astype(np.float32), dtype=np.float32)

    def lost(self, name: str, widths: Sequence[int]) -> Tensor:
        """What rounding takes from the weights of one layer at each width, (widths, Cout, K) float32."""
        weight = self.steps[name].weight
        rows = weight.reshape(len(weight), -1)
        lost = np.empty((len(widths), *rows.shape), np.float32)
        for found, b in zip(lost, widths, strict=True):
            np.subtract(rows, self.rows(name, np.full(len(rows), b, np.int8)), out=found)
        return torch.from_numpy(lost)

    def coded(self) -> CodedNetwork | None:
        """The network on integer codes, faster; None while a layer is float."""
        if self._picked.keys() != self.steps.keys():
            return None
        layers = {}
        for name, step in self.steps.items():
            codes, scale = self.rounded[name].pick(self._picked[name])
            bias = self.bias[name].detach().numpy()
            scale = (scale * self.gains[name].numpy()).astype(np.float32)
            layers[name] = CodedLayer(codes.reshape(step.weight.shape), scale, bias)
        return CodedNetwork(self.lowered, self.calibration.activations, layers)

    def correct(self) -> None:
        """Biases such that every layer has its float mean output over `correction_images`, the earlier ones done.

        Where a layer is rounded its rows are multiplied so that they keep their float deviations too, and the last
        layer's so that it follows the float one with slope one (`gain.py`).
        """
        coded = self.coded()
        if coded is not None:
            coded.correct(self.calibration)
            self.bias.update(coded.bias)
            for name, factors in coded.gains.items():
                self._amplify(name, factors)
            return

        def adjust(step: ConvStep, x: Tensor) -> None:
            sums = F.conv2d(x, self.weight[step.name], None, step.stride, groups=step.groups)
            if self._picked and (step.name in self._picked or step.name == self.last):
                self._amplify(step.name, restore_scale(self.calibration, step.name, sums))
            self.bias[step.name] = restoring_bias(self.calibration, step.name, sums)

        with torch.no_grad():
            self.logits(self.correction_images, adjust)

    def _amplify(self, name: str, factors: Tensor) -> None:
        self.gains[name] = self.gains[name] * factors
        self.weight[name] = self.weight[name] * factors[:, None, None, None]

    def input_means(self, images: Tensor) -> dict[str, Tensor]:
        """Mean of every layer's padded input at the present weights, per channel that an output channel reads:
        (1 or Cout, Cin / groups)."""
        means: dict[str, Tensor] = {}

        def visit(step: ConvStep, x: Tensor) -> None:
            of_group = x.mean(dim=(0, 2, 3)).reshape(step.groups, -1)
            rows = len(step.weight) // step.groups if step.groups > 1 else 1
            means[step.name] = of_group.repeat_interleave(rows, dim=0)

        with torch.no_grad():
            self.logits(images, visit)
        return means

    def logits(
        self,
        images: Tensor,
        visit: Callable[[ConvStep, Tensor], None] | None = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """(N, classes). visit(step, padded input) is called before each layer with weights.

        outputs: filled with each such layer's output, before residual and ReLU, as a variable to differentiate by.
        """
        lowered, quantizers = self.lowered, self.calibration.activations
        first = images.contiguous(memory_format=torch.channels_last)  # a quarter faster than the plain order
        live = {lowered.input: levels_of(first, quantizers[lowered.input])}
        for step, spent in zip(lowered.steps, lowered.spent(lowered.output), strict=True):
            if isinstance(step, ConcatStep):
                live[step.output] = torch.cat([live[x] for x in step.inputs], dim=1)
            else:
                if isinstance(step, ConvStep):
                    x = pad2d(live[step.input], step.padding, 0.0)
                    if visit is not None:
                        visit(step, x)
                    weight, bias = self.weight[step.name], self.bias[step.name]
                    y = F.conv2d(x, weight, bias, step.stride, groups=step.groups)
                    if outputs is not None:
                        outputs[step.name] = y if y.requires_grad else y.requires_grad_()
                else:
                    y = pool_step(step, live[step.input])
                if step.residual is not None:
                    y = y + live[step.residual]
                if step.relu is not None:
                    y = y.clamp(0.0, step.relu.limit)
                same = not isinstance(step, ConvStep) and step.same_scale
                live[step.output] = y if same else levels_of(y, quantizers[step.output])
            for name in spent:
                del live[name]
        return live[lowered.output].flatten(1)


class _Levels(torch.autograd.Function):
    """x on the levels of a quantizer; the gradient is that of clipping."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, q: ActivationQuantizer) -> Tensor:
        low, high = -127 - q.zero_point, 127 - q.zero_point
        codes = x / q.scale
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((codes >= low) & (codes <= high))
        return codes.add_(0.5).floor_().clamp_(low, high).mul_(q.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * ctx.saved_tensors[0], None


def levels_of(x: Tensor, q: ActivationQuantizer) -> Tensor:
    """x on the levels of `q`; the gradient is that of clipping."""
    result: Tensor = _Levels.apply(x, q)  # type: ignore[no-untyped-call]
    return result


def log_probabilities(probe: Probe, images: Tensor, batch: int = 32, temperature: float = 1.0) -> Tensor:
    """(N, classes) float64, no gradients, on integer codes where all layers are rounded; temperature divides logits.

    DataError when a logit is not finite.
    """
    coded = probe.coded()
    run = probe.logits if coded is None else coded.logits
    with torch.no_grad():
        parts = [F.log_softmax(run(part).double() / temperature, dim=1) for part in torch.split(images, batch)]
    result = torch.cat(parts)
    if not bool(torch.isfinite(result).all()):
        raise DataError(f"'{probe.lowered.name}' gives NaN or infinite logits; check the weights and the images")
    return result


def divergence(target: Tensor, found: Tensor) -> Tensor:
    """KL(target || found) of every image in nats, (N,); both log-probabilities (N, classes)."""
    return (target.exp() * (target - found)).sum(dim=1)


def divergence_judge(
    graph: Graph, calibration: Calibration, rounded: Mapping[str, RoundedLayer], images: Tensor, batch: int = 32
) -> Callable[[BitAllocation], float]:
    """Allocation -> mean KL(float || quantized) in nats at CHOICE_TEMPERATURE on images, float (N, C, H, W).

    Biases and scales are corrected. The float network runs once, at the first call.
    """
    targets: list[Tensor] = []

    def judge(allocation: BitAllocation) -> float:
        parts = torch.split(images, batch)
        if not targets:
            floats = (execute(graph, part)[graph.output].flatten(1).double() for part in parts)
            targets.extend(F.log_softmax(logits / CHOICE_TEMPERATURE, dim=1) for logits in floats)
        probe = Probe(calibration, rounded)
        probe.place(allocation.bits)
        probe.correct()
        found = (log_probabilities(probe, x, batch, CHOICE_TEMPERATURE) for x in parts)
        return sum(float(divergence(t, x).sum()) for t, x in zip(targets, found, strict=True)) / len(images)

    return judge
