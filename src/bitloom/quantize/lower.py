"""Fusion: a float Graph becomes the steps that the accelerator runs, without any data yet.

Conv/Linear [+ Add] [+ Relu] is one step; a lone Add or Relu is a 1x1 maximum pool; average pools take a following Relu;
Flatten disappears. A step and its output tensor carry the names of the convolution and of the last fused node.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

from bitloom.errors import GraphError, UnsupportedLayerError
from bitloom.graph.ir import (
    Add,
    AvgPool,
    Concat,
    Conv,
    Flatten,
    FloatArray,
    GlobalAvgPool,
    Graph,
    Input,
    Linear,
    MaxPool,
    Node,
    Pads,
    Relu,
)
from bitloom.graph.shapes import overhang
from bitloom.graph.ties import Classes

Map = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class ConvStep:
    """Convolution; weight (Cout, Cin / groups, KH, KW) float32, bias (Cout,) float32. relu and residual are applied
    after it."""

    name: str
    input: str
    output: str
    weight: FloatArray
    bias: FloatArray
    stride: tuple[int, int]
    padding: Pads
    relu: Relu | None = None
    residual: str | None = None
    groups: int = 1


@dataclass(frozen=True)
class PoolStep:
    """Maximum, or sum divided by `count`. `padding` holds the real overhang. same_scale: codes pass unchanged."""

    name: str
    input: str
    output: str
    maximum: bool
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Pads
    count: int = 1
    relu: Relu | None = None
    residual: str | None = None
    same_scale: bool = False


@dataclass(frozen=True)
class ConcatStep:
    """Concatenation of channels by address."""

    name: str
    inputs: tuple[str, ...]
    output: str


Step = ConvStep | PoolStep | ConcatStep


@dataclass(frozen=True, eq=False)
class Lowered:
    """Steps in order; shapes (C, H, W) by tensor; tensors of one `group` share their scale."""

    name: str
    steps: tuple[Step, ...]
    shapes: dict[str, Map]
    group: dict[str, str]
    input: str
    output: str

    @property
    def convs(self) -> tuple[ConvStep, ...]:
        """The steps with weights, in order."""
        return tuple(step for step in self.steps if isinstance(step, ConvStep))

    @property
    def last(self) -> ConvStep:
        """The last step with weights, whose outputs the logits follow."""
        return self.convs[-1]

    def spent(self, *keep: str) -> tuple[tuple[str, ...], ...]:
        """For each step the tensors that it reads or writes and no later step reads, except `keep`."""
        last: dict[str, int] = {}
        for index, step in enumerate(self.steps):
            last |= dict.fromkeys((*step_inputs(step), step.output), index)
        return tuple(
            tuple(name for name, at in last.items() if at == index and name not in keep)
            for index in range(len(self.steps))
        )


def step_inputs(step: Step) -> tuple[str, ...]:
    """Names of the tensors that a step reads."""
    if isinstance(step, ConcatStep):
        return step.inputs
    return (step.input,) if step.residual is None else (step.input, step.residual)


def lower(graph: Graph) -> Lowered:
    """Fuses `graph`; raises GraphError on impossible shapes, UnsupportedLayerError on what integers cannot express."""
    return _Lowering(graph).run()


@dataclass
class _Lowering:
    graph: Graph
    real: dict[str, str] = field(default_factory=dict)  # through Flatten
    shapes: dict[str, Map] = field(default_factory=dict)
    scales: Classes = field(default_factory=Classes)  # tensors of one scale
    steps: list[Step] = field(default_factory=list)
    claimed: set[str] = field(default_factory=set)

    def run(self) -> Lowered:
        for node in self.graph.nodes:
            self.real[node.name] = self.real[node.inputs[0]] if isinstance(node.op, Flatten) else node.name
        nodes = [n for n in self.graph.nodes if not isinstance(n.op, Flatten)]
        chains = self._chains(nodes)
        by_tail = {chain[-1].name: chain for chain in chains}
        for node in nodes:
            if isinstance(node.op, Input):
                if len(node.op.shape) != 3:
                    raise GraphError(f"input '{node.name}' has shape {node.op.shape}, must be (C, H, W)")
                c, h, w = node.op.shape
                self.shapes[node.name] = (c, h, w)
            elif node.name in by_tail:
                self._emit(by_tail[node.name])
        group = {name: self.scales.find(name) for name in self.shapes}
        first, last = self.graph.input.name, self.real[self.graph.output]
        return Lowered(self.graph.name, tuple(self.steps), dict(self.shapes), group, first, last)

    def _chains(self, nodes: list[Node]) -> list[list[Node]]:
        """Nodes grouped into fused chains: head [Add] [Relu]."""
        order = {n.name: i for i, n in enumerate(nodes)}
        by_name = {n.name: n for n in nodes}
        uses: dict[str, list[str]] = defaultdict(list)
        for n in nodes:
            for x in n.inputs:
                uses[self.real[x]].append(n.name)
        uses[self.real[self.graph.output]].append("")
        chain_of: dict[str, list[Node]] = {}
        for n in nodes:
            if isinstance(n.op, Input):
                continue
            producers = [by_name[self.real[x]] for x in n.inputs]
            if isinstance(n.op, Add):
                ready = [p for p in producers if isinstance(p.op, Conv | Linear) and uses[p.name] == [n.name]]
                if ready:
                    head = max(ready, key=lambda p: order[p.name])
                    chain_of[n.name] = chain_of[head.name]
                    chain_of[n.name].append(n)
                    continue
            if isinstance(n.op, Relu):
                p = producers[0]
                fusible = isinstance(p.op, Conv | Linear | Add | AvgPool | GlobalAvgPool)
                if fusible and uses[p.name] == [n.name] and chain_of[p.name][-1] is p:
                    chain_of[n.name] = chain_of[p.name]
                    chain_of[n.name].append(n)
                    continue
            chain_of[n.name] = [n]
        seen: dict[int, list[Node]] = {id(chain): chain for chain in chain_of.values()}
        return list(seen.values())

    def _emit(self, chain: list[Node]) -> None:
        head, tail = chain[0], chain[-1].name
        relu = next((n.op for n in chain[1:] if isinstance(n.op, Relu)), None)
        xs = [self.real[x] for x in head.inputs]
        residual = None
        for n in chain:
            if isinstance(n.op, Add):
                names = [self.real[x] for x in n.inputs]
                others = [x for x in names if x != head.name] if n is not head else names[1:]
                residual = others[0]
                if n is head:
                    xs = names[:1]
        if isinstance(head.op, Concat):
            self._concat(head, xs)
            return
        step = self._step(head, xs[0], tail)
        step = replace(step, relu=relu if not isinstance(head.op, Relu) else head.op, residual=residual)
        self._push(step, head)

    def _push(self, step: ConvStep | PoolStep, head: Node) -> None:
        c, h, w = self.shapes[step.input]
        kh, kw = step.weight.shape[2:] if isinstance(step, ConvStep) else step.kernel
        top, bottom, left, right = step.padding
        rows = (h + top + bottom - kh) // step.stride[0] + 1
        cols = (w + left + right - kw) // step.stride[1] + 1
        if rows < 1 or cols < 1:
            raise GraphError(f"{head.name}: kernel {kh}x{kw} exceeds its padded input {h}x{w}; use a larger image")
        shape = (step.weight.shape[0] if isinstance(step, ConvStep) else c, rows, cols)
        if step.residual is not None and self.shapes[step.residual] != shape:
            raise GraphError(f"{step.output}: adds {self.shapes[step.residual]} to {shape}; both must have one shape")
        self.shapes[step.output] = shape
        if isinstance(step, PoolStep) and step.same_scale:
            self.scales.join(step.input, step.output)
        self.steps.append(step)

    def _step(self, node: Node, x: str, output: str) -> ConvStep | PoolStep:
        op, (c, h, w) = node.op, self.shapes[x]
        match op:
            case Conv():
                if op.weight.shape[1] * op.groups != c:
                    raise GraphError(f"{node.name}: weight {op.weight.shape}, but the input has {c} channels")
                return ConvStep(node.name, x, output, op.weight, op.bias, op.stride, op.padding, groups=op.groups)
            case Linear():
                if op.weight.shape[1] != c * h * w:
                    raise GraphError(f"{node.name}: weight {op.weight.shape}, but the input has {c * h * w} values")
                kernel = op.weight.reshape(op.weight.shape[0], c, h, w)
                return ConvStep(node.name, x, output, kernel, op.bias, (1, 1), (0, 0, 0, 0))
            case MaxPool():
                pads = overhang(op, h, w)
                return PoolStep(node.name, x, output, True, op.kernel, op.stride, pads, same_scale=True)
            case AvgPool():
                pads = overhang(op, h, w)
                if pads[1] > op.padding[1] or pads[3] > op.padding[3]:
                    raise UnsupportedLayerError(
                        f"{node.name}: average pool in ceil mode whose last window ends outside the padded image "
                        f"(input {h}x{w}, kernel {op.kernel}, stride {op.stride}); use ceil_mode=False"
                    )
                return PoolStep(node.name, x, output, False, op.kernel, op.stride, pads, op.kernel[0] * op.kernel[1])
            case GlobalAvgPool():
                return PoolStep(node.name, x, output, False, (h, w), (1, 1), (0, 0, 0, 0), h * w)
            case Add() | Relu():
                return PoolStep(node.name, x, output, True, (1, 1), (1, 1), (0, 0, 0, 0))
            case _:
                raise GraphError(f"{node.name}: {type(op).__name__} cannot stand here")

    def _concat(self, node: Node, xs: list[str]) -> None:
        inputs = []
        for i, x in enumerate(xs):
            if x in self.claimed or x in inputs:  # by address a tensor can stand in one place only
                copy = f"{node.name}.copy{i}"
                self._push(PoolStep(copy, x, copy, True, (1, 1), (1, 1), (0, 0, 0, 0), same_scale=True), node)
                x = copy
            inputs.append(x)
        self.claimed.update(inputs)
        maps = [self.shapes[x] for x in inputs]
        if len({m[1:] for m in maps}) != 1:
            raise UnsupportedLayerError(f"{node.name}: concatenates maps {maps}; heights and widths must be equal")
        self.shapes[node.name] = (sum(m[0] for m in maps), *maps[0][1:])
        for x in inputs:
            self.scales.join(x, node.name)
        self.steps.append(ConcatStep(node.name, tuple(inputs), node.name))
