"""Quantization-aware fine-tuning: the integer network trained as it will run, towards the float network's outputs.

Weights move in units of their scale, rounding passes gradients straight through, per-channel scales and biases are
learned (after LSQ, Esser et al., 2020); the loss is the divergence from the float network (Hinton et al., "Distilling
the Knowledge in a Neural Network", 2015), mixed with the cross-entropy of labels where there are any. Widths are fixed
meanwhile; `FinetuneResult.graph` holds the real weights reached, from which widths can be solved again.

One process, or several under `torchrun` (gloo on CPUs, nccl on GPUs). Every random draw depends on the seed and the
step alone, so that a run continued from a checkpoint is the same as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.errors import DataError, TrainingError
from bitloom.graph.execute import check_images
from bitloom.graph.ir import Conv, Graph, Linear
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.graph.shapes import class_count
from bitloom.quantize.augment import Augment, augmented
from bitloom.quantize.checkpoint import load_checkpoint, save_checkpoint
from bitloom.quantize.lower import Lowered
from bitloom.quantize.parallel import Group, has_bfloat16, process_group
from bitloom.quantize.teacher import FloatNetwork
from bitloom.quantize.trainable import TrainableNetwork

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class FinetuneOptions:
    """steps of `batch` images (over all processes). Learning rates follow half a cosine after `warmup` steps.

    latent_rate: codes per step at most, about (0: codes stay); scale_rate: of the scales' logarithm; bias_rate:
    relative to the mean size of a layer's biases. temperature: divides the logits of both networks. label_weight:
    share of the labels' cross-entropy. augment: of the images. mixed: convolutions in bfloat16, but on a
    processor that would emulate it. every: steps between checkpoints. device: cpu or cuda. Raises DataError for a
    figure out of range or a device that is not there.
    """

    steps: int = 1000
    batch: int = 128
    latent_rate: float = 0.005
    scale_rate: float = 1e-3
    bias_rate: float = 1e-3
    warmup: int = 20
    temperature: float = 1.0
    label_weight: float = 0.0
    augment: Augment | None = None
    mixed: bool = False
    device: str = "cpu"
    seed: int = 0
    every: int = 100

    def __post_init__(self) -> None:
        for name in ("latent_rate", "scale_rate", "bias_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise DataError(f"{name} = {getattr(self, name)}; must be a learning rate, 0 or more")
        if not 0 <= self.label_weight <= 1:
            raise DataError(f"label_weight = {self.label_weight}; must be a share, 0 to 1")
        kind = self.device.partition(":")[0]
        if kind not in ("cpu", "cuda"):
            raise DataError(f"device = '{self.device}'; legal: cpu, cuda")
        if kind == "cuda" and not torch.cuda.is_available():
            raise DataError(f"device = '{self.device}', but this PyTorch sees no GPU; give cpu")


@dataclass(frozen=True, eq=False)
class FinetuneResult:
    """The integer network; the float graph with the real weights that were reached; the mean loss of `every` steps."""

    qgraph: QuantGraph
    graph: Graph
    losses: tuple[float, ...]


def finetune(
    graph: Graph,
    lowered: Lowered,
    start: QuantGraph,
    images: Tensor,
    labels: Labels | None = None,
    options: FinetuneOptions | None = None,
    checkpoint: Path | None = None,
    report: Callable[[int, float], None] | None = None,
    teacher: Lowered | None = None,
) -> FinetuneResult:
    """Trains `start`, the integer network of `graph`, on normalised images float (N, C, H, W).

    checkpoint: file to continue from when it exists and to write every `every` steps; it must belong to the same
    options, network and images. report: called with step and loss at those times. teacher: the float network to follow,
    by default `lowered`. Raises DataError (images, labels, a foreign checkpoint) and TrainingError when the loss stops
    being a finite number.
    """
    opts = options or FinetuneOptions()
    _check(graph, images, labels, opts)
    with process_group(opts.device) as group:
        device = torch.device(group.device)
        mixed = opts.mixed and has_bfloat16(group.device)
        student = TrainableNetwork(lowered, start, mixed).to(device)
        guide = FloatNetwork(lowered if teacher is None else teacher, mixed).to(device)
        optimizer = _optimizer(student, opts)
        identity = f"{opts} {tuple(images.shape)} {float(images.double().sum())!r} {_identity(start)}"
        losses: list[float] = []
        first = 0
        if checkpoint is not None and checkpoint.exists():
            first, losses = load_checkpoint(checkpoint, identity, student, optimizer)
        model = group.wrap(student)
        sum_, count = 0.0, 0
        for step in range(first, opts.steps):
            sum_, count = sum_ + _step(model, guide, optimizer, images, labels, step, opts, group), count + 1
            if (step + 1) % opts.every == 0 or step + 1 == opts.steps:
                losses.append(group.mean(sum_ / count))
                sum_, count = 0.0, 0
                if group.rank == 0 and report is not None:
                    report(step + 1, losses[-1])
                if group.rank == 0 and checkpoint is not None:
                    save_checkpoint(checkpoint, identity, step + 1, losses, student, optimizer)
        student.to("cpu")
        return FinetuneResult(student.harden(), _real_graph(graph, student), tuple(losses))


def steps_of(epochs: float, images: int, batch: int) -> int:
    """Steps of so many passes over the images. DataError: fewer than one step, or fewer images than a batch."""
    if batch < 1 or images < batch:
        raise DataError(f"{images} images for batches of {batch}; give more images or a smaller batch")
    if not math.isfinite(epochs):
        raise DataError(f"{epochs} epochs; give a number")
    steps = round(epochs * images / batch)
    if steps < 1:
        raise DataError(f"{epochs:g} epochs of {images} images in batches of {batch} are no step; give more epochs")
    return steps


def print_progress(step: int, loss: float) -> None:
    """A line on stderr."""
    print(f"finetune: step {step}, loss {loss:.4f}", file=sys.stderr, flush=True)


def _step(
    model: nn.Module,
    teacher: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Labels | None,
    step: int,
    opts: FinetuneOptions,
    group: Group,
) -> float:
    generator = torch.Generator().manual_seed(opts.seed * 1_000_003 + step)
    chosen = _batch(len(images), step, opts)[group.rank :: group.size]
    x = images[chosen]
    if opts.augment is not None:
        x = augmented(x, opts.augment, generator)
    x = x.to(group.device).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        target = F.log_softmax(teacher(x) / opts.temperature, dim=1)
    logits = model(x)
    found = F.log_softmax(logits / opts.temperature, dim=1)
    loss = opts.temperature**2 * F.kl_div(found, target, log_target=True, reduction="batchmean")
    if labels is not None and opts.label_weight > 0:
        truth = torch.from_numpy(labels[chosen.numpy()]).to(group.device)
        loss = (1 - opts.label_weight) * loss + opts.label_weight * F.cross_entropy(logits, truth)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(
            f"step {step}: the loss is {value}; lower the learning rates (latent_rate = {opts.latent_rate:g}, "
            f"scale_rate = {opts.scale_rate:g}, bias_rate = {opts.bias_rate:g}) and check the weights"
        )
    rate = min(1.0, (step + 1) / max(1, opts.warmup)) * 0.5 * (1 + math.cos(math.pi * step / opts.steps))
    for part in optimizer.param_groups:
        part["lr"] = part["base"] * rate
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return value


def _batch(count: int, step: int, opts: FinetuneOptions) -> Tensor:
    """Image numbers of a step: every epoch is a permutation of its own; the epochs' ends are cut."""
    per_epoch = max(1, count // opts.batch)
    epoch, at = divmod(step, per_epoch)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(opts.seed * 7919 + epoch))
    return order[at * opts.batch : (at + 1) * opts.batch]


