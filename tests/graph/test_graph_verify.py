"""The verifier's rules, one broken at a time; folding; the printed table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitloom.errors import BitloomError, GraphError, WeightsError
from bitloom.graph.fold import batch_norm_affine, fold_affine
from bitloom.graph.ir import Conv, Flatten, Graph, Input, Linear, MaxPool, Node, Relu
from bitloom.graph.printer import format_graph
from bitloom.graph.verify import verify


def _conv(**changes: object) -> Conv:
    weight = np.arange(4 * 3 * 9, dtype=np.float32).reshape(4, 3, 3, 3)
    return replace(Conv(weight, np.zeros(4, np.float32), (1, 1), (1, 1, 1, 1)), **changes)


def _graph(*nodes: Node, output: str = "") -> Graph:
    return Graph("net", (Node("input", Input((3, 4, 4)), ()), *nodes), output or (nodes[-1].name if nodes else "input"))


def test_a_sound_graph_passes() -> None:
    verify(_graph(Node("c", _conv(), ("input",)), Node("r", Relu(6.0), ("c",)), Node("f", Flatten(), ("r",))))


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (Graph("net", (), "x"), "'net': the first node must be an Input"),
        (_graph(Node("a", Relu(), ("input",)), Node("a", Relu(), ("input",))), "two nodes are called 'a'"),
        (_graph(Node("", Relu(), ("input",))), "node 1 has no name"),
        (_graph(Node("b", Input((1, 1, 1)), ())), "'b': a second Input"),
        (_graph(output="z"), "output 'z' is not a node; the last is 'input'"),
        (Graph("net", (Node("input", Input((3, 0, 4)), ()),), "input"), r"input shape \(3, 0, 4\)"),
        (_graph(Node("r", Relu(0.0), ("input",))), "'r': Relu limit 0.0, must be positive"),
        (_graph(Node("c", _conv(stride=(0, 1)), ("input",))), r"'c': stride \(0, 1\), must be positive"),
        (_graph(Node("c", _conv(padding=(-1, 0, 0, 0)), ("input",))), "must not be negative"),
        (_graph(Node("p", MaxPool((2, 2), (2, 2), (2, 0, 0, 0)), ("input",))), "a window would see no pixel"),
        (_graph(Node("c", _conv(bias=np.zeros(3, np.float32)), ("input",))), r"bias \(3,\); the weight must have 4"),
        (_graph(Node("c", _conv(bias=np.zeros(4)), ("input",))), "bias is float64, must be float32"),
        (
            _graph(Node("r", Relu(), ("q",)), Node("q", Relu(), ("input",))),
            "'r' reads 'q', which no earlier node makes",
        ),
    ],
)
def test_each_rule_has_its_error(graph: Graph, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        verify(graph)


def test_weights_that_are_not_finite_are_counted_and_located() -> None:
    weight = _conv().weight.copy()
    weight[1, 2, 0, 1] = np.nan
    weight[3, 0, 0, 0] = np.inf
    with pytest.raises(
        WeightsError, match=r"'c': 2 of 108 values of its weight are NaN .* first at index \(1, 2, 0, 1\)"
    ):
        verify(_graph(Node("c", _conv(weight=weight), ("input",))))


def test_folding_equals_batch_norm_in_float64() -> None:
    torch.manual_seed(1)
    conv, norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, eps=1e-3).eval()
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.1, 2.0)
    op = Conv(conv.weight.detach().numpy(), conv.bias.detach().numpy(), (1, 1), (0, 0, 0, 0))
    parts = [t.detach().numpy() for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)]
    folded = fold_affine(op, *batch_norm_affine("bn", *parts, 1e-3))
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        expected = norm.double()(conv.double()(x))
    got = torch.conv2d(x, torch.from_numpy(folded.weight).double(), torch.from_numpy(folded.bias).double())
    assert torch.allclose(got, expected, rtol=1e-6, atol=1e-6)


def test_folding_a_linear_layer_scales_rows() -> None:
    op = Linear(np.ones((2, 3), np.float32), np.array([1, 2], np.float32))
    folded = fold_affine(op, np.array([2.0, -1.0]), np.array([0.5, 0.0]))
    assert folded.weight.tolist() == [[2, 2, 2], [-1, -1, -1]]
    assert folded.bias.tolist() == [2.5, -2.0]


@pytest.mark.parametrize(
    ("var", "text"),
    [
        ([1.0, -1.0], r"variance -1.0 \+ eps 1e-05 of channel 1 is not positive"),
        ([1.0, np.nan], "running variance are NaN"),
    ],
)
def test_damaged_statistics_are_named(var: list[float], text: str) -> None:
    with pytest.raises(WeightsError, match=text):
        batch_norm_affine("bn", None, None, np.zeros(2, np.float32), np.array(var, np.float32), 1e-5)


def test_the_table_shows_shapes_weights_and_macs() -> None:
    fc = Linear(np.ones((10, 64), np.float32), np.zeros(10, np.float32))
    nodes = (
        Node("stem", _conv(), ("input",)),
        Node("act", Relu(6.0), ("stem",)),
        Node("flat", Flatten(), ("act",)),
        Node("fc", fc, ("flat",)),
    )
    lines = format_graph(_graph(*nodes)).splitlines()
    assert lines[0].split() == ["name", "op", "inputs", "shape", "weights", "MACs"]
    assert lines[3].split() == ["stem", "Conv", "3x3/1", "p1", "input", "4x4x4", "112", "1,728"]
    assert lines[4].split() == ["act", "Relu6", "stem", "4x4x4"]
    assert lines[6].split() == ["fc", "Linear", "flat", "10", "650", "640"]
    assert lines[-1] == "net: 5 nodes, output fc, 762 weights, 2,368 MACs"


def test_every_error_is_a_bitloom_error() -> None:
    assert issubclass(GraphError, BitloomError)
    assert issubclass(WeightsError, BitloomError)
