"""Images from a folder, as a network wants them: decoded, resized, cropped, normalised.

Three layouts are understood: a flat folder; a folder with `labels.txt` (`file index` a line); one folder a class.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from bitloom.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
_LONGEST_LABEL = 9  #: digits of a class index


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes a tensor: shape (C, H, W), shorter side resized to `resize` (0: only when too small for
    the crop), centre crop, then (x/255 - mean)/std per channel."""

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int = 0


@dataclass(frozen=True)
class Views:
    """Several images of every picture: the plain one, then crops at random places, mirrored with probability 1/2.

    count: images a picture, the plain one included. spread: a crop's edge is that of the plain crop times a factor
    between 1 - spread and 1 + spread, never above the picture. seed: of all draws.
    """

    count: int = 1
    spread: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise DataError(f"{self.count} views of a picture; legal: 1 or more")

    def draw(self, picture: Image.Image, preprocess: Preprocess, rng: np.random.Generator) -> Image.Image:
        """One more view, of the size that `preprocess` asks for."""
        _, height, width = preprocess.shape
        scale = min(picture.size) / _target(picture, preprocess) * rng.uniform(1 - self.spread, 1 + self.spread)
        scale = min(scale, picture.width / width, picture.height / height)
        left, top = rng.random(2) * (picture.width - scale * width, picture.height - scale * height)
        box = (left, top, left + scale * width, top + scale * height)
        view = picture.resize((width, height), Image.Resampling.BILINEAR, box)
        return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else view


@dataclass(frozen=True, eq=False)
class ImageSet:
    """images: float32 (N, C, H, W), normalised; labels: int64 (N,) or None; names: file names.

    folders: names of the class folders, the label of each its place; () where labels do not come from folders.
    listed, present: images that labels.txt names, and pictures that lie beside it; both 0 where there is none.
    """

    images: Tensor
    labels: npt.NDArray[np.int64] | None
    names: tuple[str, ...]
    folders: tuple[str, ...] = ()
    listed: int = 0
    present: int = 0

    def plain(self, views: int) -> ImageSet:
        """The first of so many views of every picture."""
        count = len(self.images) // views
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, images=self.images[:count], labels=labels, names=self.names[:count])

    def doubt(self, classes: int) -> str:
        """Why labels may not be what the user means, of a network with so many classes; '' where nothing says so.

        Folders are counted from 0 in the order of their names, as torchvision's ImageFolder does.
        """
        if self.listed < self.present:
            return f"labels.txt names {self.listed} of {self.present} pictures; the others are passed over"
        count = len(self.folders)
        remedy = "give labels.txt if the network counts otherwise"
        if count and count != classes:
            return f"{count} class folders, taken as classes 0 to {count - 1} of {classes} in name order; {remedy}"
        for index, name in enumerate(self.folders):
            if name.isdecimal() and int(name) != index:
                return f"class folder '{name}' is class {index}, its place in name order; {remedy}"
        return ""


def load_images(folder: Path, preprocess: Preprocess, limit: int | None = None, views: Views | None = None) -> ImageSet:
    """The first `limit` images of `folder` in name order (spread over the classes when there are class folders).

    views: N pictures become views.count * N images: all of them plain, then all in their second view, and so on.
    Hidden files and folders (with a dot in front) are passed over. As in torchvision, pixels are taken as they are
    stored: neither an orientation that a camera noted nor transparency is applied, and an animation is its first
    picture. Raises DataError: no such folder, no images in it, an unreadable file, a malformed labels.txt, a limit
    below 1, a network of other than 1 or 3 channels.
    """
    if limit is not None and limit < 1:
        raise DataError(f"{limit} images of {folder}; legal: 1 or more")
    channels = preprocess.shape[0]
    if channels not in (1, 3):
        raise DataError(
            f"{folder}: pictures have 1 or 3 channels, the network takes {channels}; call "
            "bitloom.flow.compile_model, which takes the images as a tensor"
        )
    listing = _listing(folder)
    files, labels = listing.files, listing.labels
    if not files:
        raise DataError(f"{folder}: no images ({', '.join(SUFFIXES)}); give a folder of images")
    if limit is not None and limit < len(files):
        keep = np.linspace(0, len(files) - 1, limit).round().astype(int)
        files = [files[i] for i in keep]
        labels = [labels[i] for i in keep] if labels else None
    pictures = [_decode(path, channels) for path in files]
    tensors = [_tensor(_plain(picture, preprocess), preprocess) for picture in pictures]
    count = 1 if views is None else views.count
    if views is not None:
        rng = np.random.default_rng(views.seed)
        tensors += [_tensor(views.draw(p, preprocess, rng), preprocess) for _ in range(1, count) for p in pictures]
    return ImageSet(
        torch.stack(tensors),
        np.tile(np.asarray(labels, dtype=np.int64), count) if labels else None,
        tuple(path.name for path in files) * count,
        listing.folders,
        listing.listed,
        listing.present,
    )


