"""The arrow from a float graph and a bit allocation to the integer network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bitloom.errors import BudgetError, GraphError
from bitloom.graph.allocation import BitAllocation
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import Int8Array, QConcat, QConv, QNode, QTensor, QuantGraph, node_inputs
from bitloom.numerics.requantize import requantize
from bitloom.quantize.assemble import make_conv, make_pool
from bitloom.quantize.correction import scale_factors
from bitloom.quantize.gain import output_samples
from bitloom.quantize.lower import ConcatStep, ConvStep, Lowered, step_inputs
from bitloom.quantize.observe import Calibration
from bitloom.quantize.rounding import RoundedLayer, Rounding
from bitloom.quantize.tables import nearest_table, round_network
from bitloom.reference.fast import exact_convolution, quantize_input, run_node


@dataclass(frozen=True)
class QuantizeOptions:
    """method: of weight rounding; bias_correction: keep each channel's mean and deviation before activation over the
    images, and the slope of the last layer's outputs (`gain.py`)."""

    method: Rounding = Rounding.GPTQ
    bias_correction: bool = True


def quantize(
    graph: Graph,
    allocation: BitAllocation,
    calibration: Calibration,
    options: QuantizeOptions | None = None,
    rounded: Mapping[str, RoundedLayer] | None = None,
) -> QuantGraph:
    """The integer network of `graph` at `allocation`.

    calibration: from `calibrate` of the same graph. rounded: from `round_network`, where several allocations share the
    work; without it the needed widths are rounded here. BudgetError when the allocation does not match the layers.
    """
    opts = options or QuantizeOptions()
    lowered = calibration.lowered
    if lowered.name != graph.name or lowered.input != graph.input.name:
        raise GraphError(f"calibration is of '{lowered.name}', but the graph is '{graph.name}'; calibrate this graph")
    check_allocation(lowered, allocation.bits)
    table = _rounded(calibration, allocation, opts) if rounded is None else rounded
    tensors = make_tensors(calibration)
    nodes: list[QNode] = []
    runner = _Runner(calibration, tensors) if opts.bias_correction else None
    for step in lowered.steps:
        if not isinstance(step, ConvStep):
            rest = (
                QConcat(step.name, step.inputs, step.output)
                if isinstance(step, ConcatStep)
                else make_pool(step, tensors)
            )
            if runner is not None:
                runner.run(rest)
            nodes.append(rest)
            continue
        bits = allocation.bits[step.name].astype(np.int8)
        codes, scale = table[step.name].pick(bits)
        if runner is None:
            nodes.append(make_conv(step, tensors, codes, bits, scale, step.bias.astype(np.float64)))
        else:
            nodes.append(runner.convolution(step, codes, bits, scale))
    return QuantGraph(graph.name, tensors, tuple(nodes), lowered.input, lowered.output)


def check_allocation(lowered: Lowered, bits: Mapping[str, Int8Array]) -> None:
    """BudgetError unless `bits` names exactly the layers with weights, one width per output channel."""
    for step in lowered.convs:
        if step.name not in bits:
            raise BudgetError(f"the allocation lacks layer '{step.name}'; it has: {', '.join(bits)}")
        if bits[step.name].shape != step.bias.shape:
            raise BudgetError(f"{step.name}: {bits[step.name].size} widths, but {step.bias.size} output channels")
    extra = bits.keys() - {step.name for step in lowered.convs}
    if extra:
        raise BudgetError(f"the allocation names '{sorted(extra)[0]}', which is no layer of '{lowered.name}'")


def make_tensors(calibration: Calibration) -> dict[str, QTensor]:
    """Every tensor with shape and quantizer."""
    return {
        name: QTensor(name, shape, calibration.activations[name].scale, calibration.activations[name].zero_point)
        for name, shape in calibration.lowered.shapes.items()
    }


