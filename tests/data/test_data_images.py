import numpy as np
import pytest
from PIL import Image

from bitloom.data.images import Preprocess, Views, load_images
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


def test_class_folders_that_need_not_be_the_networks_classes(tmp_path):
    for c in ("2", "10"):
        save(tmp_path / c / "0.png")
    got = load_images(tmp_path, PRE)
    assert got.folders == ("10", "2") and got.plain(1).folders == got.folders
    assert got.doubt(5) == (
        "2 class folders, taken as classes 0 to 1 of 5 in name order; give labels.txt if the network counts otherwise"
    )
    assert got.doubt(2).startswith("class folder '10' is class 0, its place in name order")
    for c in "01":
        save(tmp_path / "sound" / c / "0.png")
    assert load_images(tmp_path / "sound", PRE).doubt(2) == ""
    (tmp_path / "sound" / "labels.txt").write_text("0/0.png 3\n")
    assert load_images(tmp_path / "sound", PRE).doubt(10) == ""


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


def gradient(path, size=(40, 30)):
    """A picture whose red is the column and whose green is the row."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(size[0])[None, :] * 5, np.arange(size[1])[:, None] * 5
    Image.fromarray(pixels).save(path)


def test_views_are_the_plain_images_then_crops_inside_the_picture(tmp_path):
    for i in range(3):
        gradient(tmp_path / f"{i}.png")
    (tmp_path / "labels.txt").write_text("0.png 4\n1.png 5\n2.png 6\n")
    pre = Preprocess((3, 8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 10)
    got, plain = load_images(tmp_path, pre, views=Views(5)), load_images(tmp_path, pre)
    assert got.images.shape == (15, 3, 8, 8)
    assert got.images[:3].equal(plain.images) and got.plain(5).images.equal(plain.images)
    assert got.labels.tolist() == [4, 5, 6] * 5 and got.plain(5).labels.tolist() == [4, 5, 6]
    assert got.plain(5).names == plain.names
    for view in got.images[3:]:
        assert float(view.max()) * 255 <= 5 * 39 and float(view.min()) >= 0
        column, row = view[0].mean(dim=0) * 51, view[1].mean(dim=1) * 51  # in pixels of the picture
        width, height = float((column[-1] - column[0]).abs()) / 7 * 8, float(row[-1] - row[0]) / 7 * 8
        assert 0.85 * 24 * 0.9 < width < 1.15 * 24 * 1.1 and 0.85 * 24 * 0.9 < height < 1.15 * 24 * 1.1
    mirrored = [bool(view[0, 0, 0] > view[0, 0, -1]) for view in got.images[3:]]
    assert any(mirrored) and not all(mirrored)


def test_views_depend_on_the_seed_alone(tmp_path):
    for i in range(2):
        gradient(tmp_path / f"{i}.png")
    first, again = (load_images(tmp_path, PRE, views=Views(3)).images for _ in range(2))
    assert first.equal(again)
    assert not first.equal(load_images(tmp_path, PRE, views=Views(3, seed=1)).images)


def test_views_of_a_picture_as_small_as_the_crop(tmp_path):
    save(tmp_path / "a.png", value=9)
    got = load_images(tmp_path, PRE, views=Views(4)).images
    assert got.shape == (4, 3, 8, 8) and float((got * 255 - 9).abs().max()) < 1e-3


def test_no_views_are_refused():
    with pytest.raises(DataError, match="0 views of a picture; legal: 1 or more"):
        Views(0)


def test_hidden_files_and_folders_are_no_images_and_no_classes(tmp_path):
    for c in ("cat", "dog"):
        save(tmp_path / c / "a.png")
        (tmp_path / c / "._a.png").write_bytes(b"resource fork")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert load_images(tmp_path, PRE).labels.tolist() == [0, 1]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "a.png \u00b2\n".encode()])
def test_labels_that_are_no_text_or_no_figures(tmp_path, content):
    save(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"labels\.txt: .*must be .*'file index'"):
        load_images(tmp_path, PRE)


def test_sixteen_bits_a_pixel_are_refused_not_cut_off(tmp_path):
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png: more than 8 bits a pixel \(mode I;16\); save it with 8"):
        load_images(tmp_path, PRE)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one(tmp_path, limit):
    save(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"{limit} images of .*; legal: 1 or more"):
        load_images(tmp_path, PRE, limit)


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_images_of_channels_that_no_picture_has(tmp_path, channels):
    save(tmp_path / "a.png")
    pre = Preprocess((channels, 8, 8), (0.0,) * channels, (1.0,) * channels)
    with pytest.raises(
        DataError, match=rf"pictures have 1 or 3 channels, the network takes {channels}; .*compile_model"
    ):
        load_images(tmp_path, pre)


def test_a_picture_beyond_what_pillow_opens(tmp_path, monkeypatch):
    save(tmp_path / "a.png", (40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"a\.png: .*1600 pixels.*; save it smaller"):
        load_images(tmp_path, PRE)


def test_labels_of_another_editor(tmp_path):
    save(tmp_path / "a b.png")
    (tmp_path / "labels.txt").write_bytes("\ufeffa b.png\t7\r\n".encode())
    got = load_images(tmp_path, PRE)
    assert got.names == ("a b.png",) and got.labels.tolist() == [7]


def test_labels_that_name_no_image(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_text("\n")
    with pytest.raises(DataError, match=r"labels\.txt: names no image; must be lines of 'file index', or remove it"):
        load_images(tmp_path, PRE)


def test_a_label_beyond_any_class(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "labels.txt").write_text(f"a.png {10**30}\n")
    with pytest.raises(DataError, match=r"labels\.txt: line 1 .*must be 'file index'"):
        load_images(tmp_path, PRE)


def test_pictures_that_labels_leave_out_are_spoken_of(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "labels.txt").write_text("a.png 1\nb.png 0\n")
    got = load_images(tmp_path, PRE, 1, Views(2))
    assert got.doubt(2) == got.plain(2).doubt(2) == "labels.txt names 2 of 3 pictures; the others are passed over"
    (tmp_path / "labels.txt").write_text("a.png 1\nb.png 0\nc.png 0\n")
    assert load_images(tmp_path, PRE).doubt(2) == ""
