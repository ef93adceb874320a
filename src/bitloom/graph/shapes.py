"""Shape inference: the shape of every tensor of a Graph, batch dimension left out."""

from __future__ import annotations

from math import prod

from bitloom.errors import GraphError
from bitloom.graph.ir import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    GlobalAvgPool,
    Graph,
    Input,
    Linear,
    MaxPool,
    Op,
    Pads,
    Relu,
    Shape,
)


def window_count(size: int, kernel: int, stride: int, before: int, after: int, ceil_mode: bool) -> int:
    """Windows along one axis of `size` pixels with `before` and `after` pixels of padding; may be 0 or negative.

    As PyTorch counts: in ceil mode a last window may hang over the end, but one that would begin past the image and
    its leading padding is dropped.
    """
    span = size + before + after - kernel
    count = (-(-span // stride) if ceil_mode else span // stride) + 1
    if ceil_mode and (count - 1) * stride >= size + before:
        count -= 1
    return count


def overhang(op: MaxPool | AvgPool, height: int, width: int) -> Pads:
    """Borders with which floor-mode windows over a map of that size are exactly the windows of `op`.

    At the end they reach as far as the last window does, not as far as `op` pads.
    """
    top, bottom, left, right = op.padding
    rows = window_count(height, op.kernel[0], op.stride[0], top, bottom, op.ceil_mode)
    cols = window_count(width, op.kernel[1], op.stride[1], left, right, op.ceil_mode)
    down = max(0, (rows - 1) * op.stride[0] + op.kernel[0] - height - top)
    across = max(0, (cols - 1) * op.stride[1] + op.kernel[1] - width - left)
    return (top, down, left, across)


def shapes(graph: Graph) -> dict[str, Shape]:
    """Shape of every node's tensor by name: (C, H, W), or (C,) after Flatten and Linear.

    Raises GraphError naming the node, the shapes it got and what it needs, or an input that no earlier node makes.
    """
    known: dict[str, Shape] = {}
    for node in graph.nodes:
        missing = [name for name in node.inputs if name not in known]
        if missing:
            raise GraphError(
                f"'{node.name}' reads '{missing[0]}', which no earlier node makes; put nodes in topological order"
            )
        known[node.name] = infer(node.name, node.op, tuple(known[name] for name in node.inputs))
    return known


def class_count(graph: Graph) -> int:
    """Logits of a network, one a class. Raises GraphError as `shapes` does."""
    return prod(shapes(graph)[graph.output])


def infer(name: str, op: Op, xs: tuple[Shape, ...]) -> Shape:
    """Shape that `op`, called `name` in errors, makes of inputs of shapes `xs`; raises GraphError."""
    _count_inputs(name, op, xs)
    match op:
        case Input():
            return op.shape
        case Conv():
            return _conv(name, op, xs[0])
        case Linear():
            if len(xs[0]) != 1 or op.weight.ndim != 2 or xs[0][0] != op.weight.shape[1]:
                raise GraphError(
                    f"'{name}': Linear with weight {op.weight.shape} reads {xs[0]}, must be a vector of "
                    f"{op.weight.shape[-1]}; flatten first"
                )
            return (int(op.weight.shape[0]),)
        case Relu():
            return xs[0]
        case Add():
            if xs[0] != xs[1]:
                raise GraphError(f"'{name}': adds {xs[0]} and {xs[1]}; both must have one shape")
            return xs[0]
        case MaxPool() | AvgPool():
            c, h, w = _map(name, op, xs[0])
            rows = window_count(h, op.kernel[0], op.stride[0], *op.padding[:2], op.ceil_mode)
            cols = window_count(w, op.kernel[1], op.stride[1], *op.padding[2:], op.ceil_mode)
            return _positive(name, op, xs[0], (c, rows, cols), op.kernel)
        case GlobalAvgPool():
            return (_map(name, op, xs[0])[0], 1, 1)
        case Flatten():
            return (prod(xs[0]),)
        case Concat():
            if len({x[1:] for x in xs}) != 1:
                raise GraphError(f"'{name}': concatenates channels of {', '.join(map(str, xs))}; maps must be equal")
            return (sum(x[0] for x in xs), *xs[0][1:])


def _count_inputs(name: str, op: Op, xs: tuple[Shape, ...]) -> None:
    low, high = (0, 0) if isinstance(op, Input) else (2, 2) if isinstance(op, Add) else (1, 1)
    if isinstance(op, Concat):
        low, high = 1, len(xs)
    if not low <= len(xs) <= max(low, high):
        raise GraphError(f"'{name}': {type(op).__name__} has {len(xs)} inputs, must have {low}")


def _map(name: str, op: Op, x: Shape) -> tuple[int, int, int]:
    if len(x) != 3:
        raise GraphError(f"'{name}': {type(op).__name__} reads {x}, must be (C, H, W); do not flatten before it")
    return x[0], x[1], x[2]


def _conv(name: str, op: Conv, x: Shape) -> Shape:
    c, h, w = _map(name, op, x)
    if op.weight.ndim != 4 or op.weight.shape[1] * op.groups != c:
        need = op.weight.shape[1] * op.groups if op.weight.ndim == 4 else "a weight of 4 dimensions, not"
        raise GraphError(f"'{name}': Conv with weight {op.weight.shape} reads {x}; needs {need} channels")
    cout, _, kh, kw = op.weight.shape
    rows = window_count(h, kh, op.stride[0], *op.padding[:2], False)
    cols = window_count(w, kw, op.stride[1], *op.padding[2:], False)
    return _positive(name, op, x, (cout, rows, cols), (kh, kw))


def _positive(name: str, op: Op, x: Shape, y: Shape, kernel: tuple[int, int]) -> Shape:
    if min(y) < 1:
        raise GraphError(
            f"'{name}': {type(op).__name__} with kernel {kernel[0]}x{kernel[1]} makes {y} of {x}; "
            "the padded input is smaller than the kernel, use a larger image"
        )
    return y
