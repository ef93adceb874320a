"""What a user types about images, and what the zoo knows of its networks, as one `Preprocess`."""

from __future__ import annotations

import math

from bitloom import zoo
from bitloom.data.images import Preprocess
from bitloom.errors import DataError, GraphError
from bitloom.graph.ir import Graph, Input, Shape


def parse_shape(text: str) -> Shape:
    """'3x224x224' -> (3, 224, 224). Raises GraphError."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise GraphError(f"shape '{text}' must be CHANNELSxHEIGHTxWIDTH, for example 3x224x224")
    channels, height, width = (int(p) for p in parts)
    return channels, height, width


def preprocess_for(
    model: str, graph: Graph, mean: str | None = None, std: str | None = None, resize: int | None = None
) -> Preprocess:
    """How images become tensors for `graph`.

    model: what the user called it; a network of the zoo brings its own mean and std (of pixels in [0, 1]) and, at
    224 pixels, ImageNet's resizing of the shorter side to 256. Every other model needs mean and std: figures with
    commas, one a channel or one for all. resize: shorter side before the centre crop, 0 for none. Raises DataError.
    """
    op = graph.input.op
    assert isinstance(op, Input)
    channels, height, width = op.shape
    info = zoo.info(model) if model in zoo.NAMES else None
    if info is None and (mean is None or std is None):
        raise DataError(
            f"'{model}' does not say how its images are normalised; give --mean and --std of pixels in [0, 1], for "
            "example --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (or --mean 0 --std 1 for none)"
        )
    known_mean, known_std = (info.mean, info.std) if info else ((), ())
    if resize is not None and resize < 0:
        raise DataError(f"resize = {resize} pixels; legal: 0 (none) or more")
    side = 256 if info is not None and height == 224 else 0
    return Preprocess(
        (channels, height, width),
        known_mean if mean is None else _figures("mean", mean, channels),
        known_std if std is None else _figures("std", std, channels),
        side if resize is None else resize,
    )


def _figures(name: str, text: str, channels: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise DataError(f"{name} '{text}' must be figures with commas, for example 0.485,0.456,0.406") from None
    if len(values) == 1:
        values *= channels
    if len(values) != channels:
        raise DataError(f"{name} '{text}' has {len(values)} figures, but the images have {channels} channels")
    if not all(math.isfinite(value) for value in values):
        raise DataError(f"{name} '{text}' must be finite in every channel")
    if name == "std" and min(values) <= 0:
        raise DataError(f"std '{text}' must be above 0 in every channel")
    return values
