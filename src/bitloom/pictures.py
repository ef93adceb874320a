"""Calibration pictures: those that rounding sees, in every view, and those held out to choose by.

Folders are read in name order, which is the order of the classes more often than not. So pictures are mixed before they
are divided: both parts, and the first images of each, have all classes in them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bitloom.errors import DataError
from bitloom.quantize.observe import CalibrationOptions


@dataclass(frozen=True, eq=False)
class Pictures:
    """seen, held_out: plain images (N, C, H, W) of two thirds of the pictures, and of the others, in mixed order.

    every_view: of the pictures seen, one view of all after the other.
    """

    seen: Tensor
    held_out: Tensor
    every_view: Tensor

    def by_picture(self) -> Tensor:
        """`every_view` with the views of one picture next to each other."""
        views = self.every_view.reshape(-1, len(self.seen), *self.every_view.shape[1:])
        return views.transpose(0, 1).flatten(0, 1)


def split_pictures(calibration: Tensor, views: int) -> Pictures:
    """The pictures behind images (N, C, H, W), `views` of each as `load_images` returns them.

    Which picture goes where depends on their number alone.

    Raises DataError when the images are too few, equal, or no whole number of views.
    """
    if len(calibration) % views:
        raise DataError(
            f"{len(calibration)} calibration images are no {views} views of each picture; give the images of "
            "`load_images` with as many views, or views = 1"
        )
    pictures, least = len(calibration) // views, CalibrationOptions().min_images
    split = 2 * pictures // 3
    if split < least:
        raise DataError(
            f"{pictures} calibration images; give at least {-(-3 * least // 2)}: two thirds are calibrated on, the "
            "others are held out to choose by"
        )
    every = calibration.reshape(views, pictures, *calibration.shape[1:])
    mixed = torch.randperm(pictures, generator=torch.Generator().manual_seed(0))
    every_view = every[:, mixed[:split]].flatten(0, 1)
    seen, held_out = every_view[:split], every[0][mixed[split:]]
    parts = (
        (every[0], f"all {pictures} calibration images are equal"),
        (seen, f"all {split} of {pictures} calibration images that are calibrated on are equal"),
        (held_out, f"all {pictures - split} of {pictures} calibration images that are held out to choose by are equal"),
    )
    for part, text in parts:
        if bool((part == part[:1]).all()):
            raise DataError(f"{text}; give different images")
    return Pictures(seen, held_out, every_view)
