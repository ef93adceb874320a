"""SqueezeNet 1.1 (Iandola et al., arXiv:1602.07360), with torchvision's state_dict keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bitloom.zoo.init import init_weights

_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
_POOLS = (0, 2, 4)  # fires that a 3x3 pool of stride 2 stands before


class Fire(nn.Module):
    """A 1x1 convolution to few channels, then 1x1 and 3x3 convolutions side by side."""

    def __init__(self, cin: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(cin, squeezed, 1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2 * expanded, H, W) of a map (N, cin, H, W)."""
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat(
            [self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1
        )


class SqueezeNet11(nn.Module):
    """Eight fires for 224x224 images; behind them a 1x1 convolution, the means of whose maps are the logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True)]
        cin = 64
        for index, (squeezed, expanded) in enumerate(_FIRES):
            if index in _POOLS:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(cin, squeezed, expanded))
            cin = 2 * expanded
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Conv2d(cin, num_classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1))
        )
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes), none below 0, of normalised images (N, 3, H, W)."""
        logits: Tensor = self.classifier(self.features(x)).flatten(1)
        return logits
