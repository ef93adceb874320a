"""Every operation: the imported graph computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitloom.frontends.torch_export import from_torch
from bitloom.graph.execute import execute
from bitloom.graph.ir import Add, AvgPool, Conv, Flatten, GlobalAvgPool, Graph, MaxPool, Relu

SHAPE = (4, 11, 9)


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Chain(nn.Module):
    """A convolution, then a function of its output."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, channels, 3, padding=1)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


def same(module: nn.Module, shape: tuple[int, int, int] = SHAPE) -> Graph:
    """The imported graph, after asserting that it equals the module on random images."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                tensor.uniform_(0.2, 1.5)
    graph = from_torch(module, shape)
    images = torch.randn(3, *shape)
    with torch.no_grad():
        expected = module.eval()(images)
    got = execute(graph, images)[graph.output]
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-5)
    return graph


def ops(graph: Graph) -> list[type]:
    """Kinds of the nodes behind the input."""
    return [type(node.op) for node in graph.nodes[1:]]


MODULES: dict[str, nn.Module] = {
    "conv": nn.Conv2d(4, 6, 3),
    "conv_uneven": nn.Conv2d(4, 6, (5, 2), (2, 1), (3, 1)),
    "conv_stride_3": nn.Conv2d(4, 6, 3, 3),
    "conv_same_even_kernel": nn.Conv2d(4, 6, (4, 3), padding="same"),
    "conv_valid": nn.Conv2d(4, 6, 3, padding="valid", bias=False),
    "batch_norm": nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
    "batch_norm_plain": nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=True, eps=0.1), nn.ReLU(True)),
    "batch_norm_twice": nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.BatchNorm2d(6)),
    "linear_norm": nn.Sequential(nn.Flatten(), nn.Linear(396, 5), nn.BatchNorm1d(5), nn.ReLU()),
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(0, 1.5),
    "clamp": Apply(lambda x: x.clamp(0, 2)),
    "clamp_min": Apply(lambda x: torch.clamp_min(x, 0)),
    "threshold": nn.Threshold(0, 0),
    "maximum": Apply(lambda x: torch.maximum(torch.zeros(()), x)),
    "clamp_open": Apply(lambda x: x.clamp(min=0)),
    "functional_relu6": Apply(F.relu6),
    "add": Chain(lambda y: y + F.relu(y)),
    "add_self": Apply(lambda x: x + x),
    "add_in_place": Chain(lambda y: F.relu_(y.add_(F.relu(y)))),
    "add_bias": Chain(lambda y: y + torch.arange(4.0).reshape(1, 4, 1, 1)),
    "add_number": Chain(lambda y: 1.5 + y),
    "max_pool": nn.MaxPool2d(2),
    "max_pool_uneven": nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
    "max_pool_ceil": nn.MaxPool2d(3, 2, 1, ceil_mode=True),
    "max_pool_indices": Apply(lambda x: F.max_pool2d(x, 2, return_indices=True)[0]),
    "avg_pool": nn.AvgPool2d(2),
    "avg_pool_padded": nn.AvgPool2d(3, 2, 1),
    "avg_pool_ceil": nn.AvgPool2d(2, 2, ceil_mode=True),
    "avg_pool_unpadded_exclude": nn.AvgPool2d(3, 2, count_include_pad=False),
    "adaptive_one": nn.AdaptiveAvgPool2d(1),
    "adaptive_same": nn.AdaptiveAvgPool2d((11, 9)),
    "adaptive_divides": nn.AdaptiveAvgPool2d((11, 3)),
    "adaptive_max": nn.AdaptiveMaxPool2d((1, 3)),
    "mean_keepdim": Apply(lambda x: x.mean((2, 3), keepdim=True)),
    "mean": Apply(lambda x: x.mean((-1, -2))),
    "flatten": nn.Flatten(),
    "view": Apply(lambda x: x.view(x.size(0), -1)),
    "reshape": Apply(lambda x: x.reshape(-1, 396)),
    "squeeze": Apply(lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)),
    "reshape_and_back": Apply(lambda x: F.relu(x.flatten(2).reshape(-1, 4, 11, 9))),
    "cat": Chain(lambda y: torch.cat([y, F.relu(y), y], 1)),
    "cat_zeros": Apply(lambda x: torch.cat([torch.zeros(x.size(0), 2, 11, 9), x], 1)),
    "cast": Apply(lambda x: F.relu(x.to(torch.float64)).float()),
    "dropout": nn.Sequential(nn.Conv2d(4, 4, 1), nn.Dropout(), nn.Identity(), nn.Dropout2d()),
    "pad_conv": nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(4, 6, 3, 2)),
    "pad_avg": nn.Sequential(nn.ZeroPad2d(1), nn.AvgPool2d(3, 2)),
    "pad_max_after_relu": nn.Sequential(nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)),
    "pad_max_signed": nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2)),
    "pad_wide_avg": nn.Sequential(nn.ZeroPad2d(4), nn.AvgPool2d(3, 2)),
    "pad_alone": nn.ZeroPad2d(2),
    "option_a": Chain(lambda y: F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 3, 3))),
    "slice_then_pad": Apply(lambda x: F.pad(x[:, :, ::2, ::2], (1, 1, 1, 1))),
    "slice_of_slice": Apply(lambda x: x[:, :, ::2][:, :, ::2]),
    "pad_then_slice": Apply(lambda x: F.pad(x, (1, 0, 2, 0))[:, :, ::2, ::2]),
    "pad_then_flatten": Apply(lambda x: F.pad(x, (1, 1)).flatten(1)),
}


@pytest.mark.parametrize("name", MODULES)
def test_graph_equals_module(name: str) -> None:
    torch.manual_seed(0)
    same(MODULES[name])


def test_norms_paddings_and_dropouts_leave_no_node() -> None:
    net = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.Dropout(), nn.ReLU())
    graph = same(net)
    assert ops(graph) == [Conv, Relu]
    assert graph.nodes[1].name == "1"
    assert graph.nodes[1].op.padding == (0, 1, 0, 1)


def test_zero_border_before_a_maximum_is_folded_only_where_nothing_is_negative() -> None:
    assert ops(same(MODULES["pad_max_after_relu"])) == [Relu, MaxPool]
    assert ops(same(MODULES["pad_max_signed"])) == [Conv, MaxPool]


def test_option_a_shortcut_is_one_identity_convolution() -> None:
    graph = same(MODULES["option_a"])
    assert ops(graph) == [Conv, Conv]
    op = graph.nodes[2].op
    assert op.stride == (2, 2)
    assert op.weight.shape == (10, 4, 1, 1)
    assert op.weight.sum() == 4
    assert op.weight[3:7, :, 0, 0].tolist() == torch.eye(4).tolist()


def test_in_place_relu_is_seen_by_every_reader() -> None:
    graph = same(Chain(lambda y: F.relu_(y) + y))
    assert ops(graph) == [Conv, Relu, Add]
    assert graph.nodes[3].inputs == (graph.nodes[2].name,) * 2


def test_a_pool_over_the_whole_map_has_no_stride() -> None:
    graph = same(Apply(lambda x: F.avg_pool2d(x, (11, 9)).flatten(1)))
    assert ops(graph) == [AvgPool, Flatten]
    assert graph.nodes[1].op.stride == (1, 1)


def test_global_mean_is_one_node() -> None:
    assert ops(same(MODULES["mean"])) == [GlobalAvgPool, Flatten]


def test_names_are_module_paths_and_unique() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(4, 4, 3, padding=1)
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y = self.relu(self.conv1(x))
            return self.relu(self.conv1(y) + x)

    graph = same(nn.Sequential(Block(), Block()))
    assert [node.name for node in graph.nodes[1:6]] == ["0.conv1", "0.relu", "0.conv1_2", "0.add", "0.relu_2"]
    assert len({node.name for node in graph.nodes}) == len(graph.nodes)


def test_the_module_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    graph = from_torch(net, SHAPE)
    assert [layer.training for layer in net] == [True, False, True]
    net[0].weight.data.zero_()
    assert graph.nodes[1].op.weight.any()
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items() if key != "0.weight")


def test_half_precision_modules_become_float32() -> None:
    net = nn.Conv2d(4, 4, 1).to(torch.bfloat16)
    assert from_torch(net, SHAPE).nodes[1].op.weight.dtype == "float32"


@pytest.mark.parametrize(
    "function",
    [
        lambda y: (y * 0.5 - 2) / torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, 4, 1, 1),
        lambda y: 1 - (-y),
        lambda y: torch.rsub(y * torch.arange(4.0).reshape(4, 1, 1), 1.5),
    ],
)
def test_constants_behind_a_convolution_are_folded(function: Callable[[Tensor], Tensor]) -> None:
    assert ops(same(Chain(function))) == [Conv]


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3)),
        Chain(lambda y: y * 2 + y),
        Chain(lambda y: F.pad(y, (0, 1, 2, 0)) * 3),
    ],
)
def test_constants_elsewhere_become_a_layer(module: nn.Module) -> None:
    same(module)


def test_limits_of_a_relu_are_joined() -> None:
    graph = same(Chain(lambda y: y.relu().clamp(max=0.7).clamp(-1, 2)))
    assert [node.op for node in graph.nodes if isinstance(node.op, Relu)] == [Relu(0.7)]
    assert ops(same(Chain(lambda y: F.relu6(y).clamp(min=-1)))) == [Conv, Relu]


def test_a_last_softmax_is_left_out() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(396, 3))
    with_softmax = from_torch(nn.Sequential(net, nn.Softmax(1)), SHAPE)
    images = torch.randn(2, *SHAPE)
    assert torch.allclose(execute(with_softmax, images)[with_softmax.output], net(images), atol=1e-5)


def test_threads_may_import_at_once() -> None:
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Conv2d(4, 4 + i, 3), nn.ReLU(), nn.Conv2d(4 + i, 3, 1)) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        graphs = list(pool.map(lambda net: from_torch(net, SHAPE), nets))
    assert [graph.nodes[1].op.weight.shape[0] for graph in graphs] == [4, 5, 6, 7]


def test_a_norm_before_a_convolution_is_a_depthwise_layer() -> None:
    """As pre-activation networks have it: a weight a channel, also where the channels are many."""
    net = nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 3, 1)).eval()
    norm = net[2]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.uniform_(-0.5, 0.5)
    norm.running_var.uniform_(0.3, 2.0)
    graph = from_torch(net, (4, 8, 8))
    op = graph["2"].op
    assert isinstance(op, Conv) and op.groups == 6 and op.weight.shape == (6, 1, 1, 1)
    images = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(execute(graph, images)[graph.output], net(images), rtol=1e-5, atol=1e-5)
