"""A quantized network on integer codes: 8-bit convolutions with exact int32 sums, activations held as bytes.

What serves measurements of many allocations: twice the images a second of float32 on a processor with 8-bit dot
products (VNNI), through PyTorch's oneDNN kernels. Everything between two convolutions is float32, so it differs from
the same network in float arithmetic only where a value falls on a rounding tie. Processors whose 8-bit kernels
saturate are found out by a check at first use; there the same codes go through float32 convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.graph.execute import pad2d
from bitloom.graph.ir import Relu
from bitloom.graph.qgraph import Int8Array, QConv, QuantGraph
from bitloom.quantize.correction import restore_scale, restoring_bias
from bitloom.quantize.fake import dequantized
from bitloom.quantize.lower import ConcatStep, ConvStep, Lowered
from bitloom.quantize.observe import ActivationQuantizer, Calibration
from bitloom.quantize.stream import pool_step

OFFSET = 128  #: byte = code + OFFSET, 1 to 255


@dataclass(frozen=True, eq=False)
class CodedLayer:
    """codes int8 (Cout, Cin / groups, KH, KW), scale float32 (Cout,) > 0, bias float32 (Cout,)."""

    codes: Int8Array
    scale: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


class CodedNetwork:
    """`logits` of a batch; `correct` sets the biases, and `gains`: factors (Cout,) of every layer's scales."""

    def __init__(
        self, lowered: Lowered, activations: Mapping[str, ActivationQuantizer], layers: Mapping[str, CodedLayer]
    ) -> None:
        self.lowered, self.activations = lowered, activations
        self.bias = {name: torch.from_numpy(layer.bias).clone() for name, layer in layers.items()}
        self.gains = {name: torch.ones(len(layer.scale)) for name, layer in layers.items()}
        self._convolve = {s.name: _Convolution(s, layers[s.name], activations[s.input]) for s in lowered.convs}

    def logits(self, images: Tensor) -> Tensor:
        """(N, classes) float32 of images (N, C, H, W) float32."""
        return self._run(images, None)

    def correct(self, calibration: Calibration) -> None:
        """Scales and biases such that every channel has its float deviation and mean over the bias-correction images,
        the earlier layers done; the last layer follows the float one with a slope of one."""
        self._run(calibration.correction_images, calibration)

    @torch.no_grad()
    def _run(self, images: Tensor, calibration: Calibration | None) -> Tensor:
        lowered, quantizers = self.lowered, self.activations
        first = images.to(torch.float32).contiguous(memory_format=torch.channels_last)
        live = {lowered.input: _bytes(first.clone(), quantizers[lowered.input], None)}
        for step, spent in zip(lowered.steps, lowered.spent(lowered.output), strict=True):
            if isinstance(step, ConcatStep):
                live[step.output] = torch.cat([live[x] for x in step.inputs], dim=1)
            else:
                if isinstance(step, ConvStep):
                    y = self._convolve[step.name](live[step.input])
                    if calibration is not None:
                        factors = restore_scale(calibration, step.name, y)
                        self.gains[step.name] *= factors
                        self._convolve[step.name].scale.mul_(factors)
                        self.bias[step.name] = restoring_bias(calibration, step.name, y)
                    y = y.add_(self.bias[step.name][:, None, None])
                else:
                    y = pool_step(step, _reals(live[step.input], quantizers[step.input]))
                if step.residual is not None:
                    y = y + _reals(live[step.residual], quantizers[step.residual])
                live[step.output] = _bytes(y, quantizers[step.output], step.relu)
            for name in spent:
                del live[name]
        return _reals(live[lowered.output], quantizers[lowered.output]).flatten(1)


def coded_network(lowered: Lowered, qgraph: QuantGraph) -> CodedNetwork:
    """The integer network `qgraph` of the same steps; the requantizer's 12 fractional bits are left out."""
    activations = {name: ActivationQuantizer(t.scale, t.zero_point) for name, t in qgraph.tensors.items()}
    layers = {}
    for node in qgraph.nodes:
        if isinstance(node, QConv):
            _, bias = dequantized(node, qgraph.tensors[node.input])
            layers[node.name] = CodedLayer(node.weight, node.weight_scale.astype(np.float32), bias.float().numpy())
    return CodedNetwork(lowered, activations, layers)


