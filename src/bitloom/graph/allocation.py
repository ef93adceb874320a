"""The bit allocation: one width per output channel of every layer with weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bitloom.errors import BudgetError, OutputError
from bitloom.graph.ir import Conv, Graph, Linear, Node

WIDTHS = tuple(range(9))  #: legal widths; 0 is a pruned channel, 1 has the codes -1 and 1


@dataclass(frozen=True, eq=False)
class BitAllocation:
    """bits: node name -> int8 (Cout,) in WIDTHS; inputs: node name -> weights per output channel (Cin*KH*KW)."""

    bits: dict[str, npt.NDArray[np.int8]]
    inputs: dict[str, int]

    def __post_init__(self) -> None:
        for name, widths in self.bits.items():
            bad = ~np.isin(widths, WIDTHS)
            if bad.any():
                channel = int(np.argmax(bad))
                raise BudgetError(f"{name}: channel {channel} has {widths[channel]} bits; legal: {WIDTHS}")
            if name not in self.inputs:
                raise BudgetError(f"{name}: the allocation lacks its number of weights per channel")

    def same_widths(self, other: BitAllocation) -> bool:
        """Whether every channel has the same width in both; of the same layers."""
        return all(np.array_equal(bits, other.bits[name]) for name, bits in self.bits.items())

    @property
    def weights(self) -> int:
        """Weights of all layers."""
        return sum(int(b.size) * self.inputs[name] for name, b in self.bits.items())

    @property
    def total_bits(self) -> int:
        """Weight bits of all layers."""
        return sum(int(b.sum(dtype=np.int64)) * self.inputs[name] for name, b in self.bits.items())

    @property
    def mean_bits(self) -> float:
        """Mean width over all weights."""
        return self.total_bits / self.weights

    @property
    def bytes(self) -> int:
        """Weight bytes, rounded up."""
        return -(-self.total_bits // 8)

    @property
    def histogram(self) -> dict[int, int]:
        """width -> number of weights of that width, for the widths in use."""
        counts: dict[int, int] = {}
        for name, widths in self.bits.items():
            for width, channels in zip(*np.unique(widths, return_counts=True), strict=True):
                counts[int(width)] = counts.get(int(width), 0) + int(channels) * self.inputs[name]
        return dict(sorted(counts.items()))

    def save(self, path: Path) -> None:
        """Writes JSON: layer -> inputs, bits. Raises OutputError when the file cannot be written."""
        layers = {name: {"inputs": self.inputs[name], "bits": b.tolist()} for name, b in self.bits.items()}
        try:
            path.write_text(json.dumps({"layers": layers}) + "\n")
        except OSError as error:
            raise OutputError(
                f"{path}: the allocation cannot be written ({error.strerror}); choose another file"
            ) from None

    @staticmethod
    def load(path: Path) -> BitAllocation:
        """Reads what `save` wrote. Raises BudgetError: unreadable, not such a file, an illegal width."""
        try:
            layers = json.loads(path.read_text())["layers"]
            bits = {name: np.array(layer["bits"], dtype=np.int8) for name, layer in layers.items()}
            inputs = {name: int(layer["inputs"]) for name, layer in layers.items()}
        except OSError as error:
            raise BudgetError(f"{path}: the allocation cannot be read ({error.strerror}); give a saved one") from None
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise BudgetError(f"{path}: not a saved allocation; write it with BitAllocation.save") from None
        return BitAllocation(bits, inputs)


def check_answers(graph: Graph, allocation: BitAllocation) -> None:
    """BudgetError where pruning leaves no way from the image to the output, so that all images would get one answer.

    Layers whose weights are zero anyway do not count as pruned.
    """
    reached = {graph.nodes[0].name}
    for node in graph.nodes[1:]:
        if not _pruned(node, allocation) and reached.intersection(node.inputs):
            reached.add(node.name)
    if graph.output not in reached:
        gone = [node.name for node in graph.nodes if _pruned(node, allocation)]
        raise BudgetError(
            f"{allocation.bytes} bytes of weights leave '{graph.name}' no way from the image to '{graph.output}': "
            f"{len(gone)} of {len(allocation.bits)} layers are pruned whole, '{gone[0]}' first; give a larger budget"
        )


def _pruned(node: Node, allocation: BitAllocation) -> bool:
    """Whether it had weights and loses all of them."""
    op = node.op
    return isinstance(op, Conv | Linear) and bool(op.weight.any()) and not allocation.bits[node.name].any()


def uniform(graph: Graph, bits: int) -> BitAllocation:
    """Every channel of every Conv and Linear at one width."""
    layers = {n.name: n.op.weight for n in graph.nodes if isinstance(n.op, Conv | Linear)}
    widths = {name: np.full(w.shape[0], bits, dtype=np.int8) for name, w in layers.items()}
    return BitAllocation(widths, {name: int(np.prod(w.shape[1:])) for name, w in layers.items()})
