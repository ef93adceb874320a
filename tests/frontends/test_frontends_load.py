"""Models as a user names them; limits of the accelerator; the shared checkpoints."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from bitloom import zoo
from bitloom.errors import GraphError, UnsupportedLayerError
from bitloom.frontends.check import check
from bitloom.frontends.findings import Severity, format_findings
from bitloom.frontends.load import check_model, load_model, load_module
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv

DATA = Path(os.environ.get("BITLOOM_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no data folder {DATA}; set BITLOOM_DATA")


def test_a_zoo_network_loads_with_the_same_weights_every_time() -> None:
    a, b = load_model("digits", None, None), load_model("digits")
    assert a.name == "digits"
    assert np.array_equal(a.nodes[1].op.weight, b.nodes[1].op.weight)


def test_loading_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_model("digits")
    assert torch.equal(torch.rand(1), expected)


def test_classes_follow_the_weights_file(tmp_path: Path) -> None:
    module = zoo.build("resnet20", 4)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    graph = load_model("resnet20", str(tmp_path / "w.pt"))
    assert graph[graph.output].op.weight.shape == (4, 64)


def test_another_image_shape_is_taken() -> None:
    assert load_model("resnet20", image_shape=(3, 16, 16)).input.op.shape == (3, 16, 16)


def test_a_callable_of_the_user_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_model_for_test.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())\nnothing = int\n"
    )
    monkeypatch.chdir(tmp_path)
    graph = load_model("own_model_for_test:net", None, (1, 5, 5))
    assert [n.name for n in graph.nodes] == ["input", "0", "1"]
    assert graph.name == "net"
    with pytest.raises(GraphError, match="give image_shape, for example"):
        load_model("own_model_for_test:net")
    with pytest.raises(GraphError, match=r"returned a int, must return an nn.Module"):
        load_model("own_model_for_test:nothing", None, (1, 5, 5))
    with pytest.raises(GraphError, match=r"cannot be imported: .*has no attribute 'nett'"):
        load_model("own_model_for_test:nett", None, (1, 5, 5))


OWN_ERRORS = """
from torch import nn
def late(): import own_part_for_test; return own_part_for_test.net()
def fails():
    raise RuntimeError("no checkpoint")
def deep():
    return nn.Conv2d(3, 8, 3, groups=2)
def needs(width): return nn.Conv2d(3, width, 3)
number = 3
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fails", r"raised RuntimeError: no checkpoint \(.*own_errors_for_test\.py:5\); it must return an nn.Module"),
        ("deep", r"raised ValueError: in_channels must be divisible by groups \(.*own_errors_for_test\.py:7\)"),
        (
            "needs",
            r"raised TypeError: needs\(\) missing 1 required .*; it must return an nn.Module when called without",
        ),
        ("number", r"raised TypeError: 'int' object is not callable; it must return"),
    ],
)
def test_errors_of_the_users_own_code_are_named(tmp_path: Path, monkeypatch, name: str, text: str) -> None:
    (tmp_path / "own_errors_for_test.py").write_text(OWN_ERRORS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphError, match=text):
        load_model(f"own_errors_for_test:{name}", None, (3, 5, 5))


