"""Random shifts and mirrored images: more calibration and training data from the same pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """shift: pixels in each direction at most; flip: mirror left and right with probability 1/2."""

    shift: int = 4
    flip: bool = True


def augmented(images: Tensor, how: Augment, generator: torch.Generator) -> Tensor:
    """A new batch (N, C, H, W): every image shifted and mirrored on its own, borders filled by zeros."""
    count, _, height, width = images.shape
    padded = F.pad(images, (how.shift,) * 4)
    at = torch.randint(0, 2 * how.shift + 1, (count, 2), generator=generator).tolist()
    mirrored = (torch.rand(count, generator=generator) < 0.5).tolist() if how.flip else [False] * count
    out = torch.empty_like(images)
    for i, ((y, x), mirror) in enumerate(zip(at, mirrored, strict=True)):
        part = padded[i, :, y : y + height, x : x + width]
        out[i] = part.flip(2) if mirror else part
    return out
