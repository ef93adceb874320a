"""A network of your own, from nn.Module to a verified run: where the bits go, what the hardware does."""

from pathlib import Path

import torch
from torch import Tensor, nn

from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.printer import format_graph
from bitloom.target.arch import ArchConfig
from bitloom.target.device import load_device


class Net(nn.Module):
    """Two branches, concatenated; a residual addition; ReLU6; a head for ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU6())
        self.left, self.right = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, padding=1)
        self.mix = nn.Conv2d(32, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        both = torch.relu(torch.cat([self.left(x), self.right(x)], 1))
        x = torch.relu(self.mix(both) + x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def main() -> None:
    torch.manual_seed(0)
    graph = from_torch(Net(), (3, 24, 24), "two_branches")
    print(format_graph(graph))

    # Any size of accelerator: 4 pixels x 16 input channels x 16 output channels, 256 DSPs.
    arch = ArchConfig("own", 4, 16, 16, 2, 8, 16, 1024, 1024)
    images = torch.randn(48, 3, 24, 24)
    facts = compile_model(
        graph,
        calibration=images,
        evaluation=Evaluation(images, None, calibrated=True),  # no labels: agreement with the float network
        arch=arch,
        device=load_device("xck26"),
        out=Path("out/two_branches"),
        options=CompileOptions(budget=3.0, simulated=2),
    )
    for layer, widths in facts["bits"].items():
        print(f"{layer:8} {widths}")
    run = facts["simulation"]
    print(f"bit-exact: {run['bit_exact']}, {run['cycles']:,} cycles, report {facts['report']}")


if __name__ == "__main__":
    main()
