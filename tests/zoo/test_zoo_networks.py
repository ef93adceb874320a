"""Parameter counts, keys and records of the zoo."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bitloom import zoo
from bitloom.errors import GraphError
from bitloom.frontends.weights import load_state_dict

DATA = Path(os.environ.get("BITLOOM_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data folder {DATA}; set BITLOOM_DATA")


def meta(name: str, classes: int | None = None) -> torch.nn.Module:
    with torch.device("meta"):
        return zoo.build(name, classes)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("vgg16", 138_357_544),
        ("vgg16_bn", 138_365_992),
        ("squeezenet1_1", 1_235_496),
        ("mobilenet_v2", 3_504_872),
        ("resnext50_32x4d", 25_028_904),
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
    ],
)
def test_parameter_counts_are_the_published_ones(name: str, count: int) -> None:
    assert sum(p.numel() for p in meta(name).parameters()) == count


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "imagenet/weights/resnet18_hybrid.npz"),
        ("resnet50", "imagenet/weights/resnet50_pqf.npz"),
        ("resnet20", "cifar10/weights/resnet20-12fca82f.th"),
        ("resnet32", "cifar10/weights/resnet32-d509ac18.th"),
        ("resnet44", "cifar10/weights/resnet44-014dd654.th"),
        ("resnet56", "cifar10/weights/resnet56-4bfd9763.th"),
    ],
)
def test_keys_and_shapes_are_those_of_the_shared_weights(name: str, file: str) -> None:
    path = DATA / file
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            given = {key: archive[key].shape for key in archive.files}
    else:
        given = {key: tuple(value.shape) for key, value in load_state_dict(path).items()}
    own = {k: tuple(v.shape) for k, v in meta(name).state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {k: v for k, v in given.items() if not k.endswith("num_batches_tracked")} == own


def test_vgg_keys_are_torchvisions() -> None:
    plain = [k for k in meta("vgg16").state_dict() if k.endswith("weight")]
    assert plain == [f"features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)] + [
        f"classifier.{i}.weight" for i in (0, 3, 6)
    ]
    normed = meta("vgg16_bn").state_dict()
    assert {"features.0.weight", "features.1.running_var", "features.40.weight", "features.41.bias"} <= set(normed)


def test_resnet50_strides_on_its_3x3() -> None:
    block = meta("resnet50").get_submodule("layer2.0")
    assert block.conv1.stride == (1, 1)
    assert block.conv2.stride == (2, 2)


@pytest.mark.parametrize("name", zoo.NAMES)
def test_each_network_makes_its_number_of_logits(name: str) -> None:
    info = zoo.info(name)
    module = meta(name, 7).eval()
    with torch.device("meta"):
        assert module(torch.zeros(2, *info.image_shape)).shape == (2, 7)
    assert len(info.mean) == len(info.std) == info.image_shape[0]
    assert info.name == name


def test_the_demo_network_is_small() -> None:
    assert 20_000 <= sum(p.numel() for p in meta("digits").parameters()) <= 60_000


def test_unknown_names_and_class_counts_list_what_is_legal() -> None:
    with pytest.raises(GraphError, match="unknown network 'resnet19'; legal: resnet18, resnet34"):
        zoo.build("resnet19")
    with pytest.raises(GraphError, match="unknown network 'x'"):
        zoo.info("x")
    with pytest.raises(GraphError, match="num_classes = 0, must be 1 or more"):
        zoo.build("digits", 0)
