"""The draft: what a front end read, before anything is folded.

A draft layer is an operation of the graph, or one of the forms below that `bitloom.frontends.assemble` folds away:
an affine map into the convolution before it, borders into the convolution or pool after it, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bitloom.errors import GraphError
from bitloom.frontends.findings import Finding
from bitloom.graph.fold import Float64Array
from bitloom.graph.ir import Op, Pads, Relu, Shape
from bitloom.graph.shapes import infer


@dataclass(frozen=True, eq=False)
class Affine:
    """y = x*scale + shift per channel, float64 (C,): batch normalization, or an added constant."""

    scale: Float64Array
    shift: Float64Array


@dataclass(frozen=True)
class Select:
    """A zero border around the map, then every stride-th pixel from the first, then zero channels before and after."""

    padding: Pads = (0, 0, 0, 0)
    stride: tuple[int, int] = (1, 1)
    channels: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Reshape:
    """The same values in row-major order with another shape (batch left out)."""

    shape: Shape


@dataclass(frozen=True)
class Probabilities:
    """Softmax or its logarithm over the classes: left out as the last layer, where no class changes by it."""

    kind: str


@dataclass(frozen=True)
class Unknown:
    """A layer that cannot be expressed: its kind, why, and what the user can do."""

    kind: str
    reason: str
    advice: str


@dataclass(frozen=True)
class Behind:
    """A layer that can only be read once an unsupported layer before it is replaced; it is not reported itself."""


DraftOp = Op | Affine | Select | Reshape | Probabilities | Unknown | Behind


@dataclass(frozen=True, eq=False)
class DraftLayer:
    """One layer as read; its name is the name of its tensor."""

    name: str
    op: DraftOp
    inputs: tuple[str, ...]


@dataclass
class Draft:
    """Layers in topological order. `shapes` holds None for tensors behind a layer that is not supported.

    rounded: name and bits of the quantizers of activations whose rounding is left out; remarks: what is to be said of
    the model that stops no import.
    """

    name: str
    layers: list[DraftLayer] = field(default_factory=list)
    shapes: dict[str, Shape | None] = field(default_factory=dict)
    rounded: list[tuple[str, float]] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)

    def is_relu(self, tensor: str) -> bool:
        """Whether a ReLU made a tensor."""
        return isinstance(self._maker(tensor).op, Relu)

    def clamp(self, name: str, tensor: str, limit: float | None) -> str:
        """Appends a clamp of a tensor from 0 up to `limit`; behind a ReLU, one that clamps as both do."""
        maker = self._maker(tensor)
        if not isinstance(maker.op, Relu):
            return self.add(name, Relu(limit), (tensor,))
        limits = [x for x in (limit, maker.op.limit) if x is not None]
        return self.add(name, Relu(min(limits, default=None)), maker.inputs)

    def _maker(self, tensor: str) -> DraftLayer:
        return next(layer for layer in reversed(self.layers) if layer.name == tensor)

    def add(self, name: str, op: DraftOp, inputs: tuple[str, ...] = (), shape: Shape | None = None) -> str:
        """Appends a layer and returns its tensor's name: `name`, with a number behind it when that is taken.

        shape: the output of an Unknown, where it is known. Raises GraphError when shapes do not fit.
        """
        unique, count = name, 1
        while unique in self.shapes:
            count += 1
            unique = f"{name}_{count}"
        self.shapes[unique] = shape if isinstance(op, Unknown | Behind) else self._shape(unique, op, inputs)
        self.layers.append(DraftLayer(unique, op, inputs))
        return unique

    def _shape(
        self, name: str, op: Op | Affine | Select | Reshape | Probabilities, inputs: tuple[str, ...]
    ) -> Shape | None:
        known = tuple(shape for shape in (self.shapes[x] for x in inputs) if shape is not None)
        if len(known) != len(inputs):
            return None
        match op:
            case Affine():
                if known[0][0] != op.scale.size:
                    raise GraphError(f"'{name}': {op.scale.size} channel values for {known[0]}; they must be equal")
                return known[0]
            case Select():
                return selected(name, op, known[0])
            case Reshape():
                return op.shape
            case Probabilities():
                return known[0]
            case _:
                return infer(name, op, known)


def selected(name: str, op: Select, x: Shape) -> Shape:
    """Shape of a Select of a map of shape `x`; raises GraphError when x is not (C, H, W)."""
    if len(x) != 3:
        raise GraphError(f"'{name}': pads or slices {x}, must be (C, H, W)")
    (c, h, w), (top, bottom, left, right) = x, op.padding
    rows, cols = -(-(h + top + bottom) // op.stride[0]), -(-(w + left + right) // op.stride[1])
    return (c + sum(op.channels), rows, cols)
