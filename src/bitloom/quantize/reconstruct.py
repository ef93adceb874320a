"""Block reconstruction: codes, scales and biases of each residual block learned so that its output follows float.

Li et al., "BRECQ" (2021): the block is the unit, its squared output error the loss. Inputs are mixed at random from the
quantized and the float path (Wei et al., "QDrop", 2022). Rounding is learned straight through, from the codes at hand.
Held-out images judge each block every `every` steps and keep the best state, the start included, so that no block gets
worse on them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bitloom.errors import TrainingError
from bitloom.graph.qgraph import QuantGraph
from bitloom.quantize.augment import Augment, augmented
from bitloom.quantize.blocks import Block, blocks_of
from bitloom.quantize.lower import Lowered
from bitloom.quantize.paths import Paths, check_fitting_images
from bitloom.quantize.stream import run_float
from bitloom.quantize.trainable import QuantizedWeights, TrainableNetwork


@dataclass(frozen=True)
class ReconstructOptions:
    """steps of `batch` images a block. latent_rate: codes a step at most, about; scale_rate: of the scales' logarithm;
    bias_rate: relative to the mean size of the biases. drop: share of inputs taken from the float path.

    copies: of every fitting image, the first as it is, the others augmented. held_out: share of the images that judge.
    """

    steps: int = 200
    batch: int = 32
    latent_rate: float = 0.02
    scale_rate: float = 2e-3
    bias_rate: float = 1e-3
    drop: float = 0.5
    augment: Augment | None = None
    copies: int = 1
    held_out: float = 0.2
    every: int = 50
    min_images: int = 10
    seed: int = 0


@dataclass(frozen=True)
class BlockChoice:
    """Mean squared output error of a block on held-out images, before and after."""

    output: str
    before: float
    after: float


def reconstruct(
    lowered: Lowered, start: QuantGraph, images: Tensor, options: ReconstructOptions | None = None
) -> tuple[QuantGraph, tuple[BlockChoice, ...]]:
    """The network `start` with every block reconstructed, and what became of each.

    images: float (N, C, H, W), normalised; the last share judges. Widths and activation scales stay. Deterministic by
    seed. Peak memory: input and output of one block for all images and copies at 3 bytes a value. Raises DataError (too
    few images, not finite) and TrainingError (the loss is no number).
    """
    opts = options or ReconstructOptions()
    check_fitting_images(images, opts.min_images, "reconstruction")
    judges = max(1, round(opts.held_out * len(images)))
    network = TrainableNetwork(lowered, start)
    paths = Paths(network, _copies(images, judges, opts), opts.batch)
    choices = []
    for number, block in enumerate(blocks_of(lowered)):
        choices.append(_reconstruct_block(network, block, paths, judges, opts, number))
        with torch.no_grad():
            paths.advance(block)
    return network.harden(), tuple(choices)


def _copies(images: Tensor, judges: int, opts: ReconstructOptions) -> Tensor:
    """The images that fit, their augmented copies, and last those that judge."""
    fit, generator = images[: len(images) - judges], torch.Generator().manual_seed(opts.seed)
    more = [augmented(fit, opts.augment, generator) for _ in range(opts.copies - 1)] if opts.augment else []
    return torch.cat([fit, *more, images[len(images) - judges :]])


def _reconstruct_block(
    network: TrainableNetwork, block: Block, paths: Paths, judges: int, opts: ReconstructOptions, number: int
) -> BlockChoice:
    layers = [network.layer(step.name) for step in block.convs]
    generator = torch.Generator().manual_seed(opts.seed * 1009 + number)
    count = len(paths) - judges
    judge = torch.arange(count, len(paths))
    before = best = _judge(network, block, paths, judge, opts)
    kept = [_state(layer) for layer in layers]
    groups = [g for layer in layers for g in layer.rated(opts.latent_rate, opts.scale_rate, opts.bias_rate)]
    optimizer = torch.optim.Adam(groups)
    for step in range(opts.steps):
        chosen = torch.randint(count, (min(opts.batch, count),), generator=generator)
        exact, quantized = paths.at(chosen)
        mask = torch.rand(exact.shape, generator=generator) < opts.drop
        given = {block.input: torch.where(mask, exact, quantized)}
        with torch.no_grad():
            target = run_float(block.steps, {block.input: exact})[block.output]
        loss = (network.run(block.steps, given)[block.output] - target).square().mean()
        if not math.isfinite(float(loss.detach())):
            raise TrainingError(
                f"{block.output}: the block error is {float(loss.detach())} at step {step}; lower latent_rate = "
                f"{opts.latent_rate:g} or scale_rate = {opts.scale_rate:g}"
            )
        rate = 0.5 * (1 + math.cos(math.pi * step / opts.steps))
        for part in optimizer.param_groups:
            part["lr"] = part["base"] * rate
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if (step + 1) % opts.every == 0 or step + 1 == opts.steps:
            error = _judge(network, block, paths, judge, opts)
            if error < best:
                best, kept = error, [_state(layer) for layer in layers]
    for layer, state in zip(layers, kept, strict=True):
        layer.load_state_dict(state)
    return BlockChoice(block.output, before, best)


def _judge(network: TrainableNetwork, block: Block, paths: Paths, judge: Tensor, opts: ReconstructOptions) -> float:
    """Mean squared error of the block's output for quantized inputs, per value."""
    total, values = 0.0, 0
    with torch.no_grad():
        for part in torch.split(judge, opts.batch):
            exact, quantized = paths.at(part)
            target = run_float(block.steps, {block.input: exact})[block.output]
            gap = network.run(block.steps, {block.input: quantized})[block.output] - target
            total, values = total + float(gap.square().sum(dtype=torch.float64)), values + gap.numel()
    return total / values


def _state(layer: QuantizedWeights) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in layer.state_dict().items()}