@dataclass(frozen=True)
class _Listing:
    """Files, their labels, and as in `ImageSet` the class folders that the labels count, and images listed, present."""

    files: list[Path]
    labels: list[int] | None
    folders: tuple[str, ...] = ()
    listed: int = 0
    present: int = 0


def _listing(folder: Path) -> _Listing:
    if not folder.is_dir():
        raise DataError(f"{folder}: not a folder; give a folder of images")
    flat, table = _pictures(folder), folder / "labels.txt"
    if table.is_file():
        named = _labelled(table)
        files, labels = [folder / name for name, _ in named], [label for _, label in named]
        return _Listing(files, labels, listed=len(set(files)), present=len({*flat, *files}))
    if flat:
        return _Listing(flat, None)
    files, labels = [], []
    folders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    for index, sub in enumerate(folders):
        for path in _pictures(sub):
            files.append(path)
            labels.append(index)
    return _Listing(files, labels or None, tuple(sub.name for sub in folders) if labels else ())


def _labelled(table: Path) -> list[tuple[str, int]]:
    """Names and labels of a labels.txt, of any editor: spaces in a name, a byte order mark in front."""
    try:
        lines = table.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{table}: not text ({error}); must be lines of 'file index'") from None
    named = []
    for number, line in enumerate(lines, 1):
        parts = line.strip().rsplit(maxsplit=1)
        if not parts:
            continue
        if len(parts) != 2 or not parts[1].isdecimal() or len(parts[1]) > _LONGEST_LABEL:
            raise DataError(f"{table}: line {number} is {line!r}, must be 'file index'")
        named.append((parts[0], int(parts[1])))
    if not named:
        raise DataError(f"{table}: names no image; must be lines of 'file index', or remove it")
    return named


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _decode(path: Path, channels: int) -> Image.Image:
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":  # Pillow would cut off all above 255
                raise DataError(f"{path}: more than 8 bits a pixel (mode {image.mode}); save it with 8")
            return image.convert("L" if channels == 1 else "RGB")
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error}; save it smaller") from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; is labels.txt of another folder?") from None
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{path}: not a readable image ({error}); remove it or save it again") from None


def _target(picture: Image.Image, preprocess: Preprocess) -> int:
    """The shorter side after resizing."""
    side, edge = min(picture.size), max(preprocess.shape[1:])
    return preprocess.resize or max(edge, side)


def _plain(picture: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Resized and cropped in the centre."""
    _, height, width = preprocess.shape
    side, target = min(picture.size), _target(picture, preprocess)
    if target != side:
        scale = target / side
        size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _tensor(picture: Image.Image, preprocess: Preprocess) -> Tensor:
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
    pixels = pixels[None] if preprocess.shape[0] == 1 else pixels.permute(2, 0, 1)
    mean = torch.tensor(preprocess.mean, dtype=torch.float32)[:, None, None]
    std = torch.tensor(preprocess.std, dtype=torch.float32)[:, None, None]
    return (pixels - mean) / std
