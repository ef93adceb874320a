"""Random integer networks for property tests: single layers and small graphs, built without torch, from one seed."""

from __future__ import annotations

import numpy as np

from bitloom.graph.qgraph import QConcat, QConv, QNode, QPool, QTensor, QuantGraph
from bitloom.numerics.requantize import RATIO_LIMIT, Requant, accumulator_bound, choose_requant
from bitloom.quantize.code_range import lowest

Shape = tuple[int, int, int]
Pads = tuple[int, int, int, int]


def random_codes(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Activation codes of an image, int8 in [-127, 127]."""
    return rng.integers(-127, 128, shape, dtype=np.int64).astype(np.int8)


def _requant(
    rng: np.random.Generator, spread: np.ndarray, bound: np.ndarray, lo: int, residual: bool, name: str
) -> Requant:
    """Multipliers that bring accumulators of about `spread` to some tens of codes; of a pool positive."""
    ratio = np.minimum(rng.uniform(20, 90, spread.shape) / np.maximum(spread, 1.0), RATIO_LIMIT * 0.99)
    if len(spread) > 1:
        ratio *= rng.spawn(1)[0].choice([-1.0, 1.0], spread.shape)  # the sizes of the layers to come stay as drawn
    mult = int(rng.integers(1000, 6000)) if residual else 0
    post = int(rng.integers(-60, 60)) * 4096 - int(rng.integers(-40, 40)) * mult
    return choose_requant(ratio, bound, post, lo, 127, mult, name)


class NetworkMaker:
    """Builds a graph layer by layer: each method adds one node with random integers and returns its tensor's name."""

    def __init__(self, rng: np.random.Generator, shape: Shape) -> None:
        self.rng = rng
        self.tensors = {"image": self._tensor("image", shape)}
        self.nodes: list[QNode] = []

    def _tensor(self, name: str, shape: Shape) -> QTensor:
        return QTensor(name, shape, 0.02, int(self.rng.integers(-127, 128)))

    def _clamp(self) -> int:
        return int(self.rng.choice([-127, -127, -60, 0]))

    def conv(
        self,
        source: str,
        cout: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: Pads,
        residual: str | None,
        groups: int = 1,
    ) -> str:
        rng, (cin, h, w) = self.rng, self.tensors[source].shape
        cin //= groups
        name = f"conv{len(self.nodes)}"
        bits = rng.choice([0, 2, 3, 4, 5, 6, 7, 8], cout, p=[0.1, 0.15, 0.15, 0.2, 0.2, 0.08, 0.06, 0.06])
        if rng.random() < 0.5:
            bits = np.minimum(bits, 5)
        limit = np.where(bits > 0, (1 << np.maximum(bits - 1, 0)) - 1, 0)
        low = np.array([lowest(int(b)) for b in bits])
        centre, half = (limit + low) / 2, (limit - low) / 2
        spread_out = rng.uniform(-1, 1, (cout, cin, *kernel)) * half[:, None, None, None] + centre[:, None, None, None]
        weight = np.round(spread_out).astype(np.int8)
        bias = rng.integers(-3000, 3001, cout).astype(np.int32)
        taps = cin * kernel[0] * kernel[1]
        spread = 70.0 * np.sqrt(taps) * np.maximum(limit, 1) * 0.6 + 300
        requant = _requant(rng, spread, accumulator_bound(weight, bias), self._clamp(), residual is not None, name)
        top, bottom, left, right = padding
        rows = (h + top + bottom - kernel[0]) // stride[0] + 1
        cols = (w + left + right - kernel[1]) // stride[1] + 1
        out = f"t{len(self.nodes)}"
        self.tensors[out] = self._tensor(out, (cout, rows, cols))
        codes = (weight, bits.astype(np.int8), bias, np.ones(cout))
        self.nodes.append(QConv(name, source, out, *codes, stride, padding, requant, residual, groups))
        return out

    def pool(
        self,
        source: str,
        maximum: bool,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: Pads,
        residual: str | None,
    ) -> str:
        rng, (c, h, w) = self.rng, self.tensors[source].shape
        name = f"pool{len(self.nodes)}"
        taps = 1 if maximum else kernel[0] * kernel[1]
        bias = int(rng.integers(-50, 51)) * taps
        bound = np.array([127 * taps + abs(bias)], dtype=np.int64)
        requant = _requant(rng, np.array([70.0 * np.sqrt(taps)]), bound, self._clamp(), residual is not None, name)
        top, bottom, left, right = padding
        rows = (h + top + bottom - kernel[0]) // stride[0] + 1
        cols = (w + left + right - kernel[1]) // stride[1] + 1
        out = f"t{len(self.nodes)}"
        self.tensors[out] = self._tensor(out, (c, rows, cols))
        self.nodes.append(QPool(name, source, out, maximum, kernel, stride, padding, bias, requant, residual))
        return out

    def concat(self, sources: tuple[str, ...]) -> str:
        out = f"t{len(self.nodes)}"
        shapes = [self.tensors[s].shape for s in sources]
        shape = (sum(s[0] for s in shapes), *shapes[0][1:])
        zero = self.tensors[sources[0]].zero_point
        for s in sources:
            t = self.tensors[s]
            self.tensors[s] = QTensor(t.name, t.shape, t.scale, zero)
        self.tensors[out] = QTensor(out, shape, 0.02, zero)
        self.nodes.append(QConcat(f"concat{len(self.nodes)}", sources, out))
        return out

    def graph(self, name: str, output: str) -> QuantGraph:
        return QuantGraph(name, self.tensors, tuple(self.nodes), "image", output)


def _sizes(rng: np.random.Generator, limit: int) -> tuple[int, int]:
    return int(rng.integers(1, limit + 1)), int(rng.integers(1, limit + 1))


def _window(
    rng: np.random.Generator, size: tuple[int, int], largest: int, pool: bool
) -> tuple[tuple[int, int], tuple[int, int], Pads]:
    """Kernel, stride and padding that leave at least one output pixel; a pool's windows always touch the image."""
    square = rng.random() < 0.7
    k = int(rng.integers(1, largest + 1))
    kernel = (k, k) if square else (k, int(rng.integers(1, largest + 1)))
    step = int(rng.choice([1, 1, 2]))
    pads = []
    for axis in (0, 1):
        most = kernel[axis] - 1 if pool else kernel[axis]
        before, after = int(rng.integers(0, most + 1)), int(rng.integers(0, most + 1))
        if rng.random() < 0.5:
            before = after = (kernel[axis] - 1) // 2
        after = max(after, kernel[axis] - size[axis] - before)
        pads += [before, after]
    return kernel, (step, step), (pads[0], pads[1], pads[2], pads[3])


def random_layer(
    rng: np.random.Generator, *, largest_map: int = 14, largest_channels: int = 40, largest_kernel: int = 7
) -> QuantGraph:
    """One layer on an image: convolution (kernel 1..7, stride 1..2, any padding, odd sizes, any channels, bits of 0 and
    2..8 mixed), with or without a residual input (made by a 1×1 convolution) and a pool after it."""
    cin, cout = (int(rng.integers(1, largest_channels + 1)) for _ in range(2))
    size = _sizes(rng, largest_map)
    make = NetworkMaker(rng, (cin, *size))
    kind = rng.choice(["conv", "conv", "conv", "residual", "pool", "full"])
    source = "image"
    if kind == "pool":
        out = make.pool(source, bool(rng.random() < 0.5), *_window(rng, size, min(5, largest_kernel), True), None)
    elif kind == "full":
        small = (min(size[0], 6), min(size[1], 6))
        make = NetworkMaker(rng, (cin, *small))
        out = make.conv(source, cout, small, (1, 1), (0, 0, 0, 0), None)
    else:
        out = make.conv(source, cout, *_window(rng, size, largest_kernel, False), None)
        if kind == "residual":
            k = int(rng.choice([1, 3]))
            half = k // 2
            c = make.tensors[out].shape[0]
            out = make.conv(out, c, (k, k), (1, 1), (half, half, half, half), out)
        if rng.random() < 0.3:
            size = make.tensors[out].shape[1:]
            out = make.pool(out, bool(rng.random() < 0.5), *_window(rng, size, 3, True), None)
    return make.graph("random_layer", out)


def random_network(rng: np.random.Generator, depth: int = 6, *, largest_map: int = 16) -> QuantGraph:
    """A small graph of `depth` layers: convolutions, residual blocks, lone additions, pools, concatenations, ended by a
    global pool and a fully connected layer."""
    size = (int(rng.integers(5, largest_map + 1)), int(rng.integers(5, largest_map + 1)))
    make = NetworkMaker(rng, (int(rng.integers(1, 9)), *size))
    live = make.conv("image", int(rng.integers(3, 25)), *_window(rng, size, 7, False), None)
    while len(make.nodes) < depth:
        c, h, w = make.tensors[live].shape
        kind = rng.choice(["conv", "block", "down", "add", "pool", "concat"])
        if kind == "conv":
            live = make.conv(live, int(rng.integers(2, 33)), *_window(rng, (h, w), 5, False), None)
        elif kind == "block":
            k = int(rng.choice([1, 3]))
            pads = (k // 2,) * 4
            inner = make.conv(
                live, int(rng.integers(2, 25)), (k, k), (1, 1), (pads[0], pads[1], pads[2], pads[3]), None
            )
            live = make.conv(inner, c, (3, 3), (1, 1), (1, 1, 1, 1), live)
        elif kind == "down":
            cout = int(rng.integers(2, 33))
            side = make.conv(live, cout, (1, 1), (2, 2), (0, 0, 0, 0), None)
            k = int(rng.choice([1, 3]))
            inner = make.conv(live, cout, (3, 3), (2, 2), (1, 1, 1, 1), None)
            half = (k // 2, k // 2, k // 2, k // 2)
            live = make.conv(inner, cout, (k, k), (1, 1), half, side)
        elif kind == "add":
            other = make.conv(live, c, (1, 1), (1, 1), (0, 0, 0, 0), None)
            live = make.pool(live, True, (1, 1), (1, 1), (0, 0, 0, 0), other)
        elif kind == "pool":
            live = make.pool(live, bool(rng.random() < 0.6), *_window(rng, (h, w), 3, True), None)
        else:
            parts = tuple(
                make.conv(live, int(rng.integers(1, 20)), (k, k), (1, 1), (k // 2, k // 2, k // 2, k // 2), None)
                for k in (1, 3)
            )
            joined = make.concat(parts)
            live = make.conv(joined, int(rng.integers(2, 25)), (1, 1), (1, 1), (0, 0, 0, 0), None)
            if rng.random() < 0.5:
                live = make.pool(joined, True, (2, 2), (1, 1), (0, 1, 0, 1), None)
    _, h, w = make.tensors[live].shape
    if rng.random() < 0.5 and h * w <= 64:
        live = make.pool(live, False, (h, w), (1, 1), (0, 0, 0, 0), None)
        h = w = 1
    if h * w <= 64:
        live = make.conv(live, int(rng.integers(2, 12)), (h, w), (1, 1), (0, 0, 0, 0), None)
    return make.graph("random_network", live)


def _same(k: int) -> Pads:
    return (k // 2, k // 2, k // 2, k // 2)


def inverted_residual(make: NetworkMaker, x: str, wide: int, cout: int, stride: int, k: int = 3) -> str:
    """1×1 to `wide` channels, depthwise k×k, 1×1 to `cout`; the input is added where the shapes allow it."""
    cin = make.tensors[x].shape[0]
    inner = make.conv(x, wide, (1, 1), (1, 1), (0, 0, 0, 0), None)
    inner = make.conv(inner, wide, (k, k), (stride, stride), _same(k), None, wide)
    return make.conv(inner, cout, (1, 1), (1, 1), (0, 0, 0, 0), x if stride == 1 and cin == cout else None)


def random_grouped(rng: np.random.Generator, depth: int = 6, *, largest_map: int = 14, widest: int = 90) -> QuantGraph:
    """A small graph of at least `depth` layers with grouped convolutions: inverted residuals, depthwise and grouped
    layers (groups of any size, or of several outputs a channel) on images, sums and concatenations."""
    size = (int(rng.integers(4, largest_map + 1)), int(rng.integers(4, largest_map + 1)))
    make = NetworkMaker(rng, (int(rng.integers(1, 41)), *size))
    live = "image"
    while len(make.nodes) < depth:
        c = make.tensors[live].shape[0]
        kind = rng.choice(["inverted", "inverted", "depthwise", "grouped", "grouped", "concat"])
        k = int(rng.choice([1, 3, 3, 5]))
        stride = int(rng.choice([1, 1, 2]))
        if kind == "inverted":
            cout = c if rng.random() < 0.6 else int(rng.integers(1, 40))
            live = inverted_residual(make, live, int(rng.integers(1, widest + 1)), cout, stride, max(k, 3))
        elif kind == "depthwise":
            live = make.conv(live, c * int(rng.choice([1, 1, 2])), (k, k), (stride, stride), _same(k), None, c)
        elif kind == "grouped":
            groups = int(rng.choice([g for g in range(1, c + 1) if c % g == 0]))
            side = make.conv(
                live,
                groups * int(rng.integers(1, 1 + max(1, widest // groups))),
                (1, 1),
                (1, 1),
                _same(1),
                None,
                groups,
            )
            live = make.conv(side, make.tensors[side].shape[0], (k, k), (1, 1), _same(k), side, groups)
        else:
            parts = tuple(make.conv(live, int(rng.integers(1, 30)), (1, 1), (1, 1), _same(1), None) for _ in range(2))
            live = make.concat(parts)
            c = make.tensors[live].shape[0]
            live = make.conv(live, c, (k, k), (1, 1), _same(k), live if rng.random() < 0.5 else None, c)
        if make.tensors[live].shape[0] > 64:
            live = make.conv(live, int(rng.integers(1, 40)), (1, 1), (1, 1), _same(1), None)
    return make.graph("random_grouped", live)
