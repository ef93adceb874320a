"""The integer network with gradients: same codes, scales and clamps, rounding by straight-through estimates.

It begins as a QuantGraph and ends as one. Real arithmetic is float32; the requantizer's 12 fractional bits are left
out, which matters for ties only, so that the hand-over is exact up to single roundings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.errors import DataError
from bitloom.graph.execute import even_border
from bitloom.graph.qgraph import QConcat, QConv, QNode, QTensor, QuantGraph
from bitloom.quantize.assemble import code_limits, make_conv, make_pool
from bitloom.quantize.code_range import code_range
from bitloom.quantize.fake import dequantized
from bitloom.quantize.lower import ConcatStep, ConvStep, Lowered, PoolStep, Step, step_inputs
from bitloom.quantize.straight import quantize_activation, quantize_weight
from bitloom.quantize.stream import pool_step

#: codes; how far a weight may begin from the code that it was rounded to
SLACK, BINARY_SLACK = 0.45, 0.95


class QuantizedWeights(nn.Module):
    """Codes, scales and biases of one layer as parameters.

    latent (Cout, Cin, KH, KW): weights in units of the scale; log_scale (Cout, 1, 1, 1): of its size, its sign stays;
    bias (Cout,).
    """

    def __init__(self, step: ConvStep, node: QConv, source: QTensor) -> None:
        super().__init__()
        _, bias = dequantized(node, source)
        scale = torch.from_numpy(node.weight_scale).reshape(-1, 1, 1, 1)
        sign = torch.where(scale < 0, -1.0, 1.0).float()
        codes = torch.from_numpy(node.weight.astype(np.float64))
        real = torch.from_numpy(step.weight.astype(np.float64))
        widths = torch.from_numpy(node.bits.astype(np.int64)).reshape(-1, 1, 1, 1)
        slack = torch.where(widths == 1, BINARY_SLACK, SLACK)
        latent = codes + (real / scale - codes).clamp(-slack, slack)
        self.latent = nn.Parameter(
            torch.where(widths > 0, latent, 0.0).float().contiguous(memory_format=torch.channels_last)
        )
        self.log_scale = nn.Parameter(scale.abs().log().float())
        self.bias = nn.Parameter(bias.float())
        self.register_buffer("widths", widths)
        self.register_buffer("sign", sign)
        self.bits = torch.from_numpy(node.bits.astype(np.int64))

    def forward(self) -> Tensor:
        """Real weights (Cout, Cin, KH, KW)."""
        return quantize_weight(self.latent, self.scale(), self.get_buffer("widths"))

    @torch.no_grad()
    def assign(self, codes: Tensor, scale: Tensor, bias: Tensor) -> None:
        """New codes (Cout, K), scale of either sign and bias (Cout,)."""
        self.latent.copy_(codes.reshape(self.latent.shape))
        self.log_scale.copy_(scale.abs().log().reshape(self.log_scale.shape))
        self.get_buffer("sign").copy_(torch.where(scale < 0, -1.0, 1.0).reshape(self.log_scale.shape))
        self.bias.copy_(bias)

    def rated(self, latent: float, scale: float, bias: float) -> list[dict[str, Any]]:
        """Groups of an optimizer with learning rates `lr`, and `base` to come back to; bias: times the biases' size."""
        size = float(self.bias.detach().abs().mean().clamp(min=1e-3))
        rates = ((self.latent, latent), (self.log_scale, scale), (self.bias, bias * size))
        return [{"params": [parameter], "lr": rate, "base": rate} for parameter, rate in rates]

    def scale(self) -> Tensor:
        """(Cout, 1, 1, 1), of either sign."""
        return self.get_buffer("sign") * self.log_scale.exp()

    def codes(self) -> Tensor:
        """Codes (Cout, Cin, KH, KW), whole numbers."""
        return code_range(self.get_buffer("widths")).nearest(self.latent.detach())


