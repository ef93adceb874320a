"""Random small networks: the graph from torch.export, and the one from ONNX, compute what the module computes."""

from __future__ import annotations

import io

import onnx
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bitloom.frontends.onnx_import import from_onnx
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.execute import execute

SHAPE = (3, 13, 10)


class Conv(nn.Module):
    """Convolution with optional norm and activation."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, norm: bool, limit: float | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=not norm)
        self.norm = nn.BatchNorm2d(cout) if norm else nn.Identity()
        self.act = nn.ReLU() if limit is None else nn.Hardtanh(0.0, limit)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Inverted(nn.Module):
    """1x1 to more channels, a convolution of `groups`, 1x1 back; the input is added (MobileNetV2)."""

    def __init__(self, channels: int, width: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Conv(channels, width, 1, 1, True, 6.0), nn.Conv2d(width, width, 3, 1, 1, groups=groups, bias=False),
            nn.BatchNorm2d(width), nn.ReLU6(), nn.Conv2d(width, channels, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class Residual(nn.Module):
    """x + f(x), activated; with an option-A shortcut where the block halves the map."""

    def __init__(self, channels: int, halve: bool) -> None:
        super().__init__()
        self.body = nn.Conv2d(channels, channels + 2 * halve, 3, 1 + halve, 1)
        self.halve = halve

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)) if self.halve else x
        return F.relu(self.body(x) + shortcut)


class Branch(nn.Module):
    """Two convolutions side by side, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.left = nn.Conv2d(channels, 2, 1)
        self.right = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(self.left(x)), self.right(x)], 1)


@st.composite
def networks(draw: st.DrawFn) -> nn.Module:
    """Two to five blocks, then a head."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    layers: list[nn.Module] = []
    channels = SHAPE[0]
    for _ in range(draw(st.integers(2, 5))):
        kind = draw(st.sampled_from(["conv", "residual", "inverted", "branch", "max", "avg"]))
        if kind == "conv":
            cout, kernel, stride = draw(st.integers(1, 6)), draw(st.sampled_from([1, 3, 5])), draw(st.integers(1, 2))
            layers.append(
                Conv(channels, cout, kernel, stride, draw(st.booleans()), draw(st.sampled_from([None, 6.0, 0.5])))
            )
            channels = cout
        elif kind == "residual":
            halve = draw(st.booleans())
            layers.append(Residual(channels, halve))
            channels += 2 * halve
        elif kind == "inverted":
            width = 2 * channels
            layers.append(Inverted(channels, width, draw(st.sampled_from([2, channels, width]))))
        elif kind == "branch":
            layers.append(Branch(channels))
            channels = 5
        elif kind == "max":
            layers.append(nn.MaxPool2d(3, 2, 1, ceil_mode=draw(st.booleans())))
        else:
            layers.append(nn.AvgPool2d(3, draw(st.integers(1, 2)), 1))
    if draw(st.booleans()):
        layers.append(nn.AdaptiveAvgPool2d(1))
    layers.append(nn.Flatten())
    body = nn.Sequential(*layers).eval()
    for layer in body.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.3, 2.0)
    with torch.no_grad():
        features = body(torch.zeros(1, *SHAPE)).shape[1]
    return nn.Sequential(body, nn.Linear(features, 4)).eval()


def _agree(net: nn.Module, via_onnx: bool) -> None:
    images = torch.randn(2, *SHAPE)
    if via_onnx:
        buffer = io.BytesIO()
        torch.onnx.export(net, (images[:1],), buffer, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
        graph = from_onnx(onnx.load_from_string(buffer.getvalue()))
    else:
        graph = from_torch(net, SHAPE)
    with torch.no_grad():
        expected = net(images)
    got = execute(graph, images)[graph.output]
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-4 * max(1.0, float(expected.abs().max()))


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(networks())
def test_random_networks_through_torch_export(net: nn.Module) -> None:
    _agree(net, via_onnx=False)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(networks())
def test_random_networks_through_onnx(net: nn.Module) -> None:
    _agree(net, via_onnx=True)
