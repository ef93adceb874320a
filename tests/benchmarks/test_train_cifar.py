"""The training recipe of the CIFAR networks: deterministic, continues after an interruption, refuses what cannot be."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bitloom import zoo
from bitloom.errors import DataError, TrainingError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
recipe_of = importlib.import_module("train_cifar")
RECIPE = recipe_of.Recipe(((8, 1.0), (32, 1.0)), peak=0.02, warmup=0.4, batch=8, every=2)


def _images(n: int = 32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, n)
    pixels = rng.integers(0, 60, (n, 32, 32, 3)) + 19 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels


def _network() -> nn.Module:
    torch.manual_seed(0)
    module = zoo.build("resnet20")
    recipe_of.begin(module, {})
    return module


def _run(module: nn.Module, recipe: object = RECIPE, **more: object) -> dict[str, torch.Tensor]:
    recipe_of.train(module, *_images(), recipe, **more)
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_an_interrupted_training_continues_to_the_same_weights(tmp_path: Path) -> None:
    whole = _run(_network())

    class Stop(Exception):
        pass

    def interrupt(step: int, steps: int, loss: float, speed: float) -> None:
        assert steps == 8
        if step == 6:
            raise Stop

    file = tmp_path / "run"
    with pytest.raises(Stop):
        _run(_network(), checkpoint=file, report=interrupt)
    seen: list[int] = []
    continued = _run(_network(), checkpoint=file, report=lambda step, *_: seen.append(step))
    assert seen == [6, 8] and all(torch.equal(whole[k], continued[k]) for k in whole)
    with pytest.raises(DataError, match="a checkpoint of other options, images or another network"):
        _run(_network(), replace(RECIPE, seed=1), checkpoint=file)


def test_batchnorm_is_measured_on_whole_images_in_float32() -> None:
    module = _network()
    _run(module)
    pixels, _ = _images()
    seen: list[torch.Tensor] = []
    module.conv1.register_forward_hook(lambda _, __, out: seen.append(out.double()))
    with torch.no_grad():
        module(recipe_of.normalise(pixels))
    torch.testing.assert_close(module.bn1.running_mean.double(), seen[0].mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_batches_are_shifted_and_mirrored_images_with_their_labels() -> None:
    pixels, labels = _images()
    group = recipe_of.Group(0, 1, "cpu")
    x, y = recipe_of._batch(pixels, labels, 1, 32, RECIPE, group)
    again, _ = recipe_of._batch(pixels, labels, 1, 32, RECIPE, group)
    assert x.shape == (8, 3, 32, 32) and torch.equal(x, again)
    for image, label in zip(x, y, strict=True):
        assert any(
            torch.equal(recipe_of.normalise(p[None, i : i + 32, j : j + 32][..., ::step, :])[0], image)
            for p in np.pad(pixels[labels == int(label)], ((0, 0), (4, 4), (4, 4), (0, 0)), "reflect")
            for i in range(9)
            for j in range(9)
            for step in (1, -1)
        )
    halves = [recipe_of._batch(pixels, labels, 1, 8, RECIPE, recipe_of.Group(rank, 2, "cpu"))[1] for rank in (0, 1)]
    assert torch.equal(torch.stack(halves, 1).flatten(), y)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(DataError, match="32 images for batches of 64; give more images or a smaller batch"):
        _run(_network(), replace(RECIPE, batch=64))
    module = _network()
    nn.init.constant_(module.linear.bias, float("nan"))
    with pytest.raises(TrainingError, match=r"step 0: the loss is nan; lower the highest learning rate \(0.02\)"):
        _run(module)


def test_pools_of_vgg_keep_small_images_alive() -> None:
    torch.manual_seed(0)
    module = zoo.build("vgg16_cifar")
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = module.eval()(x).detach()
    recipe_of.round_pools_up(module)
    assert torch.equal(module(x), before) and module(x[:, :, :16, :16]).shape == (2, 10)


def test_blocks_begin_as_a_shallower_network_or_as_identities() -> None:
    torch.manual_seed(0)
    shallow = zoo.build("resnet18").eval()
    with torch.no_grad():
        for norm in (m for m in shallow.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.weight.uniform_(0.5, 1.5)
            norm.running_mean.uniform_(-1, 1)
    deep = zoo.build("resnet34_cifar").eval()
    recipe_of.begin(deep, shallow.state_dict())
    x = torch.rand(1, 64, 8, 8, generator=torch.Generator().manual_seed(1))
    for name in ("layer1", "layer2", "layer3", "layer4"):
        expected = getattr(shallow, name)(x).detach()
        assert torch.equal(getattr(deep, name)(x), expected)
        x = expected
    stem, pooled = shallow.conv1.weight, deep.conv1.weight
    torch.testing.assert_close(pooled[:, :, 1, 1], stem[:, :, 2:5, 2:5].mean(dim=(2, 3)))
    assert deep.fc.weight.shape == (10, 512)  # the classes are others: its own first weights stay
    deep.layer1(torch.rand(1, 64, 8, 8)).sum().backward()
    assert deep.layer1[2].bn2.weight.grad is not None  # an identity learns


def test_idle_blocks_take_over_a_share_of_their_neighbours_work() -> None:
    torch.manual_seed(0)
    deep = zoo.build("resnet34_cifar").eval()
    recipe_of.begin(
        deep, {key: value for key, value in zoo.build("resnet18").state_dict().items() if "conv1.w" not in key}
    )
    with torch.no_grad():
        for name in ("layer1", "layer2", "layer3", "layer4"):
            for block in list(getattr(deep, name))[:2]:
                block.bn2.weight.fill_(1.0)
                block.bn2.bias.uniform_(-0.05, 0.05)
                block.bn2.running_var.fill_(30.0)
    x = torch.rand(1, 64, 8, 8, generator=torch.Generator().manual_seed(1))
    before, untouched = deep.layer3(deep.layer2(deep.layer1(x))), deep.layer3[0].conv1.weight.clone()
    recipe_of.share_work(deep)
    after = deep.layer3(deep.layer2(deep.layer1(x)))
    assert 0 < (after - before).norm() < 0.05 * before.norm()
    for stage, busy in ((deep.layer1, 2), (deep.layer2, 3), (deep.layer3, 5), (deep.layer4, 2)):
        shared = list(stage)[1:]
        assert len(shared) == busy and all(torch.equal(b.conv2.weight, shared[0].conv2.weight) for b in shared)
        torch.testing.assert_close(sum(b.bn2.weight for b in shared), torch.ones_like(shared[0].bn2.weight))
    assert torch.equal(deep.layer3[0].conv1.weight, untouched)
    state = {key: value.clone() for key, value in deep.state_dict().items()}
    recipe_of.share_work(deep)  # nobody is idle any more
    assert all(torch.equal(value, state[key]) for key, value in deep.state_dict().items())


def test_rates_rise_and_fall_once() -> None:
    rates = [recipe_of._rate((step + 1) / 100, 0.2) for step in range(100)]
    assert max(rates) == rates[19] == 1.0 and rates[-1] == 0.0
    assert np.all(np.diff(rates[:20]) > 0) and np.all(np.diff(rates[19:]) < 0)
