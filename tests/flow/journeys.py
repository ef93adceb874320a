"""A compile of a small untrained network on noise, for tests of the journey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitloom import zoo
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.ir import Graph
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

OPTIONS = CompileOptions(budget=3.0, simulated=2)


def noise() -> Tensor:
    """Sixty images (N, 1, 8, 8)."""
    return torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(3))


def digits_graph() -> Graph:
    torch.manual_seed(1)
    return from_torch(zoo.build("digits"), (1, 8, 8), "digits")


def journey(graph: Graph, images: Tensor, out: Path, options: CompileOptions = OPTIONS) -> dict[str, Any]:
    """Measured on the first twenty images."""
    evaluation = Evaluation(images[:20], np.arange(20) % 10)
    return compile_model(graph, images, evaluation, named_arch("small"), load_device("xczu15eg"), out, options)
