import numpy as np
import pytest
from PIL import Image

from bitloom.data.images import Preprocess, load_images
from bitloom.errors import DataError

PRE = Preprocess((3, 8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def save(path, size=(8, 8), value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, dtype=np.uint8)).save(path)


def test_flat_folder_is_read_in_name_order(tmp_path):
    for i in (2, 0, 1):
        save(tmp_path / f"{i}.png", value=i)
    got = load_images(tmp_path, PRE)
    assert got.names == ("0.png", "1.png", "2.png")
    assert got.labels is None
    assert [round(float(x) * 255) for x in got.images[:, 0, 0, 0]] == [0, 1, 2]


def test_labels_file(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_text("a.png 7\n")
    assert load_images(tmp_path, PRE).labels.tolist() == [7]


def test_class_folders_and_limit(tmp_path):
    for c in "ab":
        for i in range(4):
            save(tmp_path / c / f"{i}.png")
    assert load_images(tmp_path, PRE, 4).labels.tolist() == [0, 0, 1, 1]


def test_small_and_large_images_are_resized_to_cover_the_crop(tmp_path):
    save(tmp_path / "small.png", (4, 6))
    save(tmp_path / "wide.png", (40, 9))
    assert load_images(tmp_path, PRE).images.shape == (2, 3, 8, 8)


def test_empty_folder(tmp_path):
    with pytest.raises(DataError, match=r"no images .*give a folder of images"):
        load_images(tmp_path, PRE)


def test_missing_folder(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        load_images(tmp_path / "none", PRE)


def test_unreadable_image(tmp_path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(DataError, match=r"x\.png: not a readable image"):
        load_images(tmp_path, PRE)


def test_malformed_labels(tmp_path):
    (tmp_path / "labels.txt").write_text("a.png seven\n")
    with pytest.raises(DataError, match=r"line 1 is 'a.png seven', must be 'file index'"):
        load_images(tmp_path, PRE)
