"""CIFAR-10 from two public layouts: lossless PNG sheets with a label list, and a tar of JPEG files, one folder a class.

A sheet is a PNG of 1000 rows of 1024 RGB pixels; a row is one image of 32×32 pixels, row-major. The label list is a
JavaScript array of the 50 000 training labels, then those of the sheets of test images.
"""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bitloom.data.images import ImageSet
from bitloom.errors import DataError
from bitloom.zoo import info

CLASSES = 10
SHEET = 1000  #: images of one sheet
TRAIN_SHEETS = (0, 1, 2, 3)
TEST_SHEET = 50


def load_lossless(folder: Path, test: bool, limit: int | None = None) -> ImageSet:
    """The lossless images below `folder`/png: 4000 training images, or the first 1000 test images.

    images: float32 (N, 3, 32, 32), normalised as the zoo's CIFAR networks want them. Raises DataError.
    """
    sheets = (TEST_SHEET,) if test else TRAIN_SHEETS
    pixels = np.concatenate([_sheet(folder / "png" / f"cifar10_batch_{i}.png") for i in sheets])
    labels = _labels(folder / "png" / "cifar10_labels.js")
    chosen = np.concatenate([labels[i * SHEET : (i + 1) * SHEET] for i in sheets])
    if len(chosen) != len(pixels):
        raise DataError(f"{folder}: {len(pixels)} images, but {len(chosen)} labels; the label list is cut")
    n = len(pixels) if limit is None else limit
    names = tuple(f"cifar10_batch_{i}.png:{row}" for i in sheets for row in range(SHEET))
    return ImageSet(normalise(pixels[:n]), chosen[:n], names[:n])


def load_jpeg(archive: Path, test: bool, limit: int | None = None) -> ImageSet:
    """The images of `read_jpeg`, normalised as those of `load_lossless`."""
    pixels, labels, names = read_jpeg(archive, test, limit)
    return ImageSet(normalise(pixels), labels, names)


def read_jpeg(
    archive: Path, test: bool, limit: int | None = None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], tuple[str, ...]]:
    """The JPEG images of `archive` (tar.gz): 50 000 training or 10 000 test images, spread evenly when limited.

    A member's path holds `train` or `test` and ends in CLASS/FILE; classes are numbered in sorted order. Returns pixels
    uint8 (N, 32, 32, 3), labels (N,) and the members' names. Raises DataError.
    """
    try:
        tar = tarfile.open(archive)  # noqa: SIM115
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{archive}: not a readable archive ({error}); give the CIFAR-10 JPEG tar") from None
    with tar:
        part = "test" if test else "train"
        members = sorted(
            (m for m in tar.getmembers() if m.isfile() and part in Path(m.name).parts and _picture(m.name)),
            key=lambda m: m.name,
        )
        if not members:
            raise DataError(f"{archive}: no JPEG images below a folder '{part}'")
        classes = sorted({Path(m.name).parent.name for m in members})
        if limit is not None and limit < len(members):
            members = [members[i] for i in np.linspace(0, len(members) - 1, limit).round().astype(int)]
        pixels = np.empty((len(members), 32, 32, 3), np.uint8)
        for i, member in sorted(enumerate(members), key=lambda pair: pair[1].offset):
            file = tar.extractfile(member)
            assert file is not None
            try:
                pixels[i] = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
            except (UnidentifiedImageError, OSError, ValueError) as error:
                raise DataError(f"{archive}: {member.name} is not a 32x32 image ({error})") from None
    labels = np.array([classes.index(Path(m.name).parent.name) for m in members], np.int64)
    return pixels, labels, tuple(m.name for m in members)


def normalise(pixels: np.ndarray) -> Tensor:
    """uint8 (N, 32, 32, 3) -> float32 (N, 3, 32, 32) with the mean and std of the zoo's CIFAR networks."""
    wanted = info("resnet20")
    mean = np.asarray(wanted.mean, np.float32)
    std = np.asarray(wanted.std, np.float32)
    values = (pixels.astype(np.float32) / 255.0 - mean) / std
    return torch.from_numpy(np.ascontiguousarray(values.transpose(0, 3, 1, 2)))


def _picture(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg", ".png"))


def _sheet(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: not a readable sheet of images ({error})") from None
    if pixels.shape != (SHEET, 1024, 3):
        raise DataError(f"{path}: {pixels.shape[:2]} pixels, must be ({SHEET}, 1024): one image of 32x32 a row")
    return pixels.reshape(SHEET, 32, 32, 3)


def _labels(path: Path) -> np.ndarray:
    try:
        text = path.read_text()
    except OSError as error:
        raise DataError(f"{path}: no label list ({error.strerror})") from None
    numbers = np.array([int(x) for x in re.findall(r"\d+", text[text.find("[") + 1 :])], np.int64)
    # The list is the training labels, then the test sheet's: sheet 50 begins at label 50 000.
    if len(numbers) < (TEST_SHEET + 1) * SHEET or numbers.max() >= CLASSES:
        raise DataError(f"{path}: {len(numbers)} labels, must be {(TEST_SHEET + 1) * SHEET} below {CLASSES}")
    return numbers
