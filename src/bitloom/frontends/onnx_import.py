"""ONNX files into a Graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from bitloom.errors import GraphError
from bitloom.frontends.advice import explain
from bitloom.frontends.assemble import assemble
from bitloom.frontends.draft import Draft
from bitloom.frontends.onnx_ops import HANDLERS
from bitloom.frontends.onnx_reader import Array, Reader
from bitloom.graph.ir import Graph, Input, Shape


def from_onnx(model: str | Path | ModelProto) -> Graph:
    """The verified float Graph of an ONNX model with one image input (N, C, H, W); N may be dynamic or any number.

    Raises UnsupportedLayerError listing every unsupported node, GraphError for a file that cannot be read, another
    dynamic dimension, or several inputs or outputs, WeightsError on NaN or infinite weights.
    """
    return assemble(*draft_onnx(model))


def draft_onnx(model: str | Path | ModelProto) -> tuple[Draft, str]:
    """What `from_onnx` reads before folding, and the name of the output; raises as it does, but for single nodes."""
    proto = model if isinstance(model, ModelProto) else _read(Path(model))
    name = Path(model).stem if not isinstance(model, ModelProto) else proto.graph.name or "model"
    return _Walk(proto, name).run()


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
        self.batch = 1
        self.known: dict[str, Shape] = {}

    def run(self) -> tuple[Draft, str]:
        """The filled draft and its output."""
        graph = self.model.graph
        inputs = [value for value in graph.input if value.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise GraphError(
                f"model '{self.draft.name}' has inputs ({', '.join(v.name for v in inputs)}) and outputs "
                f"({', '.join(v.name for v in graph.output)}), must have one image and one tensor of logits"
            )
        shape = self._image_shape(inputs[0])
        self.known = self._inferred()
        self.tensors[inputs[0].name] = self.draft.add("input", Input(shape))
        for node in graph.node:
            self._node(node)
        output = self.tensors.get(graph.output[0].name)
        if output is None:
            raise GraphError(f"model '{self.draft.name}': output '{graph.output[0].name}' does not depend on the image")
        return self.draft, output

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
        given = [x for x in node.input if x]
        if all(x in self.constants for x in given):
            self._compute(node)
            return
        reader = Reader(node, self._name(node), self.constants, self.tensors, self.draft, self.batch, self.known)
        plain = node.domain in ("", "ai.onnx")
        handler = HANDLERS.get(node.op_type) if plain else None
        if node.op_type == "Shape" and plain:
            shape = reader.shape
            if shape is not None:
                self.constants[node.output[0]] = np.array((1, *shape), np.int64)
                return
        if handler is None:
            reason, advice = explain(node.op_type if plain else "")
            result = reader.unsupported(reason if plain else f"is of the domain '{node.domain}'", advice)
        else:
            result = handler(reader)
        for index, output in enumerate(node.output):
            if output and index == 0:
                self.tensors[output] = result
            elif output:
                self.tensors[output] = reader.second(output, result)

    def _compute(self, node: NodeProto) -> None:
        values = {x: self.constants[x] for x in node.input if x}
        graph = onnx.helper.make_graph(
            [node],
            "constant",
            [
                onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
                for k, v in values.items()
            ],
            [onnx.helper.make_empty_tensor_value_info(x) for x in node.output if x],
        )
        model = onnx.helper.make_model(graph, opset_imports=list(self.model.opset_import))
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
