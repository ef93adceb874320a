"""Weights from files, without ever running code from them."""

from __future__ import annotations

import difflib
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from bitloom.errors import WeightsError
from bitloom.graph.verify import check_finite

_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".th")
_COUNTER = "num_batches_tracked"  # of batch normalization; inference does not need it


def load_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Tensors by key from .safetensors, .npz, .pth, .pt or .th.

    A dict under 'state_dict' or 'model' is unwrapped, and a 'module.' in front of every key removed. Raises
    WeightsError when the file is missing, truncated, of another type, or holds anything but tensors (pickled code is
    never run).
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"weights file '{path}' does not exist; give a path ending in {', '.join(_SUFFIXES)}")
    if path.suffix not in _SUFFIXES:
        raise WeightsError(f"weights file '{path}' ends in '{path.suffix}'; legal: {', '.join(_SUFFIXES)}")
    try:
        raw = _read(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"weights file '{path}' was refused: it is damaged or holds Python objects other than tensors; "
            f"save the state_dict alone, as .safetensors ({_refused(error)})"
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, zipfile.BadZipFile, SafetensorError) as error:
        raise WeightsError(
            f"weights file '{path}' cannot be read, it may be truncated; copy it again ({_first_line(error)})"
        ) from error
    return _strip(path, _unwrap(path, raw))


def load_into(module: nn.Module, path: str | Path) -> None:
    """Loads a weights file into `module`, which may be on the meta device; floats are cast to the module's type.

    Every key must match, `num_batches_tracked` apart. Raises WeightsError naming the first key that is missing (with
    the nearest key of the file), unexpected, of another shape, or not finite.
    """
    assign_tensors(module, load_state_dict(path), path)


def assign_tensors(module: nn.Module, given: dict[str, Tensor], path: str | Path) -> None:
    """`load_into` with tensors that were read already; `path` is for errors only."""
    wanted = module.state_dict()
    missing = [key for key in wanted if key not in given and not key.endswith(_COUNTER)]
    unexpected = [key for key in given if key not in wanted and not key.endswith(_COUNTER)]
    if missing:
        raise WeightsError(
            f"weights file '{path}' lacks '{missing[0]}' {tuple(wanted[missing[0]].shape)}"
            f"{_nearest(missing[0], unexpected or given, given)} "
            f"({len(missing)} keys missing, {len(unexpected)} unexpected)"
        )
    if unexpected:
        raise WeightsError(
            f"weights file '{path}' has '{unexpected[0]}' {tuple(given[unexpected[0]].shape)}, which the model lacks"
            f"{_nearest(unexpected[0], wanted, wanted)} ({len(unexpected)} keys unexpected)"
        )
    loaded: dict[str, Tensor] = {}
    for key, own in wanted.items():
        value = given.get(key, torch.zeros(own.shape, dtype=own.dtype))
        if value.shape != own.shape:
            hint = "is the number of classes right?" if value.shape[1:] == own.shape[1:] else "is it the same network?"
            raise WeightsError(
                f"weights file '{path}': '{key}' has shape {tuple(value.shape)}, but the model needs {tuple(own.shape)}"
                f"; {hint}"
            )
        loaded[key] = value.to(own.dtype)
        check_finite(key, "weights", loaded[key].to(torch.float64 if own.is_floating_point() else own.dtype).numpy())
    module.load_state_dict(loaded, assign=any(own.is_meta for own in wanted.values()))


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {key: torch.from_numpy(archive[key]) for key in archive.files}
    return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(path: Path, raw: object) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
    if not isinstance(raw, Mapping) or not raw:
        raise WeightsError(f"weights file '{path}' holds {type(raw).__name__}, must be a dict of tensors by key")
    for key, value in raw.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"weights file '{path}': {key!r} is a {type(value).__name__}, must be a tensor")
    return dict(raw)


def _strip(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if all(key.startswith("module.") for key in tensors):
        return {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def _nearest(key: str, candidates: Mapping[str, Tensor] | list[str], shapes: Mapping[str, Tensor]) -> str:
    close = difflib.get_close_matches(key, list(candidates), n=1, cutoff=0.0)
    return f"; nearest: '{close[0]}' {tuple(shapes[close[0]].shape)}" if close else ""


def _refused(error: Exception) -> str:
    """What kind of object the file holds; PyTorch's own text speaks of it behind advice to trust the file."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"it holds {found[1]}" if found else _first_line(error)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
