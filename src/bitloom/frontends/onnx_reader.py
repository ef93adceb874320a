"""One ONNX node with the constants and draft tensors behind its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto

from bitloom.frontends.draft import Behind, Draft, DraftOp, Unknown
from bitloom.graph.ir import Shape
from bitloom.graph.verify import check_finite

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reader:
    """One node: its attributes, the constants and tensors behind its inputs, and the draft to write to.

    known: shapes, without batch, of tensors by the file's own names.
    """

    node: NodeProto
    name: str
    constants: dict[str, Array]
    tensors: dict[str, str]
    draft: Draft
    batch: int
    known: dict[str, Shape]

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value, `default` where it is not given."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def constant(self, index: int) -> Array | None:
        """The constant behind an input; None where it is missing or a tensor."""
        return self.constants.get(self.node.input[index]) if index < len(self.node.input) else None

    def scalar(self, index: int) -> float | None:
        """A constant input of one value; None where it has several or is no constant."""
        value = self.constant(index)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def weight(self, index: int, what: str) -> npt.NDArray[np.float32] | None:
        """A constant input as float32, checked to be finite."""
        value = self.constant(index)
        if value is None:
            return None
        check_finite(self.name, what, value)
        return value.astype(np.float32)

    def given(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.node.input) and bool(self.node.input[index])

    @property
    def names(self) -> tuple[str, ...]:
        """Draft tensors of all inputs that are not constants."""
        return tuple(self.tensors[x] for x in self.node.input if x in self.tensors)

    @property
    def shape(self) -> Shape | None:
        """Shape of the first tensor, without batch; None where it is unknown."""
        return self.draft.shapes[self.names[0]]

    def add(self, op: DraftOp) -> str:
        """Appends the layer under this node's name, reading every tensor input."""
        return self.draft.add(self.name, op, self.names)

    def unsupported(self, reason: str, advice: str) -> str:
        """Notes that this node cannot be expressed."""
        shape = self.known.get(self.node.output[0])
        return self.draft.add(self.name, Unknown(self.node.op_type, reason, advice), self.names, shape)

    def second(self, output: str, first: str) -> str:
        """A further output: it counts as unsupported only where something reads it."""
        reason = f"its output '{output}' is used"
        return self.draft.add(
            f"{self.name}.{output}", Unknown(self.node.op_type, reason, "use the first output"), (first,)
        )


def behind(r: Reader) -> str:
    """Notes a node that can only be read once an unsupported one before it is replaced."""
    return r.draft.add(r.name, Behind(), r.names)
