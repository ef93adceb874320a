"""Fine-tuning in phases: between two of them the widths are solved again for the weights that training has reached.

Training changes what a channel needs: weights settle on the levels that they have, and a channel that was dear at two
bits may no longer be. Each new phase keeps the trained codes, scale and bias of every channel whose width stays, rounds
the others anew from the real weights reached, and follows the same float network as before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

from bitloom.allocate.hbp import LayerCosts
from bitloom.allocate.trust import Allocated
from bitloom.candidates import price
from bitloom.errors import DataError
from bitloom.graph.allocation import check_answers
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QConv, QNode, QuantGraph
from bitloom.journal import Journal
from bitloom.quantize.assemble import make_conv
from bitloom.quantize.fake import dequantized
from bitloom.quantize.finetune import FinetuneOptions, FinetuneResult, Labels, finetune
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.parallel import leads
from bitloom.quantize.quantize import quantize
from bitloom.quantize.tables import round_network

S = TypeVar("S", bound=Allocated)


@dataclass(frozen=True, eq=False)
class Training:
    """images float (N, C, H, W), normalised, and their labels or None; options: `steps` over all phases together.

    resolve: how often the widths are solved again on the way (0: they stay). Raises DataError for a negative number or
    more phases than steps.
    """

    images: Tensor
    labels: Labels | None = None
    options: FinetuneOptions = field(default_factory=FinetuneOptions)
    resolve: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.resolve < self.options.steps:
            raise DataError(
                f"widths solved again {self.resolve} times in {self.options.steps} steps; legal: 0 to "
                f"{self.options.steps - 1}"
            )

    def phase_options(self, phase: int) -> FinetuneOptions:
        """Equal shares of the steps; every phase draws batches of its own."""
        steps, left = divmod(self.options.steps, self.resolve + 1)
        return replace(self.options, steps=steps + (phase < left), seed=self.options.seed + phase)

    def key(self) -> str:
        """Identity of the images, labels and options."""
        digest = hashlib.sha256(self.images.contiguous().numpy().tobytes())
        digest.update(b"" if self.labels is None else self.labels.tobytes())
        return f"{digest.hexdigest()} {self.options} {self.resolve}"


@dataclass(frozen=True, eq=False)
class Retrained(Generic[S]):
    """The integer network and the solution that its widths are of; losses of every phase; changed: share of channels
    that got another width before each phase but the first."""

    qgraph: QuantGraph
    solution: S
    losses: tuple[tuple[float, ...], ...]
    changed: tuple[float, ...]


def retrain(
    graph: Graph,
    calibration: Calibration,
    start: QuantGraph,
    solution: S,
    solve: Callable[[Mapping[str, LayerCosts]], S],
    measuring: Tensor,
    training: Training,
    journal: Journal,
    key: str,
    report: Callable[[int, float], None] | None = None,
) -> Retrained[S]:
    """Trains `start`, the integer network of `graph` at `solution`, in phases kept by `journal` under `key`.

    solve: widths from costs, called between phases; measuring: images for those costs, as in `price`. A phase that was
    interrupted goes on from its checkpoint, train-*.pt beside the steps. Raises DataError and TrainingError as
    `finetune` does, BudgetError as `solve` and `check_answers` do.
    """
    key = f"{key} {training.key()}"
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    state = _State(calibration, graph, start, solution)
    losses: list[tuple[float, ...]] = []
    changed: list[float] = []
    for phase in range(training.resolve + 1):
        if phase:
            again = partial(_solved_again, state, solve, measuring)
            state, moved = journal.step(f"resolve{phase}", key, again)
            changed.append(moved)
        checkpoint = journal.folder / f"train-{name}-{phase}.pt"
        work = partial(
            finetune,
            state.graph,
            state.calibration.lowered,
            state.qgraph,
            training.images,
            training.labels,
            training.phase_options(phase),
            checkpoint,
            report,
            calibration.lowered,
        )
        result: FinetuneResult = journal.step(f"train{phase}", key, work)
        if leads():
            checkpoint.unlink(missing_ok=True)  # the step has all of it, and this is three times the weights
        state = replace(state, graph=result.graph, qgraph=result.qgraph)
        losses.append(result.losses)
    return Retrained(state.qgraph, state.solution, tuple(losses), tuple(changed))


@dataclass(frozen=True, eq=False)
class _State(Generic[S]):
    """Real weights (calibration and graph) and the integer network at a solution."""

    calibration: Calibration
    graph: Graph
    qgraph: QuantGraph
    solution: S


def _solved_again(
    state: _State[S], solve: Callable[[Mapping[str, LayerCosts]], S], measuring: Tensor
) -> tuple[_State[S], float]:
    """The state with new widths for its real weights, and the share of channels that changed.

    Activation quantizers stay: training has adapted to them.
    """
    before = state.calibration
    calibration = replace(calibrate(state.graph, before.images, before.options), activations=before.activations)
    rounded = round_network(calibration)
    found = solve(price(calibration, rounded, measuring))
    check_answers(state.graph, found.allocation)
    fresh = quantize(state.graph, found.allocation, calibration, rounded=rounded)
    old, new = state.solution.allocation.bits, found.allocation.bits
    moved = sum(int((old[name] != new[name]).sum()) for name in old) / sum(len(bits) for bits in old.values())
    return _State(calibration, state.graph, keep_trained(calibration, state.qgraph, fresh), found), moved


def keep_trained(calibration: Calibration, trained: QuantGraph, fresh: QuantGraph) -> QuantGraph:
    """`fresh` with the codes, scale and bias of `trained` in every channel of the same width in both."""
    steps = {step.name: step for step in calibration.lowered.convs}
    before = {node.name: node for node in trained.nodes}
    nodes: list[QNode] = []
    for node in fresh.nodes:
        old = before[node.name]
        if isinstance(node, QConv) and isinstance(old, QConv):
            source = fresh.tensors[node.input]
            same = node.bits == old.bits
            codes = np.where(same[:, None, None, None], old.weight, node.weight).reshape(len(same), -1)
            scale = np.where(same, old.weight_scale, node.weight_scale)
            bias = np.where(same, dequantized(old, source)[1].numpy(), dequantized(node, source)[1].numpy())
            node = make_conv(steps[node.name], fresh.tensors, codes, node.bits, scale, bias)
        nodes.append(node)
    return QuantGraph(fresh.name, fresh.tensors, tuple(nodes), fresh.input, fresh.output)
