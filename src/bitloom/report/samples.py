"""Pictures of the simulated images, small enough to live inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

EDGE = 96  #: longest side of a thumbnail in pixels; smaller images keep their size
MOST = 24  #: pictures on a page


def sample_rows(images: Tensor, labels: npt.NDArray[np.int64] | None, classes: Sequence[int]) -> list[dict[str, Any]]:
    """One row an image, at most MOST: picture (a data URI), label (None when unknown) and the simulated class.

    images: float (N, 1 or 3, H, W) in any normalisation; the contrast of a picture is stretched to its own range.
    """
    rows = []
    for i, image in enumerate(images[:MOST]):
        label = None if labels is None else int(labels[i])
        rows.append({"picture": thumbnail(image), "label": label, "class": int(classes[i])})
    return rows


def thumbnail(image: Tensor) -> str:
    """A float (1 or 3, H, W) image as a PNG data URI."""
    pixels = image.detach().cpu().numpy().astype(np.float64)
    low, high = float(pixels.min()), float(pixels.max())
    scaled = (255.0 * (pixels - low) / (high - low if high > low else 1.0)).astype(np.uint8)
    picture = Image.fromarray(scaled[0] if len(scaled) == 1 else scaled[:3].transpose(1, 2, 0))
    picture.thumbnail((EDGE, EDGE))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
