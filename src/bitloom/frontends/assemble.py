"""From a draft to a Graph: folds affine maps and borders, rewrites slices and zero channels, drops reshapes.

What cannot be folded into a neighbour but is linear (a strided slice, zero channels, a lone zero border) becomes a 1x1
convolution with an identity weight: exact, and a native operation of the accelerator. So does an affine map that
follows no convolution: depthwise, with a weight a channel (on the image, whose reader takes it folded, and behind a
flattening with a diagonal weight); a warning says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from bitloom.frontends.advice import explain
from bitloom.frontends.draft import Affine, Behind, Draft, DraftLayer, Probabilities, Reshape, Select, Unknown
from bitloom.frontends.findings import Finding, Severity, raise_unsupported
from bitloom.graph.fold import fold_affine
from bitloom.graph.ir import AvgPool, Conv, Flatten, Graph, Input, Linear, MaxPool, Node, Op, Pads, Relu, Shape
from bitloom.graph.shapes import infer
from bitloom.graph.verify import verify


@dataclass(frozen=True, eq=False)
class Resolved:
    """What a draft comes to. graph: None where a layer is not supported; findings: those layers, and warnings.

    readable: all other layers, in order; where such a layer reads an unsupported one, an `Input` of that one's shape
    stands in for it. Layers behind one of unknown shape are left out.
    """

    graph: Graph | None
    findings: tuple[Finding, ...]
    readable: tuple[Node, ...]


#: What an affine map is called in a finding, and the most channels of one that gets a layer of its own.
_AFFINE, _MOST_DIAGONAL = "scale and shift", 4096


def assemble(draft: Draft, output: str) -> Graph:
    """The verified Graph whose output is the draft's tensor `output`; layers that do not reach it are dropped.

    Raises UnsupportedLayerError with every unsupported layer in its text, GraphError and WeightsError as `verify` does.
    """
    resolved = resolve(draft, output)
    raise_unsupported(draft.name, resolved.findings)
    if resolved.graph is None:
        raise AssertionError("a draft without unsupported layers makes a graph")
    return resolved.graph


def resolve(draft: Draft, output: str) -> Resolved:
    """As `assemble`, but returns the unsupported layers, and then no graph, instead of raising for them."""
    output, remarks = _logits(draft, output)
    layers = _reachable(draft, output)
    work = _Assembly(Counter(x for layer in layers for x in layer.inputs), draft.shapes)
    work.uses[output] += 1
    for layer in layers:
        value = work.values[layer.name] = work.place(layer)
        if value is not None and work.uses[layer.name] > 1:
            work.shared.add(value.node)
    last = work.values[output]
    final = None if last is None else work.settle(output, last)
    findings = (*work.findings, *work.remarks, *remarks)
    if final is None or work.findings:
        return Resolved(None, findings, tuple(work.nodes.values()))
    graph = Graph(draft.name, _live(work.nodes, final), final)
    verify(graph)
    return Resolved(graph, findings, graph.nodes)


def _logits(draft: Draft, output: str) -> tuple[str, list[Finding]]:
    """The tensor before a last softmax, and the draft's remarks with one about it."""
    remarks = list(draft.remarks)
    layers = {layer.name: layer for layer in draft.layers}
    while isinstance(op := layers[output].op, Probabilities):
        reason = "is a softmax over the classes; the logits before it are the output"
        remarks.append(Finding(Severity.WARNING, output, op.kind, reason, "the class of an image does not change"))
        (output,) = layers[output].inputs
    return output, remarks


def _reachable(draft: Draft, output: str) -> list[DraftLayer]:
    needed = {output, draft.layers[0].name}
    for layer in reversed(draft.layers):
        if layer.name in needed:
            needed.update(layer.inputs)
    return [layer for layer in draft.layers if layer.name in needed]


def _live(nodes: dict[str, Node], output: str) -> tuple[Node, ...]:
    needed = {output, next(iter(nodes))}
    for node in reversed(nodes.values()):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes.values() if node.name in needed)


@dataclass(frozen=True)
class _Value:
    """A tensor: that of `node`, seen through a Select or under another shape that no node has made yet."""

    node: str
    select: Select | None = None
    shape: Shape | None = None


