"""What cannot be imported: every layer at once, with reason and advice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.errors import GraphError, UnsupportedLayerError, WeightsError
from bitloom.frontends.check import check
from bitloom.frontends.findings import Severity
from bitloom.frontends.torch_export import from_torch

SHAPE = (4, 8, 8)


class Apply(nn.Module):
    """A convolution 'conv', then a function of its output."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 3, dilation=2)), r"dilation = \(2, 2\); use a larger dense kernel"),
        (nn.Sequential(nn.ConvTranspose2d(4, 4, 2)), r"'0' \(conv_transpose2d\): is a transposed convolution"),
        (nn.Sequential(nn.SiLU()), r"'0' \(silu\): is an activation other than ReLU; replace it by ReLU"),
        (nn.Sequential(nn.LeakyReLU()), "other than ReLU"),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)), "statistics of the batch"),
        (Apply(lambda y: y * y), r"mul.*multiplies activations"),
        (Apply(lambda y: y * torch.ones(8)), r"multiplies by a constant of shape \(8,\); multiply by one value per"),
        (Apply(lambda y: y / y.relu()), r"multiplies activations"),
        (Apply(lambda y: y / 0.0), "divides by zero; divide by one value other than 0"),
        (Apply(lambda y: y - y.relu()), r"sub.*subtracts; fold the minus sign into a convolution"),
        (Apply(lambda y: y.permute(0, 2, 3, 1)), r"permute.*reorders axes; keep \(N, C, H, W\)"),
        (Apply(lambda y: y.clamp(max=6)), r"clamps to None..6"),
        (Apply(lambda y: y.relu().clamp(min=0.5)), r"clamps to 0.5..None"),
        (Apply(lambda y: F.threshold(y, 1.0, 0.0)), r"replaces values up to 1.0 by 0.0; use ReLU"),
        (Apply(lambda y: torch.maximum(y, y.relu())), r"takes the larger of two values; only max\(x, 0\)"),
        (Apply(lambda y: y * y.mean((2, 3), keepdim=True)), "multiplies activations"),
        (Apply(lambda y: torch.add(y, y, alpha=2)), "alpha = 2"),
        (Apply(lambda y: y + y.mean((2, 3), keepdim=True)), r"broadcasts \(1, 4, 8, 8\) and \(1, 4, 1, 1\)"),
        (Apply(lambda y: y + torch.ones(8)), r"adds a constant of shape \(8,\); add one value per channel"),
        (Apply(lambda y: torch.split(y, 2, 1)[1]), "split"),
        (Apply(lambda y: y.clamp(-1, 1)), "clamps to -1..1"),
        (Apply(lambda y: F.dropout(y)), "drops values in inference too; use nn.Dropout"),
        (Apply(lambda y: y.mean(1)), r"mean over dimensions \[1\]"),
        (Apply(lambda y: y[:, :2]), "slices dimension 1 of"),
        (Apply(lambda y: y[:, :, 1::2]), "from 1 to"),
        (Apply(lambda y: F.pad(y, (1, 1, 1, 1), mode="reflect")), "mode 'reflect'"),
        (Apply(lambda y: F.pad(y, (1, 1), value=2.0)), "value 2.0; pad with zeros"),
        (Apply(lambda y: F.pad(y, (-1, -1))), r"pads by \[-1, -1\]"),
        (Apply(lambda y: torch.cat([y, y], 2)), "along dimension 2; concatenate channels"),
        (Apply(lambda y: torch.cat([y, torch.ones(1, 1, 8, 8)], 1)), "concatenates constants"),
        (Apply(lambda y: y.reshape(1, 2, 2, 8, 8).transpose(1, 2).reshape(1, 4, 8, 8)), "transpose"),
        (Apply(lambda y: y.flatten()), r"reshapes to \(256,\), which mixes the batch in"),
        (Apply(lambda y: y.reshape(1, 8, 4, 8)), r"reshapes \(4, 8, 8\) to \(8, 4, 8\); only flattening"),
        (Apply(lambda y: F.linear(y, torch.ones(3, 8))), r"reads a tensor of shape \(1, 4, 8, 8\); flatten"),
        (Apply(lambda y: F.softmax(y, 1)), "is a softmax that is not the last layer .*; return logits"),
        (
            Apply(lambda y: F.linear(F.softmax(y.flatten(1), 1), torch.ones(3, 256))),
            "is a softmax that is not the last",
        ),
        (Apply(lambda y: F.interpolate(y, scale_factor=2)), "interpolation"),
        (Apply(lambda y: F.max_pool2d(y, 2, return_indices=True)[1].float()), "its second output is used"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), "dilation"),
        (nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False)), "count_include_pad = False with padding"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), "divisor_override = 3"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(3)), "pools 8x8 to 3x3, which does not divide evenly"),
        (nn.Sequential(nn.LayerNorm([4, 8, 8])), "statistics of the image"),
    ],
)
def test_each_unsupported_layer_has_a_reason_and_advice(module: nn.Module, text: str) -> None:
    with pytest.raises(UnsupportedLayerError, match=text):
        from_torch(module, SHAPE)


