"""One process or several, on which device: what a training loop needs to know about `torchrun` and the processor."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Group:
    """rank of `size` processes, and the device of this one."""

    rank: int
    size: int
    device: str

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model, with its gradients averaged over the processes when there are several."""
        return DistributedDataParallel(model) if self.size > 1 else model

    def mean(self, value: float) -> float:
        """Mean of a number over the processes."""
        if self.size == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.size


@contextmanager
def process_group(device: str) -> Iterator[Group]:
    """Joins the group that `torchrun` describes in the environment; alone without it.

    device: "cpu", or "cuda" for the GPU of this process' local rank (nccl instead of gloo).
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(0, 1, device)
        return
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device
    joined = not dist.is_initialized()
    if joined:
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Group(dist.get_rank(), size, own)
    finally:
        if joined:
            dist.destroy_process_group()


def leads() -> bool:
    """This process is the first of its `torchrun`, or alone: the one that writes results."""
    return os.environ.get("RANK", "0") == "0"


def has_bfloat16(device: str) -> bool:
    """The device multiplies bfloat16 itself. Another processor emulates it, several times slower than float32."""
    return torch.device(device).type != "cpu" or bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
