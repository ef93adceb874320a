"""What a sound graph costs or cannot do on the accelerator, before any device or build is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from bitloom.frontends.findings import Finding, Severity
from bitloom.graph.ir import AvgPool, Concat, Conv, Flatten, GlobalAvgPool, Graph, Linear, MaxPool, Node, Shape
from bitloom.graph.printer import node_macs, node_params
from bitloom.graph.shapes import overhang, shapes

#: Taps of one command: every named build holds the first figure, the largest legal build (ArchConfig) the second.
COMMON_TAPS, MOST_TAPS = 256, 512
#: The iteration grid's height has 12 bits in a command (docs/spec/commands.md, out_h).
MOST_ROWS = 4095
#: Kernels up to this edge are proven by the random layer tests.
COMMON_KERNEL = 7


def accelerator_findings(graph: Graph) -> tuple[Finding, ...]:
    """Everything worth saying about a verified graph: unsupported layers first, then warnings, a summary last."""
    return (*limit_findings(graph.nodes), _summary(graph, shapes(graph)))


def limit_findings(nodes: Sequence[Node]) -> tuple[Finding, ...]:
    """`accelerator_findings` without a summary, of nodes in topological order that need not reach any output."""
    part = Graph("", tuple(nodes), "")
    known = shapes(part)
    found: list[Finding] = []
    for node in part.nodes:
        xs = tuple(known[x] for x in node.inputs)
        found += _window(node, xs) + _positions(node, part, known) + _size(node, known[node.name])
    order = list(Severity)
    found.sort(key=lambda finding: order.index(finding.severity))
    return tuple(found)


def _remark(severity: Severity, node: Node, reason: str, advice: str) -> Finding:
    return Finding(severity, node.name, type(node.op).__name__, reason, advice)


def _window(node: Node, xs: tuple[Shape, ...]) -> list[Finding]:
    op = node.op
    if not isinstance(op, Conv | MaxPool | AvgPool):
        return []
    found = []
    kernel = (op.weight.shape[2], op.weight.shape[3]) if isinstance(op, Conv) else op.kernel
    if op.stride not in ((1, 1), (2, 2)):
        what = "the same in both directions" if op.stride[0] != op.stride[1] else "1 or 2"
        found.append(
            _remark(
                Severity.UNSUPPORTED,
                node,
                f"stride {op.stride[0]}x{op.stride[1]}, must be {what}: the activation memory is laid out for 1 and 2",
                "split it into layers of stride 2, or rearrange the pixels outside the accelerator",
            )
        )
    found += _taps(node, prod(kernel), f"kernel {kernel[0]}x{kernel[1]}", "use a smaller kernel")
    if max(kernel) > COMMON_KERNEL and min(kernel) > 0 and kernel != xs[0][1:]:
        reason = f"kernel {kernel[0]}x{kernel[1]} is above {COMMON_KERNEL}; it runs, tap by tap"
        found.append(_remark(Severity.WARNING, node, reason, "several 3x3 layers are usually faster"))
    if isinstance(op, AvgPool) and op.ceil_mode and _overhangs(op, xs[0]):
        reason = "ceil_mode lets the last window end outside the padded image, so the divisor would vary"
        found.append(_remark(Severity.UNSUPPORTED, node, reason, "use ceil_mode=False, or an image size that divides"))
    return found


def _overhangs(op: AvgPool, x: Shape) -> bool:
    _, down, _, across = overhang(op, x[1], x[2])
    return down > op.padding[1] or across > op.padding[3]


def _positions(node: Node, graph: Graph, known: dict[str, Shape]) -> list[Finding]:
    if isinstance(node.op, GlobalAvgPool):
        _, h, w = known[node.inputs[0]]
        return _taps(node, h * w, f"the mean over a map of {h}x{w}", "pool by 2x2 first")
    if isinstance(node.op, Linear):
        _, h, w = _map_behind(node.inputs[0], graph, known)
        return _taps(node, h * w, f"a fully connected layer over a map of {h}x{w}", "pool globally before it")
    if isinstance(node.op, Concat):
        wide = [x for x in node.inputs if len(known[x]) == 1 and max(_map_behind(x, graph, known)[1:]) > 1]
        if wide:
            reason = f"concatenates '{wide[0]}', a flattened map of more than one position"
            return [_remark(Severity.UNSUPPORTED, node, reason, "concatenate channels before flattening")]
    return []


def _map_behind(name: str, graph: Graph, known: dict[str, Shape]) -> tuple[int, int, int]:
    """The map that a vector was flattened from; (C, 1, 1) where a layer made the vector itself."""
    node = graph[name]
    if isinstance(node.op, Flatten) and len(known[node.inputs[0]]) == 3:
        c, h, w = known[node.inputs[0]]
        return c, h, w
    if len(node.inputs) == 1 and not isinstance(node.op, Linear):
        return _map_behind(node.inputs[0], graph, known)
    return known[name][0], 1, 1


def _taps(node: Node, taps: int, what: str, advice: str) -> list[Finding]:
    if taps > MOST_TAPS:
        reason = f"{what} takes {taps} taps, but no build holds more than {MOST_TAPS}"
        return [_remark(Severity.UNSUPPORTED, node, reason, advice)]
    if taps > COMMON_TAPS:
        reason = f"{what} takes {taps} taps, more than the {COMMON_TAPS} of the named builds"
        return [_remark(Severity.WARNING, node, reason, f"{advice}, or choose a build with tap_entries = {MOST_TAPS}")]
    return []


def _size(node: Node, shape: Shape) -> list[Finding]:
    if len(shape) != 3 or shape[1] <= MOST_ROWS:
        return []
    return [_remark(Severity.UNSUPPORTED, node, f"{shape[1]} rows, at most {MOST_ROWS}", "use a smaller image")]


def _summary(graph: Graph, known: dict[str, Shape]) -> Finding:
    macs = sum(node_macs(node.op, known[node.name]) for node in graph.nodes)
    params = sum(node_params(node.op) for node in graph.nodes)
    layers = sum(isinstance(node.op, Conv | Linear) for node in graph.nodes)
    image = "x".join(map(str, known[graph.input.name]))
    reason = f"{layers} layers with weights, {params:,} parameters, {macs:,} MACs for an image of {image}"
    grouped = sum(isinstance(node.op, Conv) and node.op.groups > 1 for node in graph.nodes)
    if grouped:
        reason += f"; {grouped} of the layers have groups, and whole chunks of channels are multiplied, zeros included"
    return Finding(Severity.INFO, graph.name, "summary", reason, "")