def _rounded(calibration: Calibration, allocation: BitAllocation, opts: QuantizeOptions) -> dict[str, RoundedLayer]:
    used = tuple(sorted({int(b) for widths in allocation.bits.values() for b in np.unique(widths)}))
    if opts.method is Rounding.GPTQ:
        return round_network(calibration, opts.method, used)
    return nearest_table(calibration, used)


def _deviations(acc: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Standard deviation (Cout,) of the channels of sums (N, Cout, H, W), an image at a time."""
    mean = acc.mean(axis=(0, 2, 3), dtype=np.float64)
    squares = sum(np.square(image - mean[:, None, None]).sum(axis=(1, 2)) for image in acc)
    return np.asarray(np.sqrt(squares / (acc.size // acc.shape[1])))


class _Runner:
    """Makes and runs integer layers on the bias-correction images; tensors are freed after their last use."""

    def __init__(self, calibration: Calibration, tensors: dict[str, QTensor]) -> None:
        lowered = calibration.lowered
        shell = QuantGraph(lowered.name, tensors, (), lowered.input, lowered.output)
        self.calibration, self.tensors = calibration, tensors
        self.live = {lowered.input: quantize_input(shell, calibration.correction_images)}
        self.left: dict[str, int] = {}
        for step in lowered.steps:
            for name in step_inputs(step):
                self.left[name] = self.left.get(name, 0) + 1

    def convolution(self, step: ConvStep, codes: Int8Array, bits: Int8Array, scale: npt.NDArray[np.float64]) -> QConv:
        """The integer layer, run: its biases and scales keep the float layer's mean outputs and their deviations, and
        the scales of the last layer its slope."""
        calibration, source = self.calibration, self.tensors[step.input]
        acc = self._accumulate(step, codes.reshape(step.weight.shape))
        unit = source.scale * scale
        samples = output_samples(torch.from_numpy(acc)) * torch.from_numpy(unit)[:, None]
        deviations = _deviations(acc) * np.abs(unit)
        scale = scale * scale_factors(calibration, step.name, samples, deviations, acc.size // acc.shape[1])
        centred = acc.mean(axis=(0, 2, 3), dtype=np.float64) - source.zero_point * codes.sum(axis=1, dtype=np.int64)
        bias = calibration.output_means[step.name] - centred * source.scale * scale
        node = make_conv(step, self.tensors, codes, bits, scale, bias)
        self._finish(node, acc if np.array_equal(node.weight.reshape(codes.shape), codes) else None)
        return node

    def _accumulate(self, step: ConvStep, weight: Int8Array) -> npt.NDArray[np.int32]:
        """Sums without bias, (N, Cout, OH, OW)."""
        x, pad = self.live[step.input], self.tensors[step.input].zero_point
        convolve = exact_convolution(weight, step.stride, step.padding, pad, step.groups)
        return np.concatenate([convolve(x[i : i + 1]) for i in range(len(x))])

    def _finish(self, node: QConv, acc: npt.NDArray[np.int32] | None) -> None:
        """Codes of a layer from its sums (None: computed again, the weights changed)."""
        if acc is None:
            self.run(node)
            return
        residual = None if node.residual is None else self.live[node.residual]
        out = np.empty(acc.shape, dtype=np.int8)
        for i in range(len(acc)):
            rest = None if residual is None else residual[i]
            out[i] = requantize(acc[i] + node.bias.astype(np.int64)[:, None, None], node.requant, rest)
        self._store(node, out)

    def run(self, node: QNode) -> None:
        """Codes of any node."""
        if isinstance(node, QConcat):
            self._store(node, np.concatenate([self.live[x] for x in node.inputs], axis=1))
            return
        residual = None if node.residual is None else self.live[node.residual]
        zero = self.tensors[node.input].zero_point
        self._store(node, run_node(node, self.live[node.input], zero, residual))

    def _store(self, node: QNode, out: Int8Array) -> None:
        for name in node_inputs(node):
            self.left[name] -= 1
            if not self.left[name]:
                del self.live[name]
        if self.left.get(node.output):
            self.live[node.output] = out
