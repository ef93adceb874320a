"""Shape inference against PyTorch's own, and its errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from bitloom.errors import GraphError
from bitloom.graph.ir import Add, Concat, Conv, Flatten, GlobalAvgPool, Graph, Input, Linear, MaxPool, Node
from bitloom.graph.shapes import infer, shapes, window_count


def conv(cin: int, cout: int, kernel: int = 3, stride: int = 1, pad: int = 1) -> Conv:
    weight = np.ones((cout, cin, kernel, kernel), np.float32)
    return Conv(weight, np.zeros(cout, np.float32), (stride, stride), (pad,) * 4)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 4), st.booleans())
def test_windows_are_counted_as_pytorch_counts_them(size: int, kernel: int, stride: int, pad: int, ceil: bool) -> None:
    pad = min(pad, kernel // 2)
    if size + 2 * pad < kernel:
        assert window_count(size, kernel, stride, pad, pad, False) < 1
        return
    expected = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, pad, ceil_mode=ceil).shape[2]
    assert window_count(size, kernel, stride, pad, pad, ceil) == expected


def test_ceil_mode_drops_a_window_that_would_start_in_the_trailing_padding() -> None:
    assert window_count(4, 2, 3, 1, 1, True) == 2  # a third one would begin at 6 >= 4 + 1
    assert window_count(4, 1, 4, 0, 1, True) == 1


def test_every_node_of_a_small_network_has_its_shape() -> None:
    graph = Graph(
        "net",
        (
            Node("input", Input((3, 9, 7)), ()),
            Node("a", conv(3, 4, stride=2), ("input",)),
            Node("p", MaxPool((3, 3), (2, 2), (0, 0, 0, 0), ceil_mode=True), ("a",)),
            Node("c", Concat(), ("p", "p", "p")),
            Node("s", Add(), ("c", "c")),
            Node("g", GlobalAvgPool(), ("s",)),
            Node("f", Flatten(), ("g",)),
            Node("y", Linear(np.ones((5, 12), np.float32), np.zeros(5, np.float32)), ("f",)),
        ),
        "y",
    )
    assert shapes(graph) == {
        "input": (3, 9, 7),
        "a": (4, 5, 4),
        "p": (4, 2, 2),
        "c": (12, 2, 2),
        "s": (12, 2, 2),
        "g": (12, 1, 1),
        "f": (12,),
        "y": (5,),
    }


@pytest.mark.parametrize(
    ("op", "inputs", "text"),
    [
        (conv(4, 8), ((3, 8, 8),), r"'n': Conv with weight \(8, 4, 3, 3\) reads \(3, 8, 8\); needs 4 channels"),
        (conv(3, 8, 7, 1, 0), ((3, 5, 5),), "kernel 7x7 .* smaller than the kernel, use a larger image"),
        (conv(3, 8), ((27,),), r"Conv reads \(27,\), must be \(C, H, W\); do not flatten"),
        (Add(), ((3, 4, 4), (3, 4, 2)), r"adds \(3, 4, 4\) and \(3, 4, 2\); both must have one shape"),
        (Add(), ((3, 4, 4),), "Add has 1 inputs, must have 2"),
        (Concat(), ((3, 4, 4), (3, 4, 2)), "maps must be equal"),
        (
            Linear(np.ones((2, 5), np.float32), np.zeros(2, np.float32)),
            ((4,),),
            r"must be a vector of 5; flatten first",
        ),
    ],
)
def test_shapes_that_do_not_fit_name_the_node_and_the_need(op: Conv, inputs: tuple, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        infer("n", op, inputs)


def test_an_input_that_comes_later_is_named() -> None:
    graph = Graph("net", (Node("input", Input((1, 2, 2)), ()), Node("a", Flatten(), ("b",))), "a")
    with pytest.raises(GraphError, match="'a' reads 'b', which no earlier node makes"):
        shapes(graph)