def test_all_unsupported_layers_are_listed_at_once() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 3, 1, 3, 3), nn.SiLU(), nn.Conv2d(4, 4, 3, dilation=2), nn.Sigmoid())
    with pytest.raises(UnsupportedLayerError) as caught:
        from_torch(net, SHAPE, "bad")
    lines = str(caught.value).splitlines()
    assert lines[0] == "model 'bad': 4 layers are not supported"
    assert [line.split("'")[1] for line in lines[1:]] == ["0", "1", "2", "3"]
    found = check(net, SHAPE)
    assert [finding.name for finding in found] == ["0", "1", "2", "3"]
    assert {finding.severity for finding in found} == {Severity.UNSUPPORTED}
    assert all(finding.reason and finding.advice for finding in found)


def test_an_affine_map_of_too_many_values_gets_no_layer_of_its_own() -> None:
    net = nn.Sequential(nn.Conv2d(4, 65, 1), nn.Flatten(), nn.BatchNorm1d(65 * 64))
    with pytest.raises(UnsupportedLayerError, match=r"'2' \(scale and shift\): scales 4160 values, so it cannot be"):
        from_torch(net, SHAPE)


class Sources(nn.Module):
    """A stride of 3 before, and a mean over too large a map behind, layers that cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1, 3)
        self.dilated = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.norm(self.dilated(self.first(x))))
        return self.last(F.avg_pool2d(y, 2, (1, 2)).mean((2, 3)))


def test_the_accelerators_limits_are_listed_beside_layers_that_cannot_be_read(tmp_path: Path) -> None:
    """Through both front ends; batch normalization behind a layer that cannot be read is no finding of its own."""
    net, path = Sources().eval(), tmp_path / "net.onnx"
    torch.onnx.export(
        net, (torch.zeros(1, 4, 100, 100),), path, dynamo=False, dynamic_axes={"x": [0]}, input_names=["x"]
    )
    for found in (check(net, (4, 100, 100)), check(path)):
        reasons = "\n".join(map(str, found))
        assert {finding.severity for finding in found} == {Severity.UNSUPPORTED}
        assert "'first' (Conv): stride 3x3, must be 1 or 2" in reasons and "dilation = (2, 2)" in reasons
        assert "stride 1x2, must be the same" in reasons and "a map of 33x17 takes 561 taps" in reasons
        assert "BatchNorm" not in reasons and "other than ReLU" in reasons


def test_layers_that_do_not_reach_the_output_do_not_matter() -> None:
    def forward(y: Tensor) -> Tensor:
        F.silu(y)
        return F.relu(y)

    assert len(from_torch(Apply(forward), SHAPE).nodes) == 3


@pytest.mark.parametrize(
    ("module", "shape", "error", "text"),
    [
        (
            nn.Conv2d(3, 4, 3),
            (4, 8, 8),
            GraphError,
            r"fails on an image of shape \(4, 8, 8\): .* \(--shape\) right",
        ),
        (nn.Conv2d(4, 4, 3), (4, 8), GraphError, r"image_shape \(4, 8\), must be \(C, H, W\)"),
        (Apply(lambda y: (y, y)), SHAPE, GraphError, "returns a tuple, must return one tensor"),
        (Apply(lambda y: torch.ones(1, 3)), SHAPE, GraphError, "returns a constant"),
        (Apply(lambda y: y if y.sum() > 0 else -y), SHAPE, UnsupportedLayerError, "cannot be traced by torch.export"),
        (nn.Conv2d(4, 4, 3, device="meta"), SHAPE, WeightsError, "on the meta device and has no weights"),
    ],
)
def test_models_that_do_not_run(module: nn.Module, shape: tuple, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        from_torch(module, shape)


def test_a_loaded_export_is_a_module_like_others(tmp_path: Path) -> None:
    """Its mode cannot be set; it was fixed when it was exported."""
    net = nn.Sequential(nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout()).eval()
    torch.export.save(torch.export.export(net, (torch.zeros(1, *SHAPE),)), tmp_path / "net.pt2")
    loaded = from_torch(torch.export.load(tmp_path / "net.pt2").module(), SHAPE)
    assert len(loaded.nodes) == len(from_torch(net, SHAPE).nodes) == 3


def test_torchscript_is_named() -> None:
    with pytest.raises(UnsupportedLayerError, match="'net' is TorchScript; give the nn"):
        from_torch(torch.jit.trace(nn.Conv2d(4, 3, 3), torch.zeros(1, *SHAPE)), SHAPE, "net")


def test_weights_that_are_not_finite_name_the_layer() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    net[0].weight.data[2, 1] = float("nan")
    with pytest.raises(WeightsError, match=r"'0': 1 of 16 values of its weight are NaN .* index \(2, 1, 0, 0\)"):
        from_torch(net, SHAPE)


def test_data_dependent_control_flow_is_a_finding_too() -> None:
    (found,) = check(Apply(lambda y: y if y.sum() > 0 else -y), SHAPE, "net")
    assert found.severity is Severity.UNSUPPORTED
    assert "torch.export" in found.reason
