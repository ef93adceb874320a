"""The printed graph: one row per node, and the cost of a node."""

from __future__ import annotations

from math import prod

from bitloom.graph.ir import AvgPool, Conv, Graph, Linear, MaxPool, Op, Relu, Shape
from bitloom.graph.shapes import shapes

_HEAD = ("name", "op", "inputs", "shape", "weights", "MACs")


def node_macs(op: Op, output: Shape) -> int:
    """Multiply-accumulates of one image: Conv and Linear only, padding counted as if it were image."""
    if isinstance(op, Conv):
        return int(op.weight.size) * prod(output[1:])
    return int(op.weight.size) if isinstance(op, Linear) else 0


def node_params(op: Op) -> int:
    """Weights and biases of a node (batch normalization is folded in)."""
    return int(op.weight.size + op.bias.size) if isinstance(op, Conv | Linear) else 0


def describe(op: Op) -> str:
    """The operation with its attributes, short: `Conv 3x3/2 p1`."""
    match op:
        case Conv():
            groups = f" g{op.groups}" if op.groups > 1 else ""
            return f"Conv {_window(op.weight.shape[2:], op.stride)}{_pads(op.padding)}{groups}"
        case MaxPool() | AvgPool():
            ceil = " ceil" if op.ceil_mode else ""
            return f"{type(op).__name__} {_window(op.kernel, op.stride)}{_pads(op.padding)}{ceil}"
        case Relu() if op.limit is not None:
            return f"Relu{op.limit:g}"
        case _:
            return type(op).__name__


def format_graph(graph: Graph) -> str:
    """A table (name, op, inputs, shape, weights, MACs) with a line of totals; raises GraphError on wrong shapes."""
    known = shapes(graph)
    rows = [_HEAD]
    macs = params = 0
    for node in graph.nodes:
        m, p = node_macs(node.op, known[node.name]), node_params(node.op)
        macs, params = macs + m, params + p
        shape = "x".join(map(str, known[node.name]))
        rows.append((node.name, describe(node.op), ", ".join(node.inputs), shape, f"{p:,}" if p else "", _or_blank(m)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "  ".join(_cell(cell, width, i >= 4) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append(f"{graph.name}: {len(graph.nodes)} nodes, output {graph.output}, {params:,} weights, {macs:,} MACs")
    return "\n".join(line.rstrip() for line in lines)


def _or_blank(value: int) -> str:
    return f"{value:,}" if value else ""


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)


def _window(kernel: tuple[int, ...], stride: tuple[int, int]) -> str:
    step = f"{stride[0]}" if stride[0] == stride[1] else f"({stride[0]},{stride[1]})"
    return f"{kernel[0]}x{kernel[1]}/{step}"


def _pads(pads: tuple[int, int, int, int]) -> str:
    if not any(pads):
        return ""
    return f" p{pads[0]}" if len(set(pads)) == 1 else f" p({','.join(map(str, pads))})"
