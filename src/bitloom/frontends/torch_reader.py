"""One call of an exported ATen graph with the tensors behind its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from bitloom.frontends.draft import Draft, DraftOp, Unknown
from bitloom.graph.ir import FloatArray, Shape
from bitloom.graph.verify import check_finite


@dataclass(frozen=True)
class Reader:
    """One ATen call: its arguments by name, the tensors behind them, and the draft to write to."""

    node: fx.Node
    kind: str
    name: str
    values: dict[fx.Node, str | Tensor]
    draft: Draft

    def arg(self, name: str) -> Any:
        """An argument by its schema name, its default where it is not given."""
        for index, formal in enumerate(self.node.target._schema.arguments):  # type: ignore[union-attr]
            if formal.name == name:
                if index < len(self.node.args):
                    return self.node.args[index]
                return self.node.kwargs.get(name, formal.default_value if formal.has_default_value() else None)
        raise KeyError(name)

    def tensor(self, name: str) -> str | Tensor | None:
        """The draft tensor's name or the constant behind a tensor argument; None where it is None."""
        given = self.arg(name)
        return self.values[given] if isinstance(given, fx.Node) else None

    def constant(self, name: str) -> FloatArray | None:
        """A constant argument as float32, checked to be finite; None where it is None or not a constant."""
        value = self.tensor(name)
        if not isinstance(value, Tensor):
            return None
        array = value.float().numpy().copy()
        check_finite(self.name, name.replace("_", " "), array)
        return array

    def shape(self, given: Any) -> Shape:
        """Shape of a tensor argument or of this call's result, batch included."""
        value = given.meta["val"]
        return tuple(int(size) for size in (value[0] if isinstance(value, list | tuple) else value).shape)

    def unsupported(self, reason: str, advice: str) -> str:
        """Notes that this call cannot be expressed."""
        inputs = tuple(v for v in (self.values[n] for n in self.node.all_input_nodes) if isinstance(v, str))
        return self.draft.add(self.name, Unknown(self.kind, reason, advice), inputs, self.shape(self.node)[1:])

    def add(self, op: DraftOp, *inputs: str | Tensor | None) -> str:
        """Appends the layer under this call's name."""
        return self.draft.add(self.name, op, tuple(x for x in inputs if isinstance(x, str)))
