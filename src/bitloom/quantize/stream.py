"""Runs lowered steps in float, activations rounded to their levels, and shows every layer's input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from bitloom.graph.execute import pad2d
from bitloom.quantize.lower import ConcatStep, ConvStep, Lowered, PoolStep, Step
from bitloom.quantize.observe import ActivationQuantizer

Visit = Callable[[ConvStep, Tensor], None]


def fake_quantize(x: Tensor, q: ActivationQuantizer) -> Tensor:
    """x rounded half up to the levels of `q`, as reals."""
    codes = torch.floor(x / q.scale + 0.5).add_(q.zero_point).clamp_(-127, 127)
    return codes.sub_(q.zero_point).mul_(q.scale)


def run_steps(
    lowered: Lowered, images: Tensor, activations: Mapping[str, ActivationQuantizer], visit: Visit, until: str
) -> None:
    """One batch (N, C, H, W) up to the layer `until`; calls visit(step, input of the step) before each ConvStep."""
    live = {lowered.input: fake_quantize(images, activations[lowered.input])}
    with torch.no_grad():
        for step, spent in zip(lowered.steps, lowered.spent(), strict=True):
            if isinstance(step, ConvStep):
                visit(step, live[step.input])
                if step.name == until:
                    return
            live[step.output] = _apply(step, live, activations[step.output])
            for name in spent:
                del live[name]


def run_float(steps: Iterable[Step], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float tensors that `steps` make of those given (which are returned too), without any rounding."""
    live = dict(given)
    for step in steps:
        live[step.output] = _float_step(step, live)
    return live


def _apply(step: Step, live: Mapping[str, Tensor], quantizer: ActivationQuantizer) -> Tensor:
    y = _float_step(step, live)
    exact = isinstance(step, ConcatStep) or (isinstance(step, PoolStep) and step.same_scale)
    return y if exact else fake_quantize(y, quantizer)


def _float_step(step: Step, live: Mapping[str, Tensor]) -> Tensor:
    if isinstance(step, ConcatStep):
        return torch.cat([live[x] for x in step.inputs], dim=1)
    y = conv_step(step, live[step.input]) if isinstance(step, ConvStep) else pool_step(step, live[step.input])
    if step.residual is not None:
        y = y + live[step.residual]
    return y if step.relu is None else y.clamp(0.0, step.relu.limit)


def conv_step(step: ConvStep, x: Tensor) -> Tensor:
    """The convolution alone, float."""
    padded = pad2d(x, step.padding, 0.0)
    weight, bias = torch.from_numpy(step.weight), torch.from_numpy(step.bias)
    return F.conv2d(padded, weight, bias, step.stride, groups=step.groups)


def pool_step(step: PoolStep, x: Tensor) -> Tensor:
    """The pool alone, float."""
    if step.kernel == (1, 1) and step.stride == (1, 1):
        return x
    if step.maximum:
        return F.max_pool2d(pad2d(x, step.padding, float("-inf")), step.kernel, step.stride)
    return F.avg_pool2d(pad2d(x, step.padding, 0.0), step.kernel, step.stride, divisor_override=step.count)
