"""An integer network of the right shapes and widths without data: for planning and exploring."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import Int8Array, QConcat, QConv, QNode, QPool, QTensor, QuantGraph
from bitloom.numerics.requantize import Requant
from bitloom.quantize.lower import ConcatStep, ConvStep, lower
from bitloom.quantize.quantize import check_allocation


def skeleton(graph: Graph, bits: Mapping[str, Int8Array]) -> QuantGraph:
    """The nodes that `quantize` would make, weights as zero-stride arrays of zeros, every scale 1 and zero point 0.

    bits: layer name -> (Cout,) widths (a BitAllocation's `bits`). Raises BudgetError when they do not match the layers.
    """
    lowered = lower(graph)
    check_allocation(lowered, bits)
    tensors = {name: QTensor(name, shape, 1.0, 0) for name, shape in lowered.shapes.items()}
    nodes: list[QNode] = []
    for step in lowered.steps:
        if isinstance(step, ConcatStep):
            nodes.append(QConcat(step.name, step.inputs, step.output))
            continue
        channels = step.bias.size if isinstance(step, ConvStep) else 1
        residual_mult = 0 if step.residual is None else 4096
        zeros = np.zeros(channels, np.int8)
        lo = 0 if step.relu is not None else -127
        requant = Requant(np.full(channels, 1 << 16, np.int32), zeros, zeros, 0, lo, 127, residual_mult)
        if isinstance(step, ConvStep):
            weight = np.broadcast_to(np.zeros(1, np.int8), step.weight.shape)
            widths, bias = bits[step.name].astype(np.int8), np.zeros(channels, np.int32)
            shape = (step.stride, step.padding)
            params = (weight, widths, bias, np.ones(channels))
            of_step = (step.residual, step.groups)
            nodes.append(QConv(step.name, step.input, step.output, *params, *shape, requant, *of_step))
        else:
            window = (step.maximum, step.kernel, step.stride, step.padding)
            nodes.append(QPool(step.name, step.input, step.output, *window, 0, requant, step.residual))
    return QuantGraph(graph.name, tensors, tuple(nodes), lowered.input, lowered.output)
