"""VGG-16 with and without batch normalization, with torchvision's state_dict keys; and its CIFAR form."""

from __future__ import annotations

from torch import Tensor, nn

from bitloom.zoo.init import init_weights

_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and 3x3 convolutions before each 2x2 pool


def _features(batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    cin = 3
    for width, depth in _STAGES:
        for _ in range(depth):
            layers.append(nn.Conv2d(cin, width, 3, padding=1))
            if batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            cin = width
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)


class VGG16(nn.Module):
    """Thirteen convolutions and three fully connected layers, for 224x224 images."""

    def __init__(self, num_classes: int, batch_norm: bool) -> None:
        super().__init__()
        self.features = _features(batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, num_classes),
        )
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


class VGG16Cifar(nn.Module):
    """The thirteen convolutions with batch normalization on 32x32 images, and one fully connected layer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = _features(batch_norm=True)
        self.classifier = nn.Linear(512, num_classes)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 3, 32, 32)."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
