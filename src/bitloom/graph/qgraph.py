"""The integer graph: what the accelerator computes, exactly (docs/spec/arithmetic.md)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bitloom.graph.ir import Pads
from bitloom.numerics.requantize import Requant

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True)
class QTensor:
    """An activation tensor: shape (C, H, W), codes int8 in [-127, 127], value = (code - zero_point)*scale."""

    name: str
    shape: tuple[int, int, int]
    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class QConv:
    """Convolution or fully connected layer (kernel = the whole map, no padding), with optional residual input.

    weight: int8 codes (Cout, Cin / groups, KH, KW); bits: (Cout,) in 0..8 (1: codes -1 and 1); bias: int32 (Cout,),
    input zero point absorbed; weight_scale: float64 (Cout,), below 0 for a row whose codes are turned; for reports and
    export only. groups: as in `ir.Conv`.
    """

    name: str
    input: str
    output: str
    weight: Int8Array
    bits: Int8Array
    bias: Int32Array
    weight_scale: npt.NDArray[np.float64]
    stride: tuple[int, int]
    padding: Pads
    requant: Requant
    residual: str | None = None
    groups: int = 1


@dataclass(frozen=True, eq=False)
class QPool:
    """Maximum or sum over a window, optional residual input. A 1×1 maximum with residual is a lone addition.

    Windows may hang over bottom and right (ceil mode): `padding` then holds the real overhang. Maximum: outside is
    ignored; sum: outside reads the input's zero point. bias is added to the maximum or the sum.
    """

    name: str
    input: str
    output: str
    maximum: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads
    bias: int
    requant: Requant
    residual: str | None = None


@dataclass(frozen=True)
class QConcat:
    """Concatenation by address: all inputs and the output share scale and zero point."""

    name: str
    inputs: tuple[str, ...]
    output: str


QNode = QConv | QPool | QConcat


def node_inputs(node: QNode) -> tuple[str, ...]:
    """Names of the tensors that a node reads."""
    if isinstance(node, QConcat):
        return node.inputs
    return (node.input,) if node.residual is None else (node.input, node.residual)


@dataclass(frozen=True, eq=False)
class QuantGraph:
    """Integer network: tensors by name, nodes in order; the output tensor holds the logits, (classes, 1, 1)."""

    name: str
    tensors: dict[str, QTensor]
    nodes: tuple[QNode, ...]
    input: str
    output: str
