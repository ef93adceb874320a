import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from bitloom.data.cifar import load_jpeg, load_lossless
from bitloom.errors import DataError


def write_sheets(folder, count=51_000):
    """Two kinds of sheets, the first pixel of image i of sheet s being (s, i mod 256, 0)."""
    png = folder / "png"
    png.mkdir()
    for sheet in (0, 1, 2, 3, 50):
        pixels = np.zeros((1000, 1024, 3), np.uint8)
        pixels[:, 0, 0], pixels[:, 0, 1] = sheet, np.arange(1000) % 256
        Image.fromarray(pixels).save(png / f"cifar10_batch_{sheet}.png")
    labels = ", ".join(str(i % 10) for i in range(count))
    (png / "cifar10_labels.js").write_text(f"var labels=[{labels}];")


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def jpeg(level, size=32):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), level, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def test_sheets_come_with_their_labels_in_order(tmp_path):
    write_sheets(tmp_path)
    train, test = load_lossless(tmp_path, test=False), load_lossless(tmp_path, test=True, limit=20)
    assert train.images.shape == (4000, 3, 32, 32)
    assert test.images.shape == (20, 3, 32, 32)
    assert train.labels.tolist() == [i % 10 for i in range(4000)]
    first = (train.images[:, 0, 0, 0] * 0.229 + 0.485) * 255
    assert np.allclose(first.numpy(), np.repeat([0, 1, 2, 3], 1000), atol=1e-3)


def test_cut_label_list_is_named(tmp_path):
    write_sheets(tmp_path, count=100)
    with pytest.raises(DataError, match=r"cifar10_labels.js: 100 labels, must be 51000"):
        load_lossless(tmp_path, test=True)


def test_missing_sheet_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cifar10_batch_50.png: not a readable sheet"):
        load_lossless(tmp_path, test=True)


def test_archive_folders_are_classes_in_sorted_order(tmp_path):
    path = tmp_path / "images.tar.gz"
    members = {f"x/{part}/{c}/{i}.jpg": jpeg(40 * i) for part in ("train", "test") for c in "ba" for i in range(3)}
    write_archive(path, members)
    found = load_jpeg(path, test=False)
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert load_jpeg(path, test=True, limit=2).names == ("x/test/a/0.jpg", "x/test/b/2.jpg")


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"x/train/a/0.jpg": b"nothing"}, r"x/train/a/0.jpg is not a 32x32 image"),
        ({"x/train/a/0.jpg": jpeg(0, 40)}, r"x/train/a/0.jpg is not a 32x32 image"),
        ({"x/other/a/0.jpg": jpeg(0)}, r"no JPEG images below a folder 'train'"),
    ],
)
def test_bad_archive_is_named(tmp_path, members, text):
    write_archive(tmp_path / "images.tar.gz", members)
    with pytest.raises(DataError, match=text):
        load_jpeg(tmp_path / "images.tar.gz", test=False)
    with pytest.raises(DataError, match="not a readable archive"):
        load_jpeg(tmp_path / "none.tar.gz", test=False)
