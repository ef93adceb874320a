"""The fake-quantized PyTorch model of an integer network: the same scales and codes, but float64 arithmetic on reals.

Weights and activations are dequantized; convolution, sum and residual are rounded to the 12 fractional bits of the
requantizer and then to codes. So it differs from the integers only where a pre-shift truncates. (Without the 12 bits,
or with ties left to float noise, one value in a million rounds differently; at 4 bits a ResNet-18 amplifies that until
one logit in six differs by a code and 3 % of the decisions change.)
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.graph.execute import pad2d
from bitloom.graph.qgraph import QConcat, QConv, QPool, QTensor, QuantGraph
from bitloom.numerics.requantize import FRACTION_BITS
from bitloom.quantize.observe import ActivationQuantizer
from bitloom.quantize.stream import fake_quantize

TIE_NOISE = 2.0**-25  #: above the noise of float64 sums, below the finest step of a product (2^-22)


class FakeQuantized(nn.Module):
    """forward(images float (N, C, H, W)) -> logits float64 (N, classes); `tensors` gives all, (N, C, H, W)."""

    def __init__(self, qgraph: QuantGraph) -> None:
        super().__init__()
        self.qgraph = qgraph
        for index, node in enumerate(qgraph.nodes):
            if isinstance(node, QConv):
                weight, bias = dequantized(node, qgraph.tensors[node.input])
                self.register_buffer(f"weight{index}", weight)
                self.register_buffer(f"bias{index}", bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, as reals on the levels of the output tensor."""
        return self.tensors(images)[self.qgraph.output].flatten(1)

    def tensors(self, images: Tensor) -> dict[str, Tensor]:
        """Every tensor by name, float64 reals on its levels."""
        source = self.qgraph.tensors[self.qgraph.input]
        quantizer = ActivationQuantizer(source.scale, source.zero_point)
        maps = {self.qgraph.input: fake_quantize(images.double(), quantizer)}
        with torch.no_grad():
            for index, node in enumerate(self.qgraph.nodes):
                if isinstance(node, QConcat):
                    maps[node.output] = torch.cat([maps[x] for x in node.inputs], dim=1)
                    continue
                y = self._conv(index, node, maps) if isinstance(node, QConv) else self._pool(node, maps)
                target = self.qgraph.tensors[node.output]
                fine = _fixed(y, target)
                if node.residual is not None:
                    fine = fine + _fixed(maps[node.residual], target)
                codes = torch.floor(fine / 2**FRACTION_BITS + 0.5) + target.zero_point
                codes = codes.clamp(node.requant.lo, node.requant.hi)
                maps[node.output] = (codes - target.zero_point) * target.scale
        return maps

    def _conv(self, index: int, node: QConv, maps: dict[str, Tensor]) -> Tensor:
        x = pad2d(maps[node.input], node.padding, 0.0)
        weight, bias = self.get_buffer(f"weight{index}"), self.get_buffer(f"bias{index}")
        return F.conv2d(x, weight, bias, node.stride, groups=node.groups)

    def _pool(self, node: QPool, maps: dict[str, Tensor]) -> Tensor:
        x = maps[node.input]
        if node.kernel == (1, 1) and node.stride == (1, 1):
            return x
        if node.maximum:
            return F.max_pool2d(pad2d(x, node.padding, float("-inf")), node.kernel, node.stride)
        return F.avg_pool2d(pad2d(x, node.padding, 0.0), node.kernel, node.stride)


def _fixed(x: Tensor, target: QTensor) -> Tensor:
    """x in codes of the target with 12 fractional bits, as whole numbers; ties go up in spite of float noise."""
    return torch.floor(x * (2**FRACTION_BITS / target.scale) + (0.5 + TIE_NOISE))


def dequantized(node: QConv, source: QTensor) -> tuple[Tensor, Tensor]:
    """Real weight, like the codes, and bias (Cout,), float64, of an integer layer, the zero point taken out again."""
    sums = node.weight.reshape(node.weight.shape[0], -1).sum(axis=1, dtype=np.int64)
    bias = (node.bias.astype(np.int64) + source.zero_point * sums) * source.scale * node.weight_scale
    weight = node.weight * node.weight_scale[:, None, None, None]
    return torch.from_numpy(weight), torch.from_numpy(bias)
