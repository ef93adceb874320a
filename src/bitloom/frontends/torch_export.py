"""PyTorch modules through torch.export, into a Graph."""

from __future__ import annotations

import operator
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from bitloom.errors import GraphError, UnsupportedLayerError, WeightsError
from bitloom.frontends.advice import explain
from bitloom.frontends.assemble import assemble
from bitloom.frontends.draft import Draft, Unknown
from bitloom.frontends.torch_ops import HANDLERS
from bitloom.frontends.torch_reader import Reader
from bitloom.graph.ir import Graph, Input, Shape

_EXPORTING = threading.Lock()  #: torch.export takes one model at a time in a process
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def from_torch(module: nn.Module, image_shape: Shape, name: str = "model") -> Graph:
    """The verified float Graph of `module` in inference mode, for one image of shape (C, H, W).

    The module itself is left as it is. Raises UnsupportedLayerError listing every unsupported layer, GraphError when
    the module cannot run on such an image or does not return one tensor, WeightsError on NaN or infinite weights.
    """
    return assemble(*draft_torch(module, image_shape, name))


def draft_torch(module: nn.Module, image_shape: Shape, name: str) -> tuple[Draft, str]:
    """What `from_torch` reads before folding, and the name of the output; raises as it does, but for single layers."""
    shape = tuple(int(size) for size in image_shape)
    if len(shape) != 3 or min(shape) < 1:
        raise GraphError(f"image_shape {image_shape}, must be (C, H, W) of positive numbers")
    with _inference(module):
        program = _export(module, shape, name)
    draft = Draft(name)
    return draft, _Walk(program, draft, shape, dict(module.named_modules())).run()


@contextmanager
def _inference(module: nn.Module) -> Iterator[None]:
    modes = {child: child.training for child in module.modules()}
    with suppress(NotImplementedError):  # of a loaded torch.export program, whose mode was fixed at its export
        module.eval()
    try:
        yield
    finally:
        for child, training in modes.items():
            child.training = training


def _export(module: nn.Module, shape: Shape, name: str) -> ExportedProgram:
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedLayerError(f"model '{name}' is TorchScript; give the nn.Module that it was made of")
    first = next(module.parameters(), None)
    if first is not None and first.is_meta:
        raise WeightsError(f"model '{name}' is on the meta device and has no weights; load weights into it first")
    dtype, device = (torch.float32, None) if first is None else (first.dtype, first.device)
    image = torch.zeros((1, *shape), dtype=dtype, device=device)
    try:
        with torch.no_grad():
            result = module(image)
    except Exception as error:  # whatever the user's forward raises
        raise GraphError(
            f"model '{name}' fails on an image of shape {shape}: {error}; is image_shape (--shape) right?"
        ) from error
    if not isinstance(result, Tensor):
        raise GraphError(f"model '{name}' returns a {type(result).__name__}, must return one tensor of logits")
    try:
        with _EXPORTING, torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own, about its internals
            program: ExportedProgram = torch.export.export(module, (image,)).run_decompositions({})
            return program
    except Exception as error:  # torch.export raises many unrelated types
        raise UnsupportedLayerError(
            f"model '{name}' cannot be traced by torch.export; remove control flow that depends on the data "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''})"
        ) from error


class _Walk:
    """Reads the exported ATen graph from top to bottom."""

    def __init__(self, program: ExportedProgram, draft: Draft, shape: Shape, modules: dict[str, nn.Module]) -> None:
        self.program = program
        self.draft = draft
        self.shape = shape
        self.modules = modules
        self.values: dict[fx.Node, str | Tensor] = {}

    def run(self) -> str:
        """Fills the draft and returns the name of its output."""
        signature = self.program.graph_signature
        if len(signature.user_inputs) != 1 or len(signature.user_outputs) != 1:
            raise GraphError(
                f"model '{self.draft.name}' has {len(signature.user_inputs)} inputs and {len(signature.user_outputs)} "
                "outputs, must have one image and one tensor of logits"
            )
        parameters = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        parameters |= dict(signature.inputs_to_lifted_tensor_constants)
        output = ""
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in parameters:
                self.values[node] = self._constant(parameters[node.name])
            elif node.op == "placeholder":
                self.values[node] = self.draft.add("input", Input(self.shape))
            elif node.op == "get_attr":
                self.values[node] = self._constant(str(node.target))
            elif node.op == "call_function" and (node.users or "val" in node.meta):  # not an assertion
                self.values[node] = self._call(node)
            elif node.op == "output":
                result = self.values[node.args[0][0]]
                if isinstance(result, Tensor):
                    raise GraphError(
                        f"model '{self.draft.name}' returns a constant; its output must depend on the image"
                    )
                output = result
        return output

    def _constant(self, key: str) -> Tensor:
        tables: tuple[Any, ...] = (self.program.state_dict, self.program.constants)
        found = next(table[key] for table in tables if key in table)
        if not isinstance(found, Tensor):
            raise UnsupportedLayerError(f"model '{self.draft.name}': constant '{key}' is not a tensor")
        return found.detach().cpu()

    def _call(self, node: fx.Node) -> str | Tensor:
        if node.target is operator.getitem:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            if node.args[1] == 0 or _kind(source) not in HANDLERS:
                return self.values[source]
            return self.draft.add(node.name, _second_output(source), _names(self.values[source]))
        sources = [self.values[x] for x in node.all_input_nodes]
        if not any(isinstance(x, str) for x in sources):
            return self._fold(node)
        kind = _kind(node)
        reader = Reader(node, kind, self._name(node, kind), self.values, self.draft)
        handler = HANDLERS.get(kind)
        return reader.unsupported(*explain(kind)) if handler is None else handler(reader)

    def _fold(self, node: fx.Node) -> Tensor:
        """Computes an operation on constants now."""
        args = fx.map_arg(node.args, lambda x: self.values[x])
        kwargs = fx.map_arg(node.kwargs, lambda x: self.values[x])
        result = node.target(*args, **kwargs)  # type: ignore[operator]
        return result if isinstance(result, Tensor) else torch.as_tensor(result)

    def _name(self, node: fx.Node, kind: str) -> str:
        """The module's own path where a leaf module made the operation, else path.kind."""
        stack = node.meta.get("nn_module_stack") or {}
        path = next((str(entry[0]) for entry in reversed(stack.values())), "")
        module = self.modules.get(path)
        leaf = module is not None and path and not isinstance(module, _CONTAINERS) and not any(module.children())
        return path if leaf else f"{path}.{kind}".removeprefix(".")


def _kind(node: fx.Node) -> str:
    """The ATen operation without namespace and overload, for example conv2d."""
    return str(getattr(node.target, "overloadpacket", node.target)).removeprefix("aten.")


def _second_output(source: fx.Node) -> Unknown:
    return Unknown(_kind(source), "its second output is used", "use the first output only (no pooling indices)")


def _names(value: str | Tensor) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else ()