@dataclass
class _Assembly:
    uses: Counter[str]
    read: Mapping[str, Shape | None]  #: of the draft's tensors
    nodes: dict[str, Node] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    values: dict[str, _Value | None] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)  #: unsupported layers
    remarks: list[Finding] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)  #: nodes that several layers read, under whatever name
    missing: set[str] = field(default_factory=set)  #: unsupported layers that an `Input` stands in for

    def place(self, layer: DraftLayer) -> _Value | None:
        """The value of one layer's tensor; None behind an unsupported layer of unknown shape."""
        if isinstance(layer.op, Unknown):
            self._find(layer.name, layer.op.kind, layer.op.reason, layer.op.advice)
            return self._stand_in(layer.name, self.read[layer.name])
        given = [self.values[x] for x in layer.inputs]
        xs = [x for x in given if x is not None]
        if len(xs) != len(given) or isinstance(layer.op, Behind):
            return None
        match layer.op:
            case Affine():
                return self._affine(layer, layer.op, xs[0])
            case Probabilities():
                self._find(layer.name, layer.op.kind, *explain("softmax"))
                return self._stand_in(layer.name, self.read[layer.name])
            case Select():
                return self._select(layer, layer.op, xs[0])
            case Reshape() | Flatten():
                return self._reshape(layer, xs[0])
            case Conv() | AvgPool() | MaxPool():
                return self._window(layer, layer.op, xs[0])
            case _:
                names = [self.settle(x, v) for x, v in zip(layer.inputs, xs, strict=True)]
                ready = tuple(n for n in names if n is not None)
                return None if len(ready) != len(names) else self._emit(layer.name, layer.op, ready)

    def settle(self, name: str, value: _Value) -> str | None:
        """The node that makes `value` as it stands, made if need be; None (and a finding) when no node can."""
        if value.shape is not None:
            reason = f"reshapes {self.shapes[value.node]} to {value.shape}"
            self._find(name, "Reshape", reason, "only flattening to (N, -1) can be expressed")
            return None
        if value.select is None:
            return value.node
        before, after = value.select.channels
        cin = self.shapes[value.node][0]
        weight = np.zeros((before + cin + after, cin, 1, 1), np.float32)
        weight[before + np.arange(cin), np.arange(cin)] = 1.0
        bias = np.zeros(weight.shape[0], np.float32)
        made = name if name not in self.nodes else f"{name}.identity"
        self._emit(made, Conv(weight, bias, value.select.stride, value.select.padding), (value.node,))
        self.values[name] = _Value(made)
        return made

    def _stand_in(self, name: str, shape: Shape | None) -> _Value | None:
        """For an unsupported layer, so that the layers behind it are read too."""
        if shape is None:
            return None
        self.missing.add(name)
        return self._emit(name, Input(shape), ())

    def _emit(self, name: str, op: Op, inputs: tuple[str, ...]) -> _Value:
        xs = tuple(self.shapes[x] for x in inputs)
        if isinstance(op, Conv | MaxPool | AvgPool):
            op = replace(op, stride=_plain_stride(op, xs[0]))
        self.shapes[name] = infer(name, op, xs)
        self.nodes[name] = Node(name, op, inputs)
        return _Value(name)

    def _find(self, name: str, kind: str, reason: str, advice: str) -> None:
        self.findings.append(Finding(Severity.UNSUPPORTED, name, kind, reason, advice))

    def _affine(self, layer: DraftLayer, op: Affine, x: _Value) -> _Value | None:
        if x.node in self.missing:
            return x
        if x.shape is not None or (len(self.shapes[x.node]) == 1 and op.scale.size > _MOST_DIAGONAL):
            what = f"scales {op.scale.size} values" if x.shape is None else "follows a reshape"
            reason = f"{what}, so it cannot be folded into a convolution"
            self._find(layer.name, _AFFINE, reason, "place it right behind a convolution or linear layer")
            return None
        name = self.settle(layer.inputs[0], x)
        if name is None:
            return None
        node = self.nodes[name]
        if isinstance(node.op, Conv | Linear) and self.uses[layer.inputs[0]] == 1 and name not in self.shared:
            self.nodes[name] = replace(node, op=fold_affine(node.op, op.scale, op.shift))
            return _Value(name)
        return self._diagonal(layer.name, op, node)

    def _diagonal(self, name: str, op: Affine, before: Node) -> _Value:
        """An affine map as a layer of its own."""
        count, flat = op.scale.size, len(self.shapes[before.name]) == 1
        scale, bias = op.scale.astype(np.float32), op.shift.astype(np.float32)
        what = f"follows {type(before.op).__name__} '{before.name}'"
        if isinstance(before.op, Conv | Linear):
            what = f"the output of '{before.name}' is also read by another layer"
        advice = "right behind a convolution that nothing else reads it would cost nothing"
        if isinstance(before.op, Input):
            advice = "it can be left out of the model where --mean and --std say how images are normalised"
        groups = 1 if flat or isinstance(before.op, Input) else count
        weights = f"{count}x{count}" if groups == 1 else str(count)
        reason = f"{what}, so that it runs as a layer of {weights} weights of its own"
        self.remarks.append(Finding(Severity.WARNING, name, _AFFINE, reason, advice))
        weight = np.diag(scale) if groups == 1 else scale[:, None]
        made = Linear(weight, bias) if flat else Conv(weight[:, :, None, None], bias, (1, 1), (0, 0, 0, 0), groups)
        return self._emit(name, made, (before.name,))

    def _select(self, layer: DraftLayer, op: Select, x: _Value) -> _Value | None:
        merged = None if x.shape is not None else _merge(x.select or Select(), op)
        if merged is not None:
            return _Value(x.node, merged)
        node = self.settle(layer.inputs[0], x)
        return None if node is None else _Value(node, op)

    def _reshape(self, layer: DraftLayer, x: _Value) -> _Value | None:
        if x.select is not None:
            node = self.settle(layer.inputs[0], x)
            x = _Value(x.node if node is None else node)
        now = self.shapes[x.node]
        target = layer.op.shape if isinstance(layer.op, Reshape) else (prod(now),)
        if target == now:
            return _Value(x.node)
        before = self.nodes[x.node]
        if isinstance(before.op, Flatten) and target == self.shapes[before.inputs[0]]:
            return _Value(before.inputs[0])
        return self._emit(layer.name, Flatten(), (x.node,)) if target == (prod(now),) else _Value(x.node, shape=target)

    def _window(self, layer: DraftLayer, op: Conv | AvgPool | MaxPool, x: _Value) -> _Value | None:
        border = x.select
        if border is not None and border == Select(border.padding) and x.shape is None:
            padding = _sum(border.padding, op.padding)
            kernel = op.weight.shape[2:] if isinstance(op, Conv) else op.kernel
            small = max(padding[:2]) < kernel[0] and max(padding[2:]) < kernel[1]
            zero_is_neutral = not isinstance(op, MaxPool) or self._not_negative(x.node)
            if isinstance(op, Conv) or (small and zero_is_neutral):
                return self._emit(layer.name, replace(op, padding=padding), (x.node,))
        node = self.settle(layer.inputs[0], x)
        return None if node is None else self._emit(layer.name, op, (node,))

    def _not_negative(self, name: str) -> bool:
        node = self.nodes[name]
        if isinstance(node.op, MaxPool | AvgPool):
            return self._not_negative(node.inputs[0])
        return isinstance(node.op, Relu)


def _merge(first: Select, then: Select) -> Select | None:
    """One Select that does both, or None."""
    if then.padding != (0, 0, 0, 0) and (first.stride != (1, 1) or first.channels != (0, 0)):
        return None
    stride = (first.stride[0] * then.stride[0], first.stride[1] * then.stride[1])
    channels = (first.channels[0] + then.channels[0], first.channels[1] + then.channels[1])
    return Select(_sum(first.padding, then.padding), stride, channels)


def _sum(a: Pads, b: Pads) -> Pads:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def _plain_stride(op: Conv | MaxPool | AvgPool, x: Shape) -> tuple[int, int]:
    """The stride, replaced along an axis with exactly one window, where it means nothing: by the other axis', or 1."""
    kernel = op.weight.shape[2:] if isinstance(op, Conv) else op.kernel
    one_row = x[1] + sum(op.padding[:2]) == kernel[0]
    one_col = x[2] + sum(op.padding[2:]) == kernel[1]
    sh, sw = op.stride
    if one_row and one_col:
        return (1, 1)
    return (sw if one_row else sh, sh if one_col else sw)
