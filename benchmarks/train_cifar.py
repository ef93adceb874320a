"""Trains VGG-16 and ResNet-34 on CIFAR-10's 50 000 JPEG images: `make train-cifar`.

Needs BITLOOM_DATA. Small images first (progressive resizing), then the whole 32x32 ones; ResNet-34 begins with one
block a stage, the others joining as identities; SGD with Nesterov momentum, a rate that rises and falls once, label
smoothing, mirrored and shifted images, convolutions in bfloat16 where the processor has it. Every random draw depends
on the seed and the step alone: a run that was interrupted continues to the same weights. BatchNorm's statistics are
measured anew at the end, in float32 on whole training images. The 10 000 test images are measured once, after the last
step; nothing is chosen on them.

    python benchmarks/train_cifar.py [--networks vgg16_cifar resnet34_cifar] [--device cuda]

or under `torchrun --nproc-per-node N`. Weights go to `journey.CIFAR_WEIGHTS`, where the other benchmarks look for them;
figures to benchmarks/results/train_cifar.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import journey
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom import zoo
from bitloom.data.cifar import normalise, read_jpeg
from bitloom.errors import DataError, TrainingError
from bitloom.quantize.checkpoint import load_checkpoint, save_checkpoint
from bitloom.quantize.parallel import Group, process_group

SHIFT = 4  #: pixels that an image is moved by at most


@dataclass(frozen=True)
class Recipe:
    """stages: (side of the images in pixels, epochs at it, residual blocks of each stage that take part: 0 for all), in
    order. peak: the highest learning rate, reached after `warmup` of all steps and falling to 0 in a straight line.
    every: steps between checkpoints."""

    stages: tuple[tuple[int, float, int], ...]
    peak: float = 0.1
    warmup: float = 0.2
    batch: int = 128
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.1
    every: int = 100
    seed: int = 0

    def steps(self, count: int) -> list[tuple[int, int]]:
        """Side of the images and blocks of every step, for `count` training images."""
        return [(side, blocks) for side, n, blocks in self.stages for _ in range(round(n * count / self.batch))]


RECIPES = {
    "vgg16_cifar": Recipe(((16, 4.0, 0), (24, 2.0, 0), (32, 2.5, 0))),
    "resnet34_cifar": Recipe(((16, 3.0, 1), (16, 3.0, 0), (24, 0.5, 0), (32, 0.35, 0))),
}


def train(
    module: nn.Module,
    pixels: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    checkpoint: Path | None = None,
    device: str = "cpu",
    report: Callable[[int, int, float, float], None] | None = None,
) -> None:
    """Trains in place on uint8 (N, 32, 32, 3) with int64 (N,) labels, and measures BatchNorm's statistics anew.

    checkpoint: continued from when it exists. report: called with step, steps, mean loss, images a second. Raises
    DataError (too few images, a checkpoint of another run) and TrainingError when the loss is not a finite number.
    """
    if len(pixels) < recipe.batch:
        raise DataError(f"{len(pixels)} images for batches of {recipe.batch}; give more images or a smaller batch")
    steps = recipe.steps(len(pixels))
    with process_group(device) as group:
        module.to(group.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        round_pools_up(module)
        optimizer = _optimizer(module, recipe)
        identity = f"{recipe} {pixels.shape} {int(pixels.sum())} {int(labels.sum())}"
        first: int = 0
        losses: list[float] = []
        if checkpoint is not None and checkpoint.exists():
            first, losses = load_checkpoint(checkpoint, identity, module, optimizer)
        model, depth = group.wrap(module), 0
        since, total, count = time.perf_counter(), 0.0, 0
        for step in range(first, len(steps)):
            side, blocks = steps[step]
            if blocks != depth:
                take_blocks(module, blocks)
                model, depth = group.wrap(module), blocks
            for part in optimizer.param_groups:
                part["lr"] = recipe.peak * _rate((step + 1) / len(steps), recipe.warmup)
            x, y = _batch(pixels, labels, step, side, recipe, group)
            total += _step(model, optimizer, x, y, step, recipe, group.device)
            count += 1
            if count == recipe.every or step + 1 == len(steps):
                losses.append(group.mean(total / count))
                if group.rank == 0 and report is not None:
                    report(step + 1, len(steps), losses[-1], count * recipe.batch / (time.perf_counter() - since))
                if group.rank == 0 and checkpoint is not None:
                    save_checkpoint(checkpoint, identity, step + 1, losses, module, optimizer)
                since, total, count = time.perf_counter(), 0.0, 0
        take_blocks(module, 0)
        _measure_norms(module, pixels, recipe, group.device)
        module.to("cpu").eval()


def round_pools_up(module: nn.Module) -> None:
    """Nothing changes at 32x32; at smaller sides the last pools of VGG-16 would have nothing left."""
    for pool in module.modules():
        if isinstance(pool, nn.MaxPool2d):
            pool.ceil_mode = True


def take_blocks(module: nn.Module, count: int) -> None:
    """Only the first `count` residual blocks of each stage compute and learn; 0: all.

    A block whose last BatchNorm has the scale 0 changes nothing, so that it can join later as if it had been there all
    the time (after Net2Net, Chen et al., 2016).
    """
    for stage in module.children():
        if isinstance(stage, nn.Sequential) and hasattr(stage[0], "bn2"):
            for index, block in enumerate(stage):
                idle = 0 < count <= index
                block.requires_grad_(not idle)
                block.__dict__.pop("forward", None)
                if idle:
                    block.forward = _same


def _same(x: Tensor) -> Tensor:
    return x


def _rate(progress: float, warmup: float) -> float:
    """Share of the highest learning rate at a share of all steps."""
    return progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay on the weights of convolutions and linear layers only."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=recipe.peak, momentum=recipe.momentum, nesterov=True)


def _batch(
    pixels: np.ndarray, labels: np.ndarray, step: int, side: int, recipe: Recipe, group: Group
) -> tuple[Tensor, Tensor]:
    """Images of a step, mirrored, shifted and made smaller; every epoch is a permutation of its own."""
    per_epoch = len(pixels) // recipe.batch
    epoch, at = divmod(step, per_epoch)
    order = np.random.default_rng([recipe.seed, 0, epoch]).permutation(len(pixels))
    chosen = order[at * recipe.batch : (at + 1) * recipe.batch]
    rng = np.random.default_rng([recipe.seed, 1, step])
    tops, lefts = rng.integers(0, 2 * SHIFT + 1, (2, recipe.batch))
    mirrored = rng.random(recipe.batch) < 0.5
    own = slice(group.rank, None, group.size)
    chosen, tops, lefts, mirrored = chosen[own], tops[own], lefts[own], mirrored[own]
    padded = np.pad(pixels[chosen], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), "reflect")
    rows = tops[:, None] + np.arange(32)
    columns = np.where(mirrored[:, None], lefts[:, None] + np.arange(31, -1, -1), lefts[:, None] + np.arange(32))
    moved = padded[np.arange(len(chosen))[:, None, None], rows[:, :, None], columns[:, None, :]]
    x = normalise(moved)
    if side != 32:
        x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    return x.to(group.device).contiguous(memory_format=torch.channels_last), torch.from_numpy(labels[chosen])


def has_bfloat16(device: str) -> bool:
    """The device multiplies bfloat16 itself. A processor that does not emulates it: a third of float32's speed."""
    return torch.device(device).type != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    step: int,
    recipe: Recipe,
    device: str,
) -> float:
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=has_bfloat16(device)):
        logits = model(x)
    loss = F.cross_entropy(logits.float(), y.to(device), label_smoothing=recipe.smoothing)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(f"step {step}: the loss is {value}; lower the highest learning rate ({recipe.peak:g})")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value


