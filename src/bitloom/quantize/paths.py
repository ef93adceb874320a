"""The inputs of one block for every image on two paths: float, and as the quantized blocks before it give them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bitloom.errors import DataError
from bitloom.quantize.blocks import Block
from bitloom.quantize.stream import run_float
from bitloom.quantize.trainable import TrainableNetwork

HALF_LIMIT = 65000.0  #: float path values are kept in 16 bits


def check_fitting_images(images: Tensor, least: int, purpose: str) -> None:
    """DataError when images (N, C, H, W) are fewer than `least` or not finite."""
    if images.shape[0] < least:
        raise DataError(f"{images.shape[0]} images for {purpose}, need at least {least}; give more images")
    if not bool(torch.isfinite(images).all()):
        raise DataError(f"images for {purpose} hold NaN or infinite pixels; remove them")


class Paths:
    """Kept in 3 bytes a value: the float path in 16 bits, the quantized one as codes. Begins at the network's input."""

    def __init__(self, network: TrainableNetwork, images: Tensor, batch: int) -> None:
        """images: float (N, C, H, W); batch: images that go through a block together."""
        self.network, self.batch = network, batch
        self.exact = images.half()
        self.name = network.lowered.input
        with torch.no_grad():
            self.codes = self._codes(network.quantize_input(images))

    def __len__(self) -> int:
        return int(self.exact.shape[0])

    def at(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Float and quantized input of the images of these numbers, (n, C, H, W) float32."""
        tensor = self.network.start.tensors[self.name]
        return self.exact[images].float(), (self.codes[images].float() - tensor.zero_point) * tensor.scale

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The same for all images in order."""
        for part in torch.split(torch.arange(len(self)), self.batch):
            yield self.at(part)

    def advance(self, block: Block) -> None:
        """Both paths through a block, as its layers now are."""
        exact, codes = [], []
        for a, b in self.batches():
            after = run_float(block.steps, {block.input: a})[block.output]
            exact.append(after.clamp(-HALF_LIMIT, HALF_LIMIT).half())
            codes.append(self._codes(self.network.run(block.steps, {block.input: b})[block.output], block.output))
        self.exact, self.codes, self.name = torch.cat(exact), torch.cat(codes), block.output

    def _codes(self, values: Tensor, name: str | None = None) -> Tensor:
        tensor = self.network.start.tensors[name or self.name]
        return (values / tensor.scale).round_().add_(tensor.zero_point).to(torch.int8)
