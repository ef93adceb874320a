"""scikit-learn's embedded digits (1797 grey 8x8 images) and the short training of the demo's network."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.errors import DataError


def digits() -> tuple[Tensor, npt.NDArray[np.int64], Tensor, npt.NDArray[np.int64]]:
    """Training images (1297, 1, 8, 8), labels, test images (500, 1, 8, 8), labels; pixels normalised."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DataError("the digits need scikit-learn; pip install 'bitloom[demo]'") from None
    bunch = load_digits()
    images = torch.from_numpy((bunch.images / 16.0).astype(np.float32))[:, None]
    images = (images - 0.305) / 0.376
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(labels))
    train, test = order[:-500], order[-500:]
    return images[train], labels[train], images[test], labels[test]


def train(module: nn.Module, images: Tensor, labels: npt.NDArray[np.int64], epochs: int = 12, seed: int = 0) -> None:
    """Trains in place with SGD and a one-cycle schedule; deterministic for a seed and a thread count."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.from_numpy(labels)
    batch = 64
    steps = -(-len(images) // batch) * epochs
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps)
    module.train()
    for _ in range(epochs):
        for index in torch.split(torch.randperm(len(images), generator=generator), batch):
            loss = F.cross_entropy(module(images[index]), target[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    module.eval()
