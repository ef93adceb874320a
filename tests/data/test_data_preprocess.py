import pytest

from bitloom.data.preprocess import parse_shape, preprocess_for
from bitloom.errors import DataError, GraphError
from bitloom.frontends.load import load_model


def test_zoo_networks_know_their_images():
    got = preprocess_for("digits", load_model("digits"))
    assert got.shape == (1, 8, 8) and got.resize == 0
    assert preprocess_for("resnet18", load_model("resnet18")).resize == 256
    assert preprocess_for("resnet18", load_model("resnet18"), resize=0).resize == 0


def test_other_models_must_say_it():
    graph = load_model("digits")
    with pytest.raises(DataError, match=r"'mine.onnx' does not say how .* give --mean and --std"):
        preprocess_for("mine.onnx", graph)
    assert preprocess_for("mine.onnx", graph, "0.5", "0.25").std == (0.25,)


@pytest.mark.parametrize(
    ("mean", "std", "text"),
    [
        ("a", "1", "mean 'a' must be figures"),
        ("0.1,0.2", "1", "has 2 figures, but the images have 1 channels"),
        ("0", "0", "std '0' must be above 0"),
        ("nan", "1", "mean 'nan' must be finite"),
        ("0", "inf", "std 'inf' must be finite"),
    ],
)
def test_bad_figures(mean, std, text):
    with pytest.raises(DataError, match=text):
        preprocess_for("digits", load_model("digits"), mean, std)


def test_a_negative_size():
    with pytest.raises(DataError, match=r"resize = -5 pixels; legal: 0 \(none\) or more"):
        preprocess_for("digits", load_model("digits"), resize=-5)


@pytest.mark.parametrize("text", ["3x224", "3x0x4", "axbxc", "1x2x3x4"])
def test_bad_shape(text):
    with pytest.raises(GraphError, match="must be CHANNELSxHEIGHTxWIDTH"):
        parse_shape(text)


def test_shape():
    assert parse_shape("3x224X200") == (3, 224, 200)