def test_own_code_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_syntax_for_test.py").write_text("def net(:\n")
    (tmp_path / "own_import_for_test.py").write_text("import no_such_package_x\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphError, match=r"cannot be imported: invalid syntax \(own_syntax_for_test.py, line 1\)"):
        load_model("own_syntax_for_test:net")
    with pytest.raises(GraphError, match=r"No module named 'no_such_package_x' \(.*own_import_for_test.py:1\)"):
        load_model("own_import_for_test:net")
    with pytest.raises(GraphError, match=r"names a file, must name a module; give sub.own_syntax_for_test:net$"):
        load_model("./sub/own_syntax_for_test.py:net")
    with pytest.raises(GraphError, match=r"names a file, .*; give own:net in the folder '/elsewhere'"):
        load_model("/elsewhere/own.py:net")


def test_a_callable_may_import_its_neighbours_when_it_is_called(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "own_late_for_test.py").write_text(OWN_ERRORS)
    part = "from torch import nn\ndef net(): return nn.Conv2d(3, 2, 3)\n"
    (tmp_path / "own_part_for_test.py").write_text(part)
    monkeypatch.chdir(tmp_path)
    assert load_model("own_late_for_test:late", None, (3, 5, 5)).name == "late"


@pytest.mark.parametrize(
    ("spec", "weights", "shape", "text"),
    [
        ("resnet19", None, None, "unknown model 'resnet19'; legal: resnet18, .*digits, a path ending in .onnx, or"),
        ("no_such_package_x:f", None, (1, 2, 2), "cannot be imported: No module named"),
        ("some.onnx", "w.pt", None, "'some.onnx' holds its own weights; leave out 'w.pt'"),
        ("none.onnx", None, None, "'none.onnx' does not exist"),
    ],
)
def test_specs_that_name_nothing(spec: str, weights: str | None, shape: tuple | None, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        load_model(spec, weights, shape)


def _onnx(path: Path) -> Path:
    with pytest.warns(DeprecationWarning):
        torch.onnx.export(nn.Conv2d(2, 3, 3), (torch.zeros(1, 2, 6, 6),), str(path), dynamo=False, input_names=["x"])
    return path


def test_an_onnx_file_loads_and_knows_its_image_shape(tmp_path: Path) -> None:
    path = _onnx(tmp_path / "c.onnx")
    assert load_model(str(path)).name == "c"
    with pytest.raises(GraphError, match=r"'c' takes images of \(2, 6, 6\), not \(2, 8, 8\)"):
        load_model(str(path), None, (2, 8, 8))
    assert [f.severity for f in check(path)] == [Severity.INFO]


LIMITS: list[tuple[nn.Module, tuple[int, int, int], Severity, str]] = [
    (nn.Conv2d(3, 4, 3, 3), (3, 12, 12), Severity.UNSUPPORTED, "stride 3x3, must be 1 or 2: the activation memory"),
    (nn.Conv2d(3, 4, 4, 4), (3, 12, 12), Severity.UNSUPPORTED, "stride 4x4, must be 1 or 2"),
    (nn.Conv2d(3, 4, 1, 3), (3, 12, 12), Severity.UNSUPPORTED, "stride 3x3, must be 1 or 2"),
    (nn.Conv2d(3, 4, 3, (1, 2)), (3, 12, 12), Severity.UNSUPPORTED, "stride 1x2, must be the same in both"),
    (nn.MaxPool2d(3), (3, 12, 12), Severity.UNSUPPORTED, "(MaxPool): stride 3x3"),
    (nn.Conv2d(3, 4, 9, padding=4), (3, 12, 12), Severity.WARNING, "kernel 9x9 is above 7; it runs, tap by tap"),
    (nn.Conv2d(3, 4, 17, padding=8), (3, 20, 20), Severity.WARNING, "takes 289 taps, more than the 256 of the named"),
    (nn.Conv2d(3, 4, 23, padding=11), (3, 30, 30), Severity.UNSUPPORTED, "takes 529 taps, but no build holds more"),
    (nn.AdaptiveAvgPool2d(1), (3, 24, 24), Severity.UNSUPPORTED, "the mean over a map of 24x24 takes 576 taps"),
    (nn.Sequential(nn.Flatten(), nn.Linear(300, 2)), (1, 20, 15), Severity.WARNING, "layer over a map of 20x15"),
    (nn.AvgPool2d(2, 2, ceil_mode=True), (3, 5, 5), Severity.UNSUPPORTED, "the divisor would vary"),
    (nn.ReLU(), (1, 5000, 2), Severity.UNSUPPORTED, "5000 rows, at most 4095"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "shape", "severity", "text"), LIMITS)
def test_limits_of_the_accelerator_are_found(
    module: nn.Module, shape: tuple[int, int, int], severity: Severity, text: str
) -> None:
    found = check(module, shape)
    first = found[0]
    assert first.severity is severity
    assert text in str(first)
    assert first.advice
    assert found[-1].severity is Severity.INFO


def test_a_pool_over_a_whole_map_of_any_size_is_fine() -> None:
    assert [f.severity for f in check(nn.AvgPool2d(7), (3, 7, 7))] == [Severity.INFO]
    assert [f.severity for f in check(nn.AvgPool2d(2, 2, ceil_mode=True), (3, 6, 6))] == [Severity.INFO]


def test_load_model_lists_limits_that_from_torch_lets_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strided_model_for_test.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Conv2d(1, 2, 3, 3), nn.ReLU(), nn.MaxPool2d(3, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsupportedLayerError) as caught:
        load_model("strided_model_for_test:net", None, (1, 32, 32))
    assert re.match("model 'net': 2 layers are not supported\n  '0' .*\n  '2' ", str(caught.value))
    found = check_model("strided_model_for_test:net", None, (1, 32, 32))
    assert [f.name for f in found] == ["0", "2", "net"]
    assert len(from_torch(load_module("strided_model_for_test:net"), (1, 32, 32)).nodes) == 4


def test_a_module_needs_an_image_shape() -> None:
    with pytest.raises(GraphError, match="is a module: give image_shape"):
        check(nn.ReLU())


def test_the_summary_counts_macs_and_parameters() -> None:
    text = format_findings(check_model("resnet18"))
    assert text == (
        "info: 'resnet18' (summary): 21 layers with weights, 11,684,712 parameters, 1,814,073,344 MACs for an image of "
        "3x224x224"
    )


@pytest.mark.data
@needs_data
def test_shared_resnet18_recognises_images() -> None:
    graph = load_model("resnet18", str(DATA / "imagenet/weights/resnet18_hybrid.npz"))
    info = zoo.info("resnet18")
    rows = (DATA / "imagenet/val/labels.txt").read_text().split("\n")[:24]
    images, labels = [], []
    for row in rows:
        file, label = row.split()
        pixels = np.asarray(Image.open(DATA / "imagenet/val" / file).convert("RGB"), np.float32) / 255
        images.append(torch.from_numpy(pixels[16:240, 16:240].copy()).permute(2, 0, 1))
        labels.append(int(label))
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (info.mean, info.std))
    logits = execute(graph, (torch.stack(images) - mean) / std)[graph.output]
    right = int((logits.argmax(1) == torch.tensor(labels)).sum())
    assert logits.shape == (24, 1000)
    assert right >= 11  # 15.8 expected at 65.67 %, standard deviation 2.3


@pytest.mark.data
@needs_data
@pytest.mark.parametrize(("name", "file"), [("resnet20", "resnet20-12fca82f.th"), ("resnet56", "resnet56-4bfd9763.th")])
def test_shared_cifar_networks_recognise_images(name: str, file: str) -> None:
    graph = load_model(name, str(DATA / "cifar10/weights" / file))
    info = zoo.info(name)
    pixels = np.asarray(Image.open(DATA / "cifar10/png/cifar10_batch_50.png").convert("RGB"), np.float32)[:100] / 255
    numbers = re.findall(r"\d+", (DATA / "cifar10/png/cifar10_labels.js").read_text().partition("[")[2])
    labels = torch.tensor([int(n) for n in numbers[50_000:50_100]])
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (info.mean, info.std))
    images = (torch.from_numpy(pixels).reshape(100, 32, 32, 3).permute(0, 3, 1, 2) - mean) / std
    logits = execute(graph, images)[graph.output]
    assert int((logits.argmax(1) == labels).sum()) >= 85


def test_the_identity_rewrite_keeps_resnet20_exact() -> None:
    graph = load_model("resnet20")
    shortcuts = [n for n in graph.nodes if isinstance(n.op, Conv) and n.op.weight.shape[2:] == (1, 1)]
    assert [n.op.weight.shape[:2] for n in shortcuts] == [(32, 16), (64, 32)]
    assert all(set(np.unique(n.op.weight)) == {0.0, 1.0} and n.op.stride == (2, 2) for n in shortcuts)
