"""The float network as a module, for targets on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.graph.execute import even_border
from bitloom.quantize.lower import ConcatStep, ConvStep, Lowered, PoolStep
from bitloom.quantize.stream import pool_step


class FloatNetwork(nn.Module):
    """forward(images (N, C, H, W)) -> float32 logits (N, classes). mixed: convolutions in bfloat16."""

    def __init__(self, lowered: Lowered, mixed: bool = False) -> None:
        super().__init__()
        self.lowered, self.mixed = lowered, mixed
        kind = torch.bfloat16 if mixed else torch.float32
        for i, step in enumerate(lowered.convs):
            kernel = torch.from_numpy(step.weight).to(kind).contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"weight{i}", kernel)
            self.register_buffer(f"bias{i}", torch.from_numpy(step.bias).to(kind))

    def forward(self, images: Tensor, outputs: dict[str, Tensor] | None = None) -> Tensor:
        """Logits. outputs: filled with the output of every layer with weights, before residual and ReLU, as a variable
        to differentiate by."""
        live = {self.lowered.input: images.bfloat16() if self.mixed else images}
        number = 0
        for step in self.lowered.steps:
            if isinstance(step, ConcatStep):
                live[step.output] = torch.cat([live[x] for x in step.inputs], dim=1)
                continue
            if isinstance(step, PoolStep):
                y = pool_step(step, live[step.input])
            else:
                y = self._conv(step, number, live[step.input])
                number += 1
                if outputs is not None:
                    outputs[step.name] = y if y.requires_grad else y.requires_grad_()
            if step.residual is not None:
                y = y + live[step.residual]
            live[step.output] = y if step.relu is None else y.clamp(0.0, step.relu.limit)
        return live[self.lowered.output].flatten(1).float()

    def _conv(self, step: ConvStep, number: int, x: Tensor) -> Tensor:
        x, border = even_border(x, step.padding)
        weight, bias = self.get_buffer(f"weight{number}"), self.get_buffer(f"bias{number}")
        return F.conv2d(x, weight, bias, step.stride, border, groups=step.groups)
