"""Trains VGG-16 and ResNet-34 on CIFAR-10's 50 000 JPEG images: `make train-cifar`.

Needs BITLOOM_DATA. Small images first (progressive resizing), then the whole 32x32 ones; ResNet-34 begins with the
blocks that ResNet-18 learned on ImageNet, its other blocks as identities, and is trained a second time after those have
taken over a share of their neighbours' work; SGD with Nesterov momentum, a rate that
rises and falls once, label smoothing, mirrored and shifted images, convolutions in bfloat16 where the processor has
it. Every random draw depends on the seed and the step alone: a run that was interrupted continues to the same
weights. BatchNorm's statistics are measured anew at the end, in float32 on whole training images. The 10 000 test
images are measured once, after the last step; nothing is chosen on them.

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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
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
from bitloom.frontends.weights import load_state_dict
from bitloom.quantize.checkpoint import load_checkpoint, save_checkpoint
from bitloom.quantize.parallel import Group, has_bfloat16, process_group

SHIFT = 4  #: pixels that an image is moved by at most


@dataclass(frozen=True)
class Recipe:
    """stages: (side of the images in pixels, epochs at it), in order. start: weights of another network below the data
    folder, taken where they fit. share: idle blocks first take over a share of their neighbours' work. peak: the
    highest learning rate, reached after `warmup` of all steps and falling to 0 in a straight line. every: steps between
    checkpoints."""

    stages: tuple[tuple[int, float], ...]
    start: str | None = None
    share: bool = False
    peak: float = 0.1
    warmup: float = 0.2
    batch: int = 128
    momentum: float = 0.9
    decay: float = 5e-4
    smoothing: float = 0.1
    every: int = 100
    seed: int = 0

    def sides(self, count: int) -> list[int]:
        """Side of the images at every step, for `count` training images."""
        return [side for side, epochs in self.stages for _ in range(round(epochs * count / self.batch))]


#: trained one after the other
RECIPES = {
    "vgg16_cifar": (Recipe(((16, 4.0), (24, 2.0), (32, 2.5))),),
    "resnet34_cifar": (
        Recipe(((24, 0.5), (32, 1.2)), start="imagenet/weights/resnet18_hybrid.npz", peak=0.006),
        Recipe(((24, 1.15), (32, 1.0)), share=True, peak=0.01, warmup=0.1, seed=1),
    ),
}
IDLE = 0.05  #: a block is idle where the mean scale of its last BatchNorm is below this share of the stage's largest


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
    sides = recipe.sides(len(pixels))
    with process_group(device) as group:
        module.to(group.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        round_pools_up(module)
        optimizer = _optimizer(module, recipe)
        identity = f"{recipe} {pixels.shape} {int(pixels.sum())} {int(labels.sum())}"
        first: int = 0
        losses: list[float] = []
        if checkpoint is not None and checkpoint.exists():
            first, losses = load_checkpoint(checkpoint, identity, module, optimizer)
        model = group.wrap(module)
        since, total, count = time.perf_counter(), 0.0, 0
        for step in range(first, len(sides)):
            for part in optimizer.param_groups:
                part["lr"] = recipe.peak * _rate((step + 1) / len(sides), recipe.warmup)
            x, y = _batch(pixels, labels, step, sides[step], recipe, group)
            total += _step(model, optimizer, x, y, step, recipe, group.device)
            count += 1
            if count == recipe.every or step + 1 == len(sides):
                losses.append(group.mean(total / count))
                if group.rank == 0 and report is not None:
                    report(step + 1, len(sides), losses[-1], count * recipe.batch / (time.perf_counter() - since))
                if group.rank == 0 and checkpoint is not None:
                    save_checkpoint(checkpoint, identity, step + 1, losses, module, optimizer)
                since, total, count = time.perf_counter(), 0.0, 0
        _measure_norms(module, pixels, recipe, group.device)
        module.to("cpu").eval()


def round_pools_up(module: nn.Module) -> None:
    """Nothing changes at 32x32; at smaller sides the last pools of VGG-16 would have nothing left."""
    for pool in module.modules():
        if isinstance(pool, nn.MaxPool2d):
            pool.ceil_mode = True


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
        first = RECIPES[network][0]
        torch.manual_seed(first.seed)
        module = zoo.build(network)
        begin(module, load_state_dict(journey.DATA / first.start) if first.start else {})
        since = time.perf_counter()
        for number, recipe in enumerate(RECIPES[network]):
            checkpoint = journey.CIFAR_WEIGHTS / f"{network}{number or ''}.training"
            if recipe.share:
                share_work(module)
            train(module, pixels, labels, recipe, checkpoint, args.device, _print(network))
        if int(os.environ.get("RANK", "0")) == 0:
            torch.save(module.state_dict(), journey.CIFAR_WEIGHTS / f"{network}.pt")
            test_pixels, test_labels, _ = read_jpeg(archive, test=True)
            _write(network, top1(module, test_pixels, test_labels), len(test_labels), time.perf_counter() - since, args)
    return 0


def begin(module: nn.Module, learned: Mapping[str, Tensor]) -> None:
    """Residual blocks begin as the identity (the scale of their last BatchNorm is 0, Goyal et al., 2017), but those
    that a shallower network of the same widths has learned begin with its weights (after Net2Net, Chen et al., 2016).

    learned: its weights by torchvision's keys. What has another name or shape is left out, but for the stem, whose
    larger kernel is pooled to the size of the network's own (images are smaller, and so are their edges).
    """
    for block in module.modules():
        if isinstance(norm := getattr(block, "bn2", None), nn.BatchNorm2d):
            nn.init.zeros_(norm.weight)
    own = module.state_dict()
    fitting = {key: value for key, value in learned.items() if key in own and own[key].shape == value.shape}
    if "conv1.weight" in learned and "conv1.weight" not in fitting:
        fitting["conv1.weight"] = F.adaptive_avg_pool2d(learned["conv1.weight"].float(), own["conv1.weight"].shape[2:])
    module.load_state_dict(fitting, strict=False)


def share_work(module: nn.Module) -> None:
    """Idle residual blocks become copies of their stage's last busy one, and all of these divide its branch evenly.

    x + h(x) is one step of an ordinary differential equation, and m steps of h / m come to nearly the same (Chang et
    al., Multi-level residual networks from dynamical systems view, 2018): the network computes what it did, to a few
    tenths of a point, and every block has something to learn from. A stage without idle blocks keeps its weights.
    """
    for stage in module.children():
        if not isinstance(stage, nn.Sequential):
            continue
        lasts = {block: getattr(block, "bn2", None) for block in stage}
        blocks = {b: float(n.weight.detach().abs().mean()) for b, n in lasts.items() if isinstance(n, nn.BatchNorm2d)}
        busy = [b for b, scale in blocks.items() if scale >= IDLE * max(blocks.values())]
        idle = [b for b in blocks if b not in busy]
        if not idle:
            continue
        state = {key: value.clone() for key, value in busy[-1].state_dict().items()}
        for key in ("bn2.weight", "bn2.bias"):
            state[key] /= len(idle) + 1
        for block in (busy[-1], *idle):
            block.load_state_dict(state)


def _print(network: str) -> Callable[[int, int, float, float], None]:
    def line(step: int, steps: int, loss: float, speed: float) -> None:
        now = time.strftime("%H:%M:%S")
        print(
            f"{now} {network}: step {step} of {steps}, loss {loss:.4f}, {speed:.0f} img/s", file=sys.stderr, flush=True
        )

    return line


def _write(network: str, percent: float, count: int, seconds: float, args: argparse.Namespace) -> None:
    path = journey.RESULTS / "train_cifar.json"
    rest = json.loads(path.read_text())["rows"] if path.is_file() else []
    row = {
        "network": network,
        "top1": percent,
        "n": count,
        "data": "cifar10_test_jpeg",
        "phases": [asdict(recipe) for recipe in RECIPES[network]],
        "seconds_of_last_start": seconds,
        "machine": f"{journey.machine()}, {torch.get_num_threads()} thread, {args.device}",
        "convolutions": "bfloat16" if has_bfloat16(args.device) else "float32",
    }
    rows = sorted([r for r in rest if r["network"] != network] + [row], key=lambda r: str(r["network"]))
    journey.write_result("train_cifar", {"command": "make train-cifar", "rows": rows})


if __name__ == "__main__":
    sys.exit(main())
