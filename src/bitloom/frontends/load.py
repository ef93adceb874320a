"""A model from what a user types: a network of the zoo, an ONNX file, or a function of the user's own."""

from __future__ import annotations

import importlib
import sys
import sysconfig
import traceback
from pathlib import Path

import torch
from torch import Tensor, nn

from bitloom import zoo
from bitloom.errors import GraphError, UnsupportedLayerError
from bitloom.frontends.check import inspect, open_draft
from bitloom.frontends.draft import Draft
from bitloom.frontends.findings import Finding, Severity, raise_unsupported
from bitloom.frontends.weights import assign_tensors, load_into, load_state_dict
from bitloom.graph.ir import Graph, Shape

_SEED = 0


def load_model(spec: str, weights: str | None = None, image_shape: Shape | None = None) -> Graph:
    """The verified Graph of a model that the accelerator can run.

    spec: a name of `zoo.NAMES`; a path ending in .onnx; or 'package.module:callable', whose call without arguments
    returns an nn.Module (this imports and runs the user's own code; the working directory is searched first).
    weights: a file as `load_state_dict` reads; None keeps the model's own, for the zoo He-initialised from seed 0. The
    number of classes of a zoo network follows the file. image_shape: (C, H, W); needed for a callable, by default the
    zoo's own. Raises UnsupportedLayerError listing every layer that cannot run, GraphError, WeightsError.
    """
    return read_model(spec, weights, image_shape)[0]


def read_model(
    spec: str, weights: str | None = None, image_shape: Shape | None = None
) -> tuple[Graph, tuple[Finding, ...]]:
    """As `load_model`, with what there is to say about the model: warnings first, a summary last."""
    draft, output = _open(spec, weights, image_shape)
    graph, findings = inspect(draft, output)
    raise_unsupported(draft.name, findings)
    if graph is None:
        raise AssertionError("a model without unsupported layers makes a graph")
    return graph, findings


def check_model(spec: str, weights: str | None = None, image_shape: Shape | None = None) -> tuple[Finding, ...]:
    """Findings of `check` for a model given as to `load_model`."""
    try:
        return inspect(*_open(spec, weights, image_shape))[1]
    except UnsupportedLayerError as error:
        return (Finding(Severity.UNSUPPORTED, spec, "model", str(error), ""),)


def load_module(spec: str, weights: str | None = None) -> nn.Module:
    """The module behind a zoo name or 'package.module:callable', with weights loaded, in inference mode."""
    if spec in zoo.NAMES:
        return _zoo_module(spec, weights).eval()
    if ":" not in spec:
        raise GraphError(
            f"unknown model '{spec}'; legal: {', '.join(zoo.NAMES)}, a path ending in .onnx, or package.module:callable"
        )
    module = _call(spec)
    if weights is not None:
        load_into(module, weights)
    return module.eval()


def _open(spec: str, weights: str | None, image_shape: Shape | None) -> tuple[Draft, str]:
    if spec.endswith(".onnx"):
        if weights is not None:
            raise GraphError(f"'{spec}' holds its own weights; leave out '{weights}'")
        return open_draft(Path(spec), image_shape, Path(spec).stem)
    if image_shape is None and spec in zoo.NAMES:
        image_shape = zoo.info(spec).image_shape
    module = load_module(spec, weights)
    return open_draft(module, image_shape, spec.rpartition(":")[2])


def _zoo_module(name: str, weights: str | None) -> nn.Module:
    if weights is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            return zoo.build(name)
    tensors = load_state_dict(weights)
    with torch.device("meta"):
        module = zoo.build(name)
        classes = _classes(module, tensors)
        if classes is not None:
            module = zoo.build(name, classes)
    assign_tensors(module, tensors, weights)
    return module


def _classes(module: nn.Module, tensors: dict[str, Tensor]) -> int | None:
    """Classes of the file's last layer where they differ from the module's."""
    key, own = list(module.state_dict().items())[-1]
    given = tensors.get(key)
    return int(given.shape[0]) if given is not None and given.ndim == 1 and given.shape != own.shape else None


def _call(spec: str) -> nn.Module:
    package, _, attribute = spec.partition(":")
    file = Path(package)
    if file.suffix == ".py" or file.is_absolute() or len(file.parts) > 1:
        parts = file.with_suffix("").parts
        inside = not file.is_absolute() and ".." not in parts
        legal = f"{'.'.join(parts)}:{attribute}" if inside else f"{file.stem}:{attribute} in the folder '{file.parent}'"
        raise GraphError(f"model '{spec}' names a file, must name a module; give {legal}")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        module = getattr(importlib.import_module(package), attribute)()
    except Exception as error:  # whatever the user's own code raises
        where = _raised_in(error)
        if not where and isinstance(error, ImportError | AttributeError | SyntaxError):
            raise GraphError(f"model '{spec}' cannot be imported: {error}; give package.module:callable") from error
        raise GraphError(
            f"model '{spec}' raised {type(error).__name__}: {error}{where}; it must return an nn.Module when called "
            "without arguments"
        ) from error
    finally:
        if here in sys.path:
            sys.path.remove(here)
    if not isinstance(module, nn.Module):
        raise GraphError(f"model '{spec}' returned a {type(module).__name__}, must return an nn.Module")
    return module


def _raised_in(error: Exception) -> str:
    """' (file:line)' of the last line of the user's own code; '' where the error came before any of it ran."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    foreign = ("<frozen ", sysconfig.get_path("stdlib"))
    own = [f for f in frames if not f.filename.startswith(foreign) and "site-packages" not in f.filename]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
