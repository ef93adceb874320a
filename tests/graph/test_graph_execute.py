"""The float executor against torch's own layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bitloom.graph.execute import execute
from bitloom.graph.ir import AvgPool, Conv, Graph, Input, MaxPool, Node, Op, Relu


def _one(op: Op, shape: tuple[int, int, int]) -> Graph:
    return Graph("one", (Node("x", Input(shape), ()), Node("y", op, ("x",))), "y")


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 3, 1), (5, 2, 2), (2, 3, 1), (3, 1, 0)]
)
@pytest.mark.parametrize("size", [7, 8, 9, 10])
def test_pools_are_torch_pools(ceil: bool, kernel: int, stride: int, pad: int, size: int) -> None:
    x = torch.randn(2, 3, size, size + 2, generator=torch.Generator().manual_seed(size))
    window = ((kernel, kernel), (stride, stride), (pad, pad, pad, pad), ceil)
    shape = (3, size, size + 2)
    torch.testing.assert_close(
        execute(_one(MaxPool(*window), shape), x)["y"], F.max_pool2d(x, kernel, stride, pad, ceil_mode=ceil)
    )
    torch.testing.assert_close(
        execute(_one(AvgPool(*window), shape), x)["y"], F.avg_pool2d(x, kernel, stride, pad, ceil_mode=ceil)
    )


def test_uneven_padding() -> None:
    rng = np.random.default_rng(0)
    conv = Conv(rng.standard_normal((2, 3, 3, 2)).astype(np.float32), np.ones(2, np.float32), (2, 1), (0, 1, 2, 3))
    x = torch.randn(1, 3, 6, 5)
    expected = F.conv2d(F.pad(x, (2, 3, 0, 1)), torch.from_numpy(conv.weight), torch.ones(2), (2, 1))
    torch.testing.assert_close(execute(_one(conv, (3, 6, 5)), x)["y"], expected)


def test_keep_returns_exactly_the_named_tensors() -> None:
    graph = _one(Relu(), (1, 2, 2))
    x = torch.tensor([[[[-1.0, 2.0], [3.0, -4.0]]]])
    assert set(execute(graph, x)) == {"y"}
    kept = execute(graph, x, ["x", "y"])
    assert set(kept) == {"x", "y"} and kept["y"].tolist() == [[[[0.0, 2.0], [3.0, 0.0]]]]
    with pytest.raises(KeyError, match="graph 'one' has no tensor 'z'"):
        execute(graph, x, ["z"])
