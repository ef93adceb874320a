"""Everything that stands between a model and the accelerator, in one list."""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto
from torch import nn

from bitloom.errors import GraphError, UnsupportedLayerError
from bitloom.frontends.assemble import resolve
from bitloom.frontends.draft import Draft
from bitloom.frontends.findings import Finding, Severity
from bitloom.frontends.limits import accelerator_findings, limit_findings
from bitloom.frontends.onnx_import import draft_onnx
from bitloom.frontends.torch_export import draft_torch
from bitloom.graph.ir import Graph, Shape


def check(
    model: nn.Module | ModelProto | str | Path, image_shape: Shape | None = None, name: str = "model"
) -> tuple[Finding, ...]:
    """Every unsupported layer at once, warnings, and a summary where the model can be imported.

    model: a module (image_shape is then needed) or an ONNX file or model. Raises GraphError where the model does not
    run at all, WeightsError on weights that are not finite.
    """
    try:
        return inspect(*open_draft(model, image_shape, name))[1]
    except UnsupportedLayerError as error:
        return (Finding(Severity.UNSUPPORTED, name, "model", str(error), ""),)


def open_draft(model: nn.Module | ModelProto | str | Path, image_shape: Shape | None, name: str) -> tuple[Draft, str]:
    """The draft of a module or ONNX model and its output's name; raises GraphError, UnsupportedLayerError."""
    if not isinstance(model, nn.Module):
        draft, output = draft_onnx(model)
        own = draft.shapes[draft.layers[0].name]
        if image_shape is not None and tuple(image_shape) != own:
            raise GraphError(
                f"model '{draft.name}' takes images of {own}, not {tuple(image_shape)}; leave image_shape (--shape) out"
            )
        return draft, output
    if image_shape is None:
        raise GraphError(f"model '{name}' is a module: give image_shape, for example (3, 224, 224) (--shape 3x224x224)")
    return draft_torch(model, image_shape, name)


def inspect(draft: Draft, output: str) -> tuple[Graph | None, tuple[Finding, ...]]:
    """The graph, or None where a layer cannot be read, and all findings."""
    resolved = resolve(draft, output)
    if resolved.graph is None:
        return None, (*resolved.findings, *limit_findings(resolved.readable))
    order = list(Severity)
    found = (*resolved.findings, *accelerator_findings(resolved.graph))
    return resolved.graph, tuple(sorted(found, key=lambda finding: order.index(finding.severity)))