class _Convolution:
    """Bytes in, reals without bias out."""

    def __init__(self, step: ConvStep, layer: CodedLayer, source: ActivationQuantizer) -> None:
        top, bottom, left, right = step.padding
        self.step, self.source, self.zero = step, source, source.zero_point + OFFSET
        self.scale = torch.from_numpy(layer.scale).clone()
        self.even = (top, left) == (bottom, right)
        self.padding = [top, left] if self.even else [0, 0]
        self.weight = torch.from_numpy(layer.codes)
        self.packed: Any = None

    def __call__(self, x: Tensor) -> Tensor:
        if not exact_kernels():
            real = pad2d(_reals(x, self.source), self.step.padding, 0.0)
            weight = self.weight * self.scale[:, None, None, None]
            return F.conv2d(real, weight, None, self.step.stride, groups=self.step.groups)
        if not self.even:
            x = pad2d(x, self.step.padding, float(self.zero))
        if self.packed is None:
            self.packed = _pack(self.weight, self.source.scale, self.zero, self.step, self.padding, x)
        return _byte_convolution(x, self)


def _pack(weight: Tensor, scale: float, zero: int, step: ConvStep, padding: list[int], x: Tensor) -> Any:
    """Weight codes in the order that the kernel wants; `scale` only has to be that of the input."""
    ones = torch.ones(len(weight))
    return torch.ops.onednn.qconv_prepack(
        weight, ones, scale, zero, list(step.stride), padding, [1, 1], step.groups, list(x.shape)
    )


def _byte_convolution(x: Tensor, c: _Convolution) -> Tensor:
    """Exact sums of products times the scales, float32."""
    result: Tensor = torch.ops.onednn.qconv2d_pointwise(
        x, c.source.scale, c.zero, c.packed, c.scale, torch.zeros(len(c.scale), dtype=torch.int32), None,
        list(c.step.stride), c.padding, [1, 1], c.step.groups, 1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return result


@lru_cache(maxsize=1)
def exact_kernels() -> bool:
    """Whether 8-bit convolutions are there and exact: the largest sums of pairs overflow 16 bits where they are not."""
    x = torch.full((1, 64, 8, 8), 255, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    x[:, ::3, ::2] = 254
    return all(_is_exact(x, groups) for groups in (1, 64))


def _is_exact(x: Tensor, groups: int) -> bool:
    """Whether the kernel of 64 input channels in `groups`, dense or depthwise, gives exact sums of x (1, 64, H, W)."""
    shape = (64, 64 // groups, 3, 3)
    weight = torch.full(shape, 127, dtype=torch.int8)
    weight[::2, :, 1] = -127
    ones = np.ones(64, np.float32)
    step = ConvStep("check", "x", "y", np.zeros(shape, np.float32), ones, (1, 1), (1, 1, 1, 1), groups=groups)
    convolution = _Convolution(step, CodedLayer(np.asarray(weight.numpy()), ones, ones), ActivationQuantizer(1.0, -127))
    try:
        convolution.packed = _pack(weight, 1.0, 1, step, [1, 1], x)
        found = _byte_convolution(x, convolution)
    except (AttributeError, RuntimeError):  # no such kernels in this build of PyTorch
        return False
    exact = F.conv2d(pad2d(x.double() - 1, (1, 1, 1, 1), 0.0), weight.double(), groups=groups)
    return bool((found.double() == exact).all())


def _top(relu: Relu, q: ActivationQuantizer) -> float:
    return 255.0 if relu.limit is None else min(255.0, relu.limit / q.scale + q.zero_point + OFFSET)


def _reals(x: Tensor, q: ActivationQuantizer) -> Tensor:
    return x.to(torch.float32).sub_(float(q.zero_point + OFFSET)).mul_(q.scale)


def _bytes(y: Tensor, q: ActivationQuantizer, relu: Relu | None) -> Tensor:
    """y (overwritten) on the levels of `q`, after the ReLU, rounded half up."""
    zero = q.zero_point + OFFSET
    low, high = (1.0, 255.0) if relu is None else (max(1.0, float(zero)), _top(relu, q))
    return y.mul_(1 / q.scale).add_(zero + 0.5).clamp_(low, high + 0.5).to(torch.uint8)
