"""Layers that may have binary channels: the rule is what the packer accepts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitloom import zoo
from bitloom.errors import ProgramError
from bitloom.frontends.torch_export import from_torch
from bitloom.graph.allocation import uniform
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.program.binary import binary_layers
from bitloom.program.lower import lower
from bitloom.program.plan import plan
from bitloom.quantize.skeleton import skeleton
from bitloom.target.arch import named_arch


def _network(name: str, shape: tuple[int, int, int], binary: set[str] | frozenset[str]) -> QuantGraph:
    """Ones of 1 bit in the layers `binary`, of 2 bits in the others."""
    graph = from_torch(zoo.build(name), shape, name)
    qgraph = skeleton(graph, uniform(graph, 2).bits)
    nodes = []
    for node in qgraph.nodes:
        if isinstance(node, QConv):
            bits = np.full(len(node.bits), 1 if node.name in binary else 2, np.int8)
            node = replace(node, weight=np.ones(node.weight.shape, np.int8), bits=bits)
        nodes.append(node)
    return replace(qgraph, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("name", "shape", "arch"),
    [("digits", (1, 8, 8), "small"), ("resnet20", (3, 32, 32), "full"), ("resnet20", (3, 32, 32), "mid")],
)
def test_the_rule_is_what_the_packer_accepts(name: str, shape: tuple[int, int, int], arch: str) -> None:
    build = named_arch(arch)
    graph = from_torch(zoo.build(name), shape, name)
    legal = binary_layers(graph, build)
    names = {node.name for node in skeleton(graph, uniform(graph, 2).bits).nodes if isinstance(node, QConv)}
    assert legal and legal < names
    whole = _network(name, shape, legal)
    lower(whole, plan(whole, build))
    for other in sorted(names - legal):
        broken = _network(name, shape, {other})
        with pytest.raises(ProgramError, match=f"{other}: channel 0 has 1 bit, but the layer"):
            lower(broken, plan(broken, build))


def test_a_wider_array_leaves_fewer_layers() -> None:
    graph = from_torch(zoo.build("resnet20"), (3, 32, 32), "resnet20")
    mid, full = binary_layers(graph, named_arch("mid")), binary_layers(graph, named_arch("full"))
    assert full < mid and "conv1" not in mid and "linear" in full and "layer1.0.conv1" in mid - full
