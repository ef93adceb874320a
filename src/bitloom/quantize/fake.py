"""The fake-quantized PyTorch model of an integer network: the same scales and codes, but float arithmetic.

It differs from the integers only where a value lies within float and multiplier rounding of a tie between two codes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.graph.execute import pad2d
from bitloom.quantize.observe import ActivationQuantizer
from bitloom.quantize.qgraph import QConcat, QConv, QPool, QTensor, QuantGraph
from bitloom.quantize.stream import fake_quantize


class FakeQuantized(nn.Module):
    """forward(images float (N, C, H, W)) -> logits float (N, classes); `tensors` returns every tensor, (N, C, H, W)."""

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
        """Every tensor by name, as reals on its levels."""
        maps = {self.qgraph.input: self._quantize(images, self.qgraph.input)}
        with torch.no_grad():
            for index, node in enumerate(self.qgraph.nodes):
                if isinstance(node, QConcat):
                    maps[node.output] = torch.cat([maps[x] for x in node.inputs], dim=1)
                    continue
                y = self._conv(index, node, maps) if isinstance(node, QConv) else self._pool(node, maps)
                if node.residual is not None:
                    y = y + maps[node.residual]
                target = self.qgraph.tensors[node.output]
                low = (node.requant.lo - target.zero_point) * target.scale
                high = (node.requant.hi - target.zero_point) * target.scale
                maps[node.output] = self._quantize(y.clamp(low, high), node.output)
        return maps

    def _quantize(self, x: Tensor, name: str) -> Tensor:
        tensor = self.qgraph.tensors[name]
        return fake_quantize(x, ActivationQuantizer(tensor.scale, tensor.zero_point))

    def _conv(self, index: int, node: QConv, maps: dict[str, Tensor]) -> Tensor:
        x = pad2d(maps[node.input], node.padding, 0.0)
        return F.conv2d(x, self.get_buffer(f"weight{index}"), self.get_buffer(f"bias{index}"), node.stride)

    def _pool(self, node: QPool, maps: dict[str, Tensor]) -> Tensor:
        x = maps[node.input]
        if node.kernel == (1, 1) and node.stride == (1, 1):
            return x
        if node.maximum:
            return F.max_pool2d(pad2d(x, node.padding, float("-inf")), node.kernel, node.stride)
        return F.avg_pool2d(pad2d(x, node.padding, 0.0), node.kernel, node.stride)


def dequantized(node: QConv, source: QTensor) -> tuple[Tensor, Tensor]:
    """Real weight (Cout, Cin, KH, KW) and bias (Cout,) float32 of an integer layer, the zero point taken out again."""
    sums = node.weight.reshape(node.weight.shape[0], -1).sum(axis=1, dtype=np.int64)
    bias = (node.bias.astype(np.int64) + source.zero_point * sums) * source.scale * node.weight_scale
    weight = node.weight * node.weight_scale[:, None, None, None]
    return torch.from_numpy(weight.astype(np.float32)), torch.from_numpy(bias.astype(np.float32))
