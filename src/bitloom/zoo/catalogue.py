"""The networks by name, with the images that each wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from bitloom.errors import GraphError
from bitloom.zoo.cifar_resnet import CifarResNet
from bitloom.zoo.digits import DigitsNet
from bitloom.zoo.mobilenet import MobileNetV2
from bitloom.zoo.resnet import BasicBlock, Bottleneck, Grouped, ResNet
from bitloom.zoo.squeezenet import SqueezeNet11
from bitloom.zoo.vgg import VGG16, VGG16Cifar

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ZooInfo:
    """What a network of the zoo wants: image shape (C, H, W), and mean and std per channel of pixels in [0, 1]."""

    name: str
    image_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_classes: int
    description: str


@dataclass(frozen=True)
class _Entry:
    info: ZooInfo
    make: Callable[[int], nn.Module]


def _imagenet(name: str, description: str, make: Callable[[int], nn.Module]) -> _Entry:
    return _Entry(ZooInfo(name, (3, 224, 224), _IMAGENET_MEAN, _IMAGENET_STD, 1000, description), make)


def _cifar(name: str, description: str, make: Callable[[int], nn.Module]) -> _Entry:
    return _Entry(ZooInfo(name, (3, 32, 32), _IMAGENET_MEAN, _IMAGENET_STD, 10, description), make)


_ENTRIES: dict[str, _Entry] = {
    entry.info.name: entry
    for entry in (
        _imagenet("resnet18", "ResNet-18", lambda n: ResNet(BasicBlock, (2, 2, 2, 2), n)),
        _imagenet("resnet34", "ResNet-34", lambda n: ResNet(BasicBlock, (3, 4, 6, 3), n)),
        _imagenet("resnet50", "ResNet-50 v1.5", lambda n: ResNet(Bottleneck, (3, 4, 6, 3), n)),
        _imagenet("resnext50_32x4d", "ResNeXt-50 32x4d", lambda n: ResNet(Grouped, (3, 4, 6, 3), n)),
        _imagenet("vgg16", "VGG-16", lambda n: VGG16(n, batch_norm=False)),
        _imagenet("vgg16_bn", "VGG-16 with batch normalization", lambda n: VGG16(n, batch_norm=True)),
        _imagenet("squeezenet1_1", "SqueezeNet 1.1", SqueezeNet11),
        _imagenet("mobilenet_v2", "MobileNetV2, width 1.0", MobileNetV2),
        _cifar("resnet20", "ResNet-20 for CIFAR, option-A shortcuts", lambda n: CifarResNet(3, n)),
        _cifar("resnet32", "ResNet-32 for CIFAR, option-A shortcuts", lambda n: CifarResNet(5, n)),
        _cifar("resnet44", "ResNet-44 for CIFAR, option-A shortcuts", lambda n: CifarResNet(7, n)),
        _cifar("resnet56", "ResNet-56 for CIFAR, option-A shortcuts", lambda n: CifarResNet(9, n)),
        _cifar(
            "resnet34_cifar", "ResNet-34, 3x3 stem", lambda n: ResNet(BasicBlock, (3, 4, 6, 3), n, small_image=True)
        ),
        _cifar("vgg16_cifar", "VGG-16 with batch normalization, one fully connected layer", VGG16Cifar),
        _Entry(ZooInfo("digits", (1, 8, 8), (0.305,), (0.376,), 10, "residual CNN for 8x8 digits"), DigitsNet),
    )
}

#: Legal names, in the order of the catalogue.
NAMES: tuple[str, ...] = tuple(_ENTRIES)


def info(name: str) -> ZooInfo:
    """The record of a network; raises GraphError listing the legal names."""
    return _entry(name).info


def build(name: str, num_classes: int | None = None) -> nn.Module:
    """A new network with He-initialised weights drawn from torch's global generator, in training mode.

    num_classes None means the network's own (1000 or 10). Under `with torch.device("meta")` no memory is taken.
    Raises GraphError listing the legal names.
    """
    entry = _entry(name)
    if num_classes is not None and num_classes < 1:
        raise GraphError(f"network '{name}': num_classes = {num_classes}, must be 1 or more")
    return entry.make(entry.info.num_classes if num_classes is None else num_classes)


def _entry(name: str) -> _Entry:
    if name not in _ENTRIES:
        raise GraphError(f"unknown network '{name}'; legal: {', '.join(NAMES)}")
    return _ENTRIES[name]