def _optimizer(student: TrainableNetwork, opts: FinetuneOptions) -> torch.optim.Optimizer:
    layers = [student.layer(step.name) for step in student.lowered.convs]
    groups = [g for layer in layers for g in layer.rated(opts.latent_rate, opts.scale_rate, opts.bias_rate)]
    return torch.optim.Adam(groups, betas=(0.9, 0.99))


def _real_graph(graph: Graph, student: TrainableNetwork) -> Graph:
    """`graph` with the latent weights as reals, and the learned biases."""
    nodes = []
    for node in graph.nodes:
        if isinstance(node.op, Conv | Linear):
            layer = student.layer(node.name)
            real = (layer.latent * layer.scale()).detach().numpy().reshape(node.op.weight.shape)
            pruned = layer.bits.numpy() == 0
            weight = np.where(pruned.reshape(-1, *[1] * (real.ndim - 1)), node.op.weight, real)
            node = replace(node, op=replace(node.op, weight=weight, bias=layer.bias.detach().numpy().copy()))
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes))


def _identity(start: QuantGraph) -> str:
    """Of everything that the parameters begin with."""
    digest = hashlib.sha256(start.name.encode())
    for node in start.nodes:
        if isinstance(node, QConv):
            for part in (node.weight, node.bits, node.bias, node.weight_scale):
                digest.update(part.tobytes())
    return digest.hexdigest()


def _check(graph: Graph, images: Tensor, labels: Labels | None, opts: FinetuneOptions) -> None:
    check_images(graph, images[:1] if images.dim() == 4 and len(images) else images)
    if not bool(torch.isfinite(images).all()):
        raise DataError("fine-tuning images hold NaN or infinite pixels; remove them")
    if len(images) < opts.batch:
        raise DataError(f"{len(images)} images for batches of {opts.batch}; give more images or a smaller batch")
    if opts.label_weight > 0 and labels is None:
        raise DataError(f"label_weight = {opts.label_weight:g}, but there are no labels; give labels or weight 0")
    if labels is not None and len(labels) != len(images):
        raise DataError(f"{len(labels)} labels for {len(images)} images; give one label an image")
    classes = class_count(graph)
    if labels is not None and opts.label_weight > 0 and not (labels.min() >= 0 and labels.max() < classes):
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError(f"a training image has label {wrong}, but the classes of '{graph.name}' are 0 to {classes - 1}")