def _measure_norms(module: nn.Module, pixels: np.ndarray, recipe: Recipe, device: str, images: int = 5000) -> None:
    """Running means and variances of BatchNorm over whole training images, in float32."""
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
    chosen = np.random.default_rng([recipe.seed, 2]).permutation(len(pixels))[:images]
    module.train()
    with torch.no_grad():
        for part in np.array_split(chosen, max(1, len(chosen) // 250)):
            module(normalise(pixels[part]).to(device).contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum


def top1(module: nn.Module, pixels: np.ndarray, labels: np.ndarray) -> float:
    """Per cent, in float32."""
    hits = 0
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        for at in range(0, len(pixels), 250):
            hits += int((module(normalise(pixels[at : at + 250])).argmax(1).numpy() == labels[at : at + 250]).sum())
    return 100.0 * hits / len(pixels)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    archive = journey.DATA / "cifar10" / "cifar10_jpeg.tar.gz"
    pixels, labels, _ = read_jpeg(archive, test=False)
    for network in args.networks:
        torch.manual_seed(RECIPES[network].seed)
        module = zoo.build(network)
        quiet_branches(module)
        since = time.perf_counter()
        checkpoint = journey.CIFAR_WEIGHTS / f"{network}.training"
        train(module, pixels, labels, RECIPES[network], checkpoint, args.device, _print(network))
        if int(os.environ.get("RANK", "0")) == 0:
            torch.save(module.state_dict(), journey.CIFAR_WEIGHTS / f"{network}.pt")
            test_pixels, test_labels, _ = read_jpeg(archive, test=True)
            _write(network, top1(module, test_pixels, test_labels), len(test_labels), time.perf_counter() - since, args)
    return 0


def quiet_branches(module: nn.Module) -> None:
    """Residual blocks begin as the identity (Goyal et al., 2017): the scale of their last BatchNorm is 0."""
    for block in module.modules():
        if isinstance(norm := getattr(block, "bn2", None), nn.BatchNorm2d):
            nn.init.zeros_(norm.weight)


def _print(network: str) -> Callable[[int, int, float, float], None]:
    def line(step: int, steps: int, loss: float, speed: float) -> None:
        now = time.strftime("%H:%M:%S")
        print(
            f"{now} {network}: step {step} of {steps}, loss {loss:.4f}, {speed:.0f} img/s", file=sys.stderr, flush=True
        )

    return line


def _write(network: str, percent: float, count: int, seconds: float, args: argparse.Namespace) -> None:
    recipe = RECIPES[network]
    path = journey.RESULTS / "train_cifar.json"
    rest = json.loads(path.read_text())["rows"] if path.is_file() else []
    row = {
        "network": network,
        "top1": percent,
        "n": count,
        "data": "cifar10_test_jpeg",
        "stages": [list(stage) for stage in recipe.stages],
        "batch": recipe.batch,
        "peak_rate": recipe.peak,
        "seed": recipe.seed,
        "seconds_of_last_start": seconds,
        "machine": f"{journey.machine()}, {torch.get_num_threads()} thread, {args.device}",
        "convolutions": "bfloat16" if has_bfloat16(args.device) else "float32",
    }
    rows = sorted([r for r in rest if r["network"] != network] + [row], key=lambda r: str(r["network"]))
    journey.write_result("train_cifar", {"command": "make train-cifar", "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
