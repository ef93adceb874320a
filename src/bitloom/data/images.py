"""Images from a folder, as a network wants them: decoded, resized, cropped, normalised.

Three layouts are understood: a flat folder; a folder with `labels.txt` (`file index` a line); one folder a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bitloom.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a tensor: shape (C, H, W), shorter side resized to `resize` (0: only when too small for
    the crop), centre crop, then (x/255 - mean)/std per channel."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int = 0


@dataclass(frozen=True, eq=False)
class ImageSet:
    """images: float32 (N, C, H, W), normalised; labels: int64 (N,) or None; names: file names."""

    images: Tensor
    labels: npt.NDArray[np.int64] | None
    names: tuple[str, ...]


def load_images(folder: Path, preprocess: Preprocess, limit: int | None = None) -> ImageSet:
    """The first `limit` images of `folder` in name order (spread over the classes when there are class folders).

    Raises DataError: no such folder, no images in it, an unreadable file, a malformed labels.txt.
    """
    files, labels = _listing(folder)
    if not files:
        raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)}); give a folder of images")
    if limit is not None and limit < len(files):
        keep = np.linspace(0, len(files) - 1, limit).round().astype(int)
        files = [files[i] for i in keep]
        labels = [labels[i] for i in keep] if labels else None
    tensors = [_decode(path, preprocess) for path in files]
    return ImageSet(
        torch.stack(tensors),
        np.asarray(labels, dtype=np.int64) if labels else None,
        tuple(path.name for path in files),
    )


def _listing(folder: Path) -> tuple[list[Path], list[int] | None]:
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; give a folder of images")
    table = folder / "labels.txt"
    if table.is_file():
        files, labels = [], []
        for number, line in enumerate(table.read_text().splitlines(), 1):
            parts = line.split()
            if not parts:
                continue
            if len(parts) != 2 or not parts[1].isdigit():
                raise DataError(f"{table}: line {number} is {line!r}, must be 'file index'")
            files.append(folder / parts[0])
            labels.append(int(parts[1]))
        return files, labels
    flat = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    if flat:
        return flat, None
    files, labels = [], []
    for index, sub in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
        for path in sorted(p for p in sub.iterdir() if p.suffix.lower() in SUFFIXES):
            files.append(path)
            labels.append(index)
    return files, labels or None


def _decode(path: Path, preprocess: Preprocess) -> Tensor:
    channels, height, width = preprocess.shape
    try:
        with Image.open(path) as image:
            picture = image.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; is labels.txt of another folder?") from None
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path}: not a readable image ({error}); remove it or save it again") from None
    side = min(picture.size)
    target = preprocess.resize or (max(height, width) if side < max(height, width) else side)
    if target != side:
        scale = target / side
        size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    picture = picture.crop((left, top, left + width, top + height))
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
    pixels = pixels[None] if channels == 1 else pixels.permute(2, 0, 1)
    mean = torch.tensor(preprocess.mean, dtype=torch.float32)[:, None, None]
    std = torch.tensor(preprocess.std, dtype=torch.float32)[:, None, None]
    return (pixels - mean) / std
