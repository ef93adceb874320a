"""ONNX files into a Graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import ModelProto, NodeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from bitloom.errors import GraphError
from bitloom.frontends.advice import explain
from bitloom.frontends.assemble import assemble
from bitloom.frontends.draft import Draft, Reshape
from bitloom.frontends.onnx_layout import (
    ELEMENTWISE,
    NHWC,
    Axes,
    Columns,
    Order,
    image_is_nhwc,
    inner_node,
    same_order,
)
from bitloom.frontends.onnx_ops import HANDLERS, RESHAPES, Handler, reshaped
from bitloom.frontends.onnx_quant import QDQ, QUANTIZERS, is_qonnx, quantized_constant, rounding_remark
from bitloom.frontends.onnx_reader import Array, Reader, behind
from bitloom.graph.ir import Graph, Input, Shape

_OLDEST_OPSET = 7
_EVALUATED_QDQ = 19  #: the oldest opset whose QuantizeLinear and DequantizeLinear the onnx package's evaluator knows


def from_onnx(model: str | Path | ModelProto) -> Graph:
    """The verified float Graph of an ONNX model with one image input (N, C, H, W); N may be dynamic or any number.

    An image (N, H, W, C) that the model turns to (N, C, H, W) itself is taken as (C, H, W), and so are maps between
    such turns. Raises UnsupportedLayerError listing every unsupported node, GraphError for a file that cannot be
    read, an opset before 7, another dynamic dimension, or several inputs or outputs, WeightsError on NaN or infinite
    weights.
    """
    return assemble(*draft_onnx(model))


def draft_onnx(model: str | Path | ModelProto) -> tuple[Draft, str]:
    """What `from_onnx` reads before folding, and the name of the output; raises as it does, but for single nodes."""
    proto = model if isinstance(model, ModelProto) else _read(Path(model))
    name = Path(model).stem if not isinstance(model, ModelProto) else proto.graph.name or "model"
    return _Walk(onnx.inliner.inline_local_functions(proto) if proto.functions else proto, name).run()


def _read(path: Path) -> ModelProto:
    if not path.is_file():
        raise GraphError(f"ONNX file '{path}' does not exist")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf, the checker and external data raise unrelated types
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise GraphError(f"ONNX file '{path}' cannot be read: {line}; export it again") from error
    return model


class _Walk:
    """Reads the nodes from top to bottom; what depends on constants only is computed on the way."""

    def __init__(self, model: ModelProto, name: str) -> None:
        self.model = model
        self.draft = Draft(name)
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.tensors: dict[str, str] = {}
        self.orders: dict[str, Order] = {}  #: of the tensors whose axes are not in the draft's order
        versions = (o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
        self.opset = next(versions, _OLDEST_OPSET)
        self.batch = 1
        self.known: dict[str, Shape] = {}

    def run(self) -> tuple[Draft, str]:
        """The filled draft and its output."""
        graph = self.model.graph
        if self.opset < _OLDEST_OPSET:
            raise GraphError(
                f"model '{self.draft.name}' is of opset {self.opset}, whose operators broadcast in another way; the "
                f"oldest that can be read is {_OLDEST_OPSET}: convert it "
                "(onnx.version_converter.convert_version(model, 13))"
            )
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise GraphError(
                f"model '{self.draft.name}' has inputs ({', '.join(v.name for v in inputs)}) and outputs "
                f"({', '.join(v.name for v in graph.output)}), must have one image and one tensor of logits"
            )
        image = inputs[0].name
        shape = self._image_shape(inputs[0])
        self.known = self._inferred()
        if image_is_nhwc(graph, image):
            self.orders[image] = Axes(NHWC)
            shape = Axes(NHWC).inner(shape)
        self.tensors[image] = self.draft.add("input", Input(shape))
        for node in graph.node:
            self._node(node)
        output = self.tensors.get(graph.output[0].name)
        if output is None:
            raise GraphError(f"model '{self.draft.name}': output '{graph.output[0].name}' does not depend on the image")
        self._check_classes(graph.output[0].name, output)
        self.draft.remarks += rounding_remark(self.draft.rounded)
        return self.draft, output

    def _check_classes(self, name: str, output: str) -> None:
        """GraphError where the order of the classes would not be the file's."""
        order, shape = self.orders.get(name), self.draft.shapes[output]
        if isinstance(order, Columns) or (isinstance(order, Axes) and shape is not None and order.flattened(shape)):
            raise GraphError(
                f"model '{self.draft.name}': output '{name}' has its axes in another order than (N, C, H, W); end with "
                "one tensor of logits (N, classes)"
            )

    def _image_shape(self, value: Any) -> Shape:
        dims = list(value.type.tensor_type.shape.dim)
        if len(dims) != 4:
            raise GraphError(f"input '{value.name}' has {len(dims)} dimensions, must be an image (N, C, H, W)")
        for axis, dim in zip("CHW", dims[1:], strict=True):
            if not dim.HasField("dim_value") or dim.dim_value < 1:
                raise GraphError(
                    f"input '{value.name}': dimension {axis} is dynamic ('{dim.dim_param or '?'}'); export with a "
                    "fixed size, only the batch may be dynamic"
                )
        self.batch = max(1, int(dims[0].dim_value))
        return tuple(int(dim.dim_value) for dim in dims[1:])

    def _inferred(self) -> dict[str, Shape]:
        """Shapes without batch, as far as the onnx package knows them: for what is read behind an unsupported node."""
        try:
            graph = onnx.shape_inference.infer_shapes(self.model).graph
        except Exception:  # a model of more than 2 GB, or an operator that it does not know
            return {}
        found = {}
        for value in (*graph.value_info, *graph.output):
            first, *rest = list(value.type.tensor_type.shape.dim) or [None]
            batch = first is not None and (not first.HasField("dim_value") or first.dim_value == self.batch)
            if batch and rest and all(dim.dim_value > 0 for dim in rest):
                found[value.name] = tuple(int(dim.dim_value) for dim in rest)
        return found

    def _node(self, node: NodeProto) -> None:
        control = any(a.type == onnx.AttributeProto.GRAPH for a in node.attribute)  # may read tensors from outside
        if all(x in self.constants for x in node.input if x) and not control:
            self._compute(node)
            return
        plain = node.domain in ("", "ai.onnx")
        if node.op_type == "Shape" and plain:
            shape = self._outer_shape(node)
            if shape is not None:
                self.constants[node.output[0]] = shape
                return
        order = next((self.orders[x] for x in node.input if x in self.orders), None)
        reader = self._reader(node, self.constants)
        handlers = HANDLERS | QDQ if plain else QUANTIZERS if is_qonnx(node) else {}
        handler = handlers.get(node.op_type)
        if node.op_type == "Transpose" and plain:
            result, order = self._transpose(reader)
        elif order is not None:
            result, order = self._ordered(reader, order, handler)
        elif handler is None:
            result = self._refused(reader)
        else:
            result = handler(reader)
        if order is not None:
            self.orders[node.output[0]] = order
        for index, output in enumerate(node.output):
            if output and index == 0:
                self.tensors[output] = result
            elif output:
                self.tensors[output] = reader.second(output, result)

    def _reader(self, node: NodeProto, constants: dict[str, Array]) -> Reader:
        return Reader(node, self._name(node), constants, self.tensors, self.draft, self.batch, self.known)

    def _refused(self, reader: Reader) -> str:
        plain = reader.node.domain in ("", "ai.onnx")
        reason, advice = explain(reader.node.op_type if plain else "")
        return reader.unsupported(reason if plain else f"is of the domain '{reader.node.domain}'", advice)

    def _outer_shape(self, node: NodeProto) -> Array | None:
        """The constant that a Shape node stands for, in the file's own order of axes, batch 1."""
        shape, order = self.draft.shapes[self.tensors[node.input[0]]], self.orders.get(node.input[0])
        if shape is None:
            return None
        given = {a.name: int(a.i) for a in node.attribute}
        full = np.array((1, *(order.outer(shape) if isinstance(order, Axes) else shape)), np.int64)
        return full[given.get("start", 0) : given.get("end", full.size)]

    def _transpose(self, r: Reader) -> tuple[str, Order | None]:
        order, shape = self.orders.get(r.node.input[0]), r.shape
        if shape is None:
            return behind(r), None
        perm = r.attribute("perm", ())
        if isinstance(order, Columns) or len(shape) != 3 or len(perm) != 4 or perm[0] != 0:
            return self._refused(r), None
        return r.names[0], (order or Axes((0, 1, 2, 3))).then(perm)

    def _ordered(self, r: Reader, order: Order, handler: Handler | None) -> tuple[str, Order | None]:
        """A node that reads tensors in another order of axes than the draft's, and the order of what it makes."""
        mine = [x for x in r.node.input if x in self.tensors]
        if any(self.draft.shapes[self.tensors[x]] is None for x in mine):
            return behind(r), None
        given = {x: self.constants[x] for x in r.node.input if x in self.constants}
        alike = all(same_order(self.orders.get(x), order) for x in mine)
        if isinstance(order, Axes):
            r = replace(r, known=self._inner_known(r.node.output[0], order))
            if r.node.op_type in RESHAPES:
                return self._reshape_ordered(r, order)
        rewritten = inner_node(r.node, order, given) if alike and handler else None
        if handler is None:
            result = self._refused(r)
        elif rewritten is None:
            what = "a map as (N, H, W, C)" if isinstance(order, Axes) else "a map flattened in the order (H, W, C)"
            result = r.unsupported(f"reads {what}", explain("transpose")[1])
        else:
            result = handler(replace(r, node=rewritten[0], constants=self.constants | rewritten[1]))
        shape = self.draft.shapes[result]
        stays = len(shape or (0, 0, 0)) == 3 if isinstance(order, Axes) else r.node.op_type in ELEMENTWISE
        return result, order if stays else None

    def _reshape_ordered(self, r: Reader, order: Axes) -> tuple[str, Order | None]:
        shape = r.shape or ()
        outer = order.outer(shape)
        target = reshaped(r, outer)
        if target == outer:
            return r.names[0], order
        if not isinstance(target, str) and len(target) == 1:
            return r.add(Reshape(target)), order.flattened(shape)
        reason = target if isinstance(target, str) else f"reshapes {outer} to {target}"
        return r.unsupported(reason, "only flattening to (N, -1) can be expressed"), None

    def _inner_known(self, output: str, order: Axes) -> dict[str, Shape]:
        known = self.known.get(output)
        return {} if known is None else {output: order.inner(known) if len(known) == 3 else known}

    def _compute(self, node: NodeProto) -> None:
        values = {x: self.constants[x] for x in node.input if x}
        if is_qonnx(node):
            self.constants[node.output[0]] = quantized_constant(node, self._name(node), values)
            return
        graph = onnx.helper.make_graph(
            [node],
            "constant",
            [
                onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                for k, v in values.items()
            ],
            [onnx.helper.make_empty_tensor_value_info(x) for x in node.output if x],
        )
        opsets = list(self.model.opset_import)
        if node.op_type in QDQ and self.opset < _EVALUATED_QDQ:  # which evaluates no older one; it means the same
            opsets = [onnx.helper.make_opsetid("", _EVALUATED_QDQ)]
        model = onnx.helper.make_model(graph, opset_imports=opsets)
        try:
            results = ReferenceEvaluator(model).run(None, values)
        except Exception as error:  # the evaluator raises whatever numpy does
            raise GraphError(f"'{node.name or node.output[0]}' ({node.op_type}) cannot be computed: {error}") from error
        names = [x for x in node.output if x]
        self.constants |= {x: np.asarray(value) for x, value in zip(names, results, strict=True)}

    def _name(self, node: NodeProto) -> str:
        """The weight's name without '.weight' where there is one, else the node's, else its output's."""
        for x in node.input:
            if x in self.constants and x.endswith(".weight"):
                return str(x).removesuffix(".weight")
        return str(node.name or node.output[0]).strip("/").replace("/", ".")
