"""Checkpoints of a fine-tuning: everything that the next step depends on, written so that none is ever half a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from torch import nn

from bitloom.errors import DataError, OutputError


def save_checkpoint(
    path: Path, identity: str, step: int, losses: list[float], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Writes `path` by renaming a finished file. Raises OutputError when that fails."""
    content = {
        "identity": hashlib.sha256(identity.encode()).hexdigest(),
        "step": step,
        "losses": losses,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, temporary)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: the checkpoint cannot be written ({error}); choose another file") from None


def load_checkpoint(
    path: Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, list[float]]:
    """Step and losses so far; model and optimizer are set. DataError: unreadable, or of another run."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        same = content["identity"] == hashlib.sha256(identity.encode()).hexdigest()
    except Exception as error:
        raise DataError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); delete it to begin again"
        ) from None
    if not same:
        raise DataError(f"{path}: a checkpoint of other options, images or another network; delete it to begin again")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"]), list(content["losses"])
