"""MobileNetV2 (Sandler et al., arXiv:1801.04381), with torchvision's state_dict keys."""

from __future__ import annotations

from torch import Tensor, nn

from bitloom.zoo.init import init_weights

#: Per stage: expansion, output channels, blocks, stride of the first (Table 2 of the paper).
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _unit(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalization, ReLU6."""
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """1x1 convolution to `expansion` times the channels, 3x3 depthwise, 1x1 to `cout` without activation; added to its
    input where both have one shape."""

    def __init__(self, cin: int, cout: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = cin * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_unit(cin, width, 1)]
        layers += [_unit(width, width, 3, stride, groups=width), nn.Conv2d(width, cout, 1, bias=False)]
        self.conv = nn.Sequential(*layers, nn.BatchNorm2d(cout))
        self.adds = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(N, cout, H / stride, W / stride) of a map (N, cin, H, W)."""
        y: Tensor = self.conv(x)
        return x + y if self.adds else y


class MobileNetV2(nn.Module):
    """Width 1.0, for 224x224 images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, 32, 3, 2)]
        cin = 32
        for expansion, cout, blocks, stride in _STAGES:
            for i in range(blocks):
                layers.append(InvertedResidual(cin, cout, stride if i == 0 else 1, expansion))
                cin = cout
        layers.append(_unit(cin, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, num_classes))
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 3, H, W)."""
        logits: Tensor = self.classifier(self.features(x).mean(dim=(2, 3)))
        return logits