class TrainableNetwork(nn.Module):
    """forward(images (N, C, H, W)) -> logits (N, classes); `run` gives any stretch of steps.

    lowered: of the float graph; start: the integer network to begin with (same layers, from `quantize`).
    Activation scales are fixed. mixed: convolutions in bfloat16, for speed; the codes that result are the same kind.
    """

    def __init__(self, lowered: Lowered, start: QuantGraph, mixed: bool = False) -> None:
        super().__init__()
        self.lowered, self.start, self.mixed = lowered, start, mixed
        nodes = {node.name: node for node in start.nodes if isinstance(node, QConv)}
        self.index = {step.name: i for i, step in enumerate(lowered.convs)}
        self.weights = nn.ModuleList(
            QuantizedWeights(step, nodes[step.name], start.tensors[step.input]) for step in lowered.convs
        )

    def layer(self, name: str) -> QuantizedWeights:
        """Parameters of a layer."""
        module = self.weights[self.index[name]]
        assert isinstance(module, QuantizedWeights)
        return module

    def forward(self, images: Tensor) -> Tensor:
        """Logits as reals on the levels of the output tensor."""
        first = self.quantize_input(images)
        return self.run(self.lowered.steps, {self.lowered.input: first})[self.lowered.output].flatten(1)

    def quantize_input(self, images: Tensor) -> Tensor:
        """Images on the levels of the input tensor."""
        return self._levels(images, self.lowered.input, -127, 127)

    def run(self, steps: Iterable[Step], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every tensor that is alive after `steps`, those given included; reals on their levels."""
        todo = tuple(steps)
        last_use = {name: i for i, step in enumerate(todo) for name in step_inputs(step)}
        live = dict(given)
        for index, step in enumerate(todo):
            live[step.output] = self._step(step, live)
            for name in [n for n in live if last_use.get(n, index + 1) <= index and n not in given]:
                del live[name]
        return live

    def _step(self, step: Step, live: Mapping[str, Tensor]) -> Tensor:
        if isinstance(step, ConcatStep):
            return torch.cat([live[x] for x in step.inputs], dim=1)
        x = live[step.input]
        if isinstance(step, ConvStep):
            layer = self.layer(step.name)
            x, border = even_border(x, step.padding)
            y = self._convolve(x, layer(), layer.bias, step, border)
        else:
            y = pool_step(step, x)
            if step.same_scale:
                return y
        if step.residual is not None:
            y = y + live[step.residual]
        return self._levels(y, step.output, *code_limits(step.relu, self.start.tensors[step.output]))

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor, step: ConvStep, padding: tuple[int, int]) -> Tensor:
        if self.mixed:
            low = F.conv2d(x.bfloat16(), weight.bfloat16(), None, step.stride, padding, groups=step.groups)
            return low.float() + bias[:, None, None]
        return F.conv2d(x, weight, bias, step.stride, padding, groups=step.groups)

    def _levels(self, y: Tensor, name: str, lo: int, hi: int) -> Tensor:
        tensor = self.start.tensors[name]
        return quantize_activation(y, tensor.scale, tensor.zero_point, lo, hi)

    def harden(self) -> QuantGraph:
        """The integer network of the present parameters. DataError when a parameter is NaN or infinite."""
        nodes: list[QNode] = []
        before = {node.name: node for node in self.start.nodes}
        for step in self.lowered.steps:
            if isinstance(step, ConcatStep):
                nodes.append(QConcat(step.name, step.inputs, step.output))
            elif isinstance(step, PoolStep):
                nodes.append(make_pool(step, self.start.tensors))
            else:
                old = before[step.name]
                assert isinstance(old, QConv)
                nodes.append(self._harden(step, old))
        start = self.start
        return QuantGraph(start.name, start.tensors, tuple(nodes), start.input, start.output)

    def _harden(self, step: ConvStep, old: QConv) -> QConv:
        layer = self.layer(step.name)
        for what, value in layer.named_parameters():
            if not bool(torch.isfinite(value).all()):
                raise DataError(f"{step.name}: {what} is NaN or infinite after training; lower the learning rate")
        codes = layer.codes().cpu().numpy().astype(np.int8).reshape(len(old.bits), -1)
        size, sign = layer.log_scale.detach().cpu().double().exp(), layer.get_buffer("sign").cpu().double()
        scale = (sign * size).flatten().numpy()
        bias = layer.bias.detach().cpu().double().numpy()
        return make_conv(step, self.start.tensors, codes, old.bits, scale, bias)
