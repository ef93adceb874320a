"""A small residual CNN for 8x8 grey digits, the network of the demo."""

from __future__ import annotations

from torch import Tensor, nn

from bitloom.zoo.init import init_weights
from bitloom.zoo.resnet import BasicBlock


class DigitsNet(nn.Module):
    """3x3 stem of 24 channels, a block at 8x8, a stride-2 block to 4x4 with 40 channels: 35 thousand weights."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = BasicBlock(24, 24, 1)
        self.layer2 = BasicBlock(24, 40, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(40, num_classes)
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of normalised images (N, 1, 8, 8)."""
        x = self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x)))))
        logits: Tensor = self.fc(self.pool(x).flatten(1))
        return logits
