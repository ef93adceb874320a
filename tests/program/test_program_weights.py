"""Weight streams against hand-made ones: bit positions, order of beats, tags."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bitloom.errors import ProgramError
from bitloom.graph.qgraph import QConv, QuantGraph
from bitloom.program.lower import lower
from bitloom.program.plan import plan
from bitloom.program.streams import LaneReader, lane_bits
from bitloom.program.weights import header_words, tag_bits, words_per_beat
from bitloom.quantize.code_range import highest, lowest
from bitloom.target.arch import ArchConfig
from random_networks import NetworkMaker, random_layer

TINY = ArchConfig("tiny", 2, 8, 8, 1, 4, 8, 512, 2048)


def _pixelwise(bits: list[int]) -> QuantGraph:
    """A 1×1 layer with 8 inputs on a 2×2 map (too wide for the fold's units to gain anything on the way)."""
    make = NetworkMaker(np.random.default_rng(0), (8, 2, 2))
    out = make.conv("image", len(bits), (1, 1), (1, 1), (0, 0, 0, 0), None)
    node = make.nodes[0]
    assert isinstance(node, QConv)
    rng = np.random.default_rng(7)
    low, high = (np.array([f(b) for b in bits])[:, None, None, None] for f in (lowest, highest))
    weight = rng.integers(low, high + 1, node.weight.shape, np.int8)
    weight[(np.array(bits) == 1)[:, None, None, None] & (weight == 0)] = 1
    make.nodes[0] = replace(node, weight=weight, bits=np.array(bits, dtype=np.int8))
    return make.graph("pixelwise", out)


def test_lane_words_are_header_then_planes_msb_first() -> None:
    graph = _pixelwise([3, 8, 0, 5, 2, 1, 6, 7])
    node = graph.nodes[0]
    assert isinstance(node, QConv)
    (stream,) = lower(graph, plan(graph, TINY)).weights
    for lane, bits in enumerate(lane_bits(stream, 8)):
        words = np.packbits(bits.reshape(-1, 8), axis=1, bitorder="little")[:, 0]
        header = int.from_bytes(words[:8].tobytes(), "little")
        assert header & 0xFFFFFFFF == int(node.bias[lane]) & 0xFFFFFFFF
        assert header >> 32 & 0x1FFFF == int(node.requant.mult[lane]) & 0x1FFFF
        assert header >> 56 == int(node.requant.mult[lane] < 0)
        assert header >> 49 & 3 == int(node.requant.s_sel[lane])
        assert header >> 51 & 1 == int(node.requant.pre[lane])
        assert header >> 52 & 15 == int(node.bits[lane])
        count = int(node.bits[lane])
        for plane in range(count):
            at = max(count - 1 - plane, count == 1)  # a binary weight has its sign
            expected = sum((int(node.weight[lane, i, 0, 0]) >> at & 1) << i for i in range(8))
            assert words[8 + plane] == expected
        assert not words[8 + count :].any()


def test_unused_lanes_have_empty_headers() -> None:
    (stream,) = lower(_pixelwise([4, 4, 4]), plan(_pixelwise([4, 4, 4]), TINY)).weights
    for bits in lane_bits(stream, 8)[3:]:
        assert not bits.any()


@pytest.mark.parametrize(
    ("channels", "words", "beat"), [(4, 16, 32), (8, 8, 16), (16, 4, 8), (32, 2, 4), (64, 1, 2), (128, 1, 1)]
)
def test_header_and_beat_sizes(channels: int, words: int, beat: int) -> None:
    assert header_words(channels) == words and words_per_beat(channels) == beat


@pytest.mark.parametrize(
    ("lanes", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (8, 4), (16, 4), (17, 8), (64, 8), (256, 8)]
)
def test_tag_width(lanes: int, bits: int) -> None:
    assert tag_bits(lanes) == bits


def test_beats_stand_in_the_order_of_first_need_with_ties_by_lane() -> None:
    """Simulates the port: whenever the engine needs a word, everything before it in the stream was needed no later."""
    graph = random_layer(np.random.default_rng(11))
    while not isinstance(graph.nodes[0], QConv) or graph.nodes[0].weight.shape[0] < 12:
        graph = random_layer(np.random.default_rng(int(graph.tensors["image"].zero_point) + 1000))
    arch = replace(TINY, ring_words=4096)
    program = lower(graph, plan(graph, arch))
    beats = np.frombuffer(program.weights[0], dtype=np.uint8).reshape(-1, 16)
    order = []
    for start in range(0, len(beats), 33):
        tags = np.unpackbits(beats[start], bitorder="little").reshape(32, 4)
        order += (tags @ (1 << np.arange(4))).tolist()[: len(beats[start + 1 : start + 33])]
    steps = {n.name: n for n in graph.nodes if isinstance(n, QConv)}
    words = [0] * 8
    need: list[list[tuple[int, int]]] = [[] for _ in range(8)]
    vector = 0
    engine = [s for s in plan(graph, arch).steps if getattr(s, "n_vectors", 0)]
    for step in engine:
        node = steps[step.name]
        for v in range(step.n_vectors):
            for lane in range(8):
                channel = v * 8 + lane
                width = int(node.bits[channel]) if channel < len(node.bits) else 0
                need[lane] += [(vector, 0)] * 8
                for s in range(len(step.taps) * step.in_chunks):
                    for plane in range(width):
                        hi = width >= 6 and plane < width - 4
                        need[lane].append((vector, 1 + 2 * s + (0 if hi else 1)))
            vector += 1
    seen = []
    for lane in order:
        seen.append((*need[lane][words[lane]], lane))
        words[lane] += 16
    assert seen == sorted(seen)
    assert all(w >= len(n) > w - 16 for w, n in zip(words, need, strict=True))


def test_reader_refuses_impossible_streams() -> None:
    graph = _pixelwise([4] * 8)
    (stream,) = lower(graph, plan(graph, TINY)).weights
    with pytest.raises(ProgramError, match="weight stream: lane 0 ends after 0 words"):
        LaneReader(TINY, [stream[:16]]).vector(1)
    bad = bytearray(stream)
    bad[0] |= 0x0F  # tag 15 in a port of 8 lanes
    with pytest.raises(ProgramError, match="tag 15 names no lane; the port has 8"):
        LaneReader(TINY, [bytes(bad)])
    wide = bytearray(stream)
    wide[16 + 6] = 0x90  # bits[55:52] = 9
    with pytest.raises(ProgramError, match=r"lane 0 has 9 bits; legal: 0..8"):
        LaneReader(TINY, [bytes(wide)]).vector(1)


def test_binary_rows_must_be_whole() -> None:
    graph = _pixelwise([1] * 8)
    node = graph.nodes[0]
    assert isinstance(node, QConv)
    weights = LaneReader(TINY, list(lower(graph, plan(graph, TINY)).weights)).vector(1).weight
    assert np.array_equal(weights[:, 0], node.weight[:, :, 0, 0]) and set(weights.ravel()) == {-1, 1}
    hole = node.weight.copy()
    hole[2, 3] = 0
    assert set(node.bits) == {1}
    broken = replace(graph, nodes=(replace(node, weight=hole),))
    with pytest.raises(ProgramError, match=r"channel 2 has 1 bit, but a code of 0; legal: -1 and 1, or more bits"):
        lower(broken, plan(broken, TINY))
    part = replace(node, weight=node.weight[:, :6].copy())
    image = replace(graph.tensors["image"], shape=(6, 2, 2))
    narrow = replace(graph, nodes=(part,), tensors=graph.tensors | {"image": image})
    with pytest.raises(
        ProgramError, match=r"channel 0 has 1 bit, but the layer .*a binary weight cannot be 0; use 2 bits"
    ):
        lower(narrow, plan(narrow, TINY))
