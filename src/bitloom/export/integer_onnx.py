"""The integer network as a plain ONNX file that any runtime computes to the same codes, bit for bit.

Sums are ConvInteger; requantization (docs/spec/arithmetic.md) is in float64, where every value of it is a whole number
below 2^53 over a power of two, so that nothing rounds but Floor. Widths stand in the file's metadata.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from bitloom import __version__
from bitloom.errors import OutputError
from bitloom.graph.ir import Pads
from bitloom.graph.qgraph import QConcat, QConv, QPool, QTensor, QuantGraph
from bitloom.numerics.requantize import FRACTION_BITS, SHIFTS, Requant

_OPSET, _IR_VERSION = 13, 8
_OFFSET = 128  #: a code as uint8, as ConvInteger of every runtime takes it: code + 128


def save_onnx(qgraph: QuantGraph, path: Path) -> None:
    """Writes `integer_onnx(qgraph)`; OutputError when the file cannot be written."""
    try:
        path.write_bytes(integer_onnx(qgraph).SerializeToString())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose a writable folder") from None


def integer_onnx(qgraph: QuantGraph) -> ModelProto:
    """A checked model from `image`, normalised float32 (N, C, H, W), to `codes` int8 and `logits` float32 (N, classes).

    `codes` are those of the integer reference and of the hardware, `logits` their values. Metadata: `bits`, JSON of
    layer -> width of every output channel; `scale` and `zero_point` of the codes.
    """
    writer = _Writer()
    writer.image(qgraph.tensors[qgraph.input])
    for node in qgraph.nodes:
        if isinstance(node, QConcat):
            writer.add("Concat", [*node.inputs], node.output, axis=1)
        else:
            writer.layer(node, qgraph)
    source, (classes, *_) = qgraph.tensors[qgraph.output], qgraph.tensors[qgraph.output].shape
    writer.result(source)
    channels, height, width = qgraph.tensors[qgraph.input].shape
    graph = helper.make_graph(
        writer.nodes,
        qgraph.name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("n", channels, height, width))],
        [
            helper.make_tensor_value_info("codes", TensorProto.INT8, ("n", classes)),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("n", classes)),
        ],
        writer.constants,
    )
    opsets = [helper.make_opsetid("", _OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="bitloom")
    model.producer_version = __version__
    bits = {node.name: node.bits.tolist() for node in qgraph.nodes if isinstance(node, QConv)}
    facts = {"bits": json.dumps(bits), "scale": repr(source.scale), "zero_point": str(source.zero_point)}
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    return model


@dataclass
class _Writer:
    """Nodes in order. A tensor of the network is float64 codes under its own name, prefixed."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Appends a node of network tensors or names made here; `output`: a network tensor, '' for a new name."""
        made = _tensor(output) if output else f"{kind}.{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [_tensor(x) for x in inputs], [made], name=made, **attributes))
        return f"={made}"

    def constant(self, value: npt.NDArray[Any]) -> str:
        """A new initializer's name."""
        name = f"constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return f"={name}"

    def number(self, value: float) -> str:
        """A float64 scalar."""
        return self.constant(np.array(value, np.float64))

    def image(self, tensor: QTensor) -> None:
        """Codes of the image: round half up to the levels, clamped."""
        real = self.add("Cast", ["=image"], to=TensorProto.DOUBLE)
        steps = self._rounded(self.add("Div", [real, self.number(tensor.scale)]))
        codes = self.add("Add", [steps, self.number(tensor.zero_point)])
        self._clip(codes, -127, 127, tensor.name)

    def layer(self, node: QConv | QPool, qgraph: QuantGraph) -> None:
        """acc, then requantization."""
        zero = qgraph.tensors[node.input].zero_point
        if isinstance(node, QPool) and node.maximum:
            acc = self._maximum(node)
            bias = np.array([node.bias], np.int64)
        elif isinstance(node, QPool):
            count = qgraph.tensors[node.input].shape[0]
            ones = np.ones((count, 1, *node.kernel), np.int8)
            acc = self._sum(node.input, zero, ones, count, node.stride, node.padding)
            bias = np.array([node.bias + zero * node.kernel[0] * node.kernel[1]], np.int64)
        else:
            acc = self._sum(node.input, zero, node.weight, node.groups, node.stride, node.padding)
            sums = node.weight.reshape(len(node.weight), -1).sum(axis=1, dtype=np.int64)
            bias = node.bias.astype(np.int64) + zero * sums
        acc = self.add("Add", [acc, self.constant(_column(bias))])
        self._requantize(acc, node.requant, node.residual, node.output)

    def result(self, tensor: QTensor) -> None:
        """The outputs of the model."""
        flat = self.add("Flatten", [tensor.name])
        self.nodes.append(helper.make_node("Cast", [_tensor(flat)], ["codes"], name="codes", to=TensorProto.INT8))
        shifted = self.add("Sub", [flat, self.number(tensor.zero_point)])
        real = self.add("Mul", [shifted, self.number(tensor.scale)])
        self.nodes.append(helper.make_node("Cast", [_tensor(real)], ["logits"], name="logits", to=TensorProto.FLOAT))

    def _sum(
        self, x: str, zero: int, weight: npt.NDArray[np.int8], groups: int, stride: tuple[int, int], pads: Pads
    ) -> str:
        """Sum of w·(a - zero), float64; outside the image a is `zero`."""
        top, bottom, left, right = pads
        raised = self.add("Cast", [self.add("Add", [x, self.number(_OFFSET)])], to=TensorProto.UINT8)
        given = [raised, self.constant(weight), self.constant(np.array(zero + _OFFSET, np.uint8))]
        total = self.add(
            "ConvInteger", given, group=groups, strides=list(stride), pads=[top, left, bottom, right],
            kernel_shape=list(weight.shape[2:]),
        )  # fmt: skip
        return self.add("Cast", [total], to=TensorProto.DOUBLE)

    def _maximum(self, node: QPool) -> str:
        if node.kernel == (1, 1) and node.stride == (1, 1) and not any(node.padding):
            return node.input
        top, bottom, left, right = node.padding
        pads = [top, left, bottom, right]
        return self.add("MaxPool", [node.input], kernel_shape=list(node.kernel), strides=list(node.stride), pads=pads)

    def _requantize(self, acc: str, requant: Requant, residual: str | None, output: str) -> None:
        if requant.pre.any():
            scaled = self.add("Mul", [acc, self.constant(_column(16.0 ** -requant.pre.astype(np.float64)))])
            acc = self.add("Floor", [scaled])
        shift = np.asarray(SHIFTS, np.float64)[requant.s_sel]
        fine = self._rounded(self.add("Mul", [acc, self.constant(_column(requant.mult * 2.0**-shift))]))
        if residual is not None:
            fine = self.add("Add", [fine, self.add("Mul", [residual, self.number(requant.res_mult)])])
        total = self.add("Add", [fine, self.number(requant.post)])
        codes = self._rounded(self.add("Mul", [total, self.number(2.0**-FRACTION_BITS)]))
        self._clip(codes, requant.lo, requant.hi, output)

    def _rounded(self, x: str) -> str:
        """Half up."""
        return self.add("Floor", [self.add("Add", [x, self.number(0.5)])])

    def _clip(self, x: str, low: int, high: int, output: str) -> None:
        self.add("Clip", [x, self.number(low), self.number(high)], output)


def _tensor(name: str) -> str:
    """The file's name of a tensor of the network, or ('=...') of one made here."""
    return name[1:] if name.startswith("=") else f"tensor.{name}"


def _column(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """One value a channel, beside (N, C, H, W)."""
    return values.astype(np.float64).reshape(1, -1, 1, 1)
