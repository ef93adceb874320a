"""The rows of the accuracy benchmark: which allocation, with which rounding, and how it is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accuracy_networks import Prepared
from torch import Tensor

from bitloom.allocate.hbp import LayerCosts, allocate, binary_only_in
from bitloom.allocate.probe import Probe, divergence, log_probabilities
from bitloom.allocate.trust import choose_trust
from bitloom.baselines.hawq import V3_WIDTHS, hawq
from bitloom.baselines.layers import SMALLEST, best_per_layer, best_smallest
from bitloom.baselines.ompq import ompq
from bitloom.baselines.search import greedy, random_allocation
from bitloom.errors import BudgetError
from bitloom.evaluate import Evaluation, evaluate
from bitloom.graph.allocation import WIDTHS, BitAllocation, uniform
from bitloom.graph.execute import execute
from bitloom.journal import sources_digest
from bitloom.quantize.quantize import QuantizeOptions, quantize

#: Order of budgets and allocations: the most telling rows first.
BUDGETS = (2.0, 2.5, 3.0, 2.25, 4.0, 3.5, 1.5, 5.0, 6.0, 8.0)
WAVES: tuple[tuple[tuple[str, str], ...], ...] = (
    (("hbp", "gptq"), ("per_layer", "gptq")),
    (("uniform", "gptq"), ("hawq_v2", "gptq")),
    (("naive_channel", "gptq"), ("hawq_v2", "nearest"), ("naive_channel", "nearest"), ("uniform", "nearest")),
    (("ompq", "gptq"), ("greedy", "gptq"), ("random0", "gptq"), ("hawq_v3", "gptq"), ("ompq", "nearest")),
    (("uniform", "plain"), ("naive_channel", "plain")),
    (("random1", "gptq"), ("random2", "gptq")),
)


@dataclass(frozen=True)
class Row:
    """One measurement to make.

    rounding: gptq (ours, with bias correction); without it nearest, plain (GPTQ as published). allocation: of WAVES;
    the number behind `random` is its seed.
    """

    network: str
    data: str
    allocation: str
    rounding: str
    budget: float

    @property
    def comparison(self) -> str:
        """`allocation`: only the allocation differs from HBP's row; `method`: the rounding too."""
        return "method" if self.rounding in ("nearest", "plain") else "allocation"


@dataclass(frozen=True, eq=False)
class Measured:
    """Per image: hit (bool), kl to the float network in nats, cross entropy, agreement with the float top-1."""

    hit: np.ndarray
    kl: np.ndarray
    loss: np.ndarray
    agree: np.ndarray


def rows(network: str, data: str, budgets: tuple[float, ...] = BUDGETS) -> list[Row]:
    """All rows of one network and measuring set, wave by wave."""
    return [Row(network, data, a, r, b) for wave in WAVES for b in budgets for a, r in wave]


def allocation_of(row: Row, prepared: Prepared, judge: Callable[[BitAllocation], float]) -> BitAllocation | None:
    """The allocation of a row; None where the method has none at this budget."""
    p, budget = prepared, int(prepared.total * row.budget)
    try:
        match row.allocation:
            case "hbp":
                return choose_trust(p.costs, WIDTHS, lambda c: allocate(c, WIDTHS, budget), judge)[0].allocation
            case "naive_channel":
                costs = p.naive()
                return best_smallest(
                    lambda b: _naive(costs, b, budget), (1, 2) if row.rounding == "gptq" else (2,), judge
                )
            case "per_layer":
                return best_per_layer(p.costs, WIDTHS, budget, judge, (0, *SMALLEST))  # 0: whole layers may go
            case "greedy":
                return best_smallest(lambda b: greedy(p.costs, WIDTHS, budget, b), SMALLEST, judge)
            case "uniform":
                return uniform(p.graph, int(row.budget)) if row.budget == int(row.budget) else None
            case "random0" | "random1" | "random2":
                return random_allocation(p.channels, p.weights, budget, seed=int(row.allocation[-1]))
            case "ompq":
                orm = p.orm()
                make = lambda b: ompq(orm, p.channels, p.weights, budget, 1.0, WIDTHS[b:], p.binary)  # noqa: E731
                return best_smallest(make, _smallest(row), judge)
            case "hawq_v2":
                probe, traces = Probe(p.calibration, p.tables[row.rounding]), p.traces()
                return best_smallest(lambda b: hawq(probe, traces, budget, WIDTHS[b:], p.binary), _smallest(row), judge)
            case "hawq_v3":
                return hawq(Probe(p.calibration, p.tables[row.rounding]), p.traces(), budget, V3_WIDTHS)
    except BudgetError:
        return None
    raise ValueError(f"unknown allocation '{row.allocation}'")


def choice_of(
    row: Row, measures: Sequence[Prepared], judge: Callable[[Prepared, str, BitAllocation], float]
) -> tuple[Prepared, BitAllocation] | None:
    """The allocation of a row, made for each measure of rounding errors, and the one that `judge` finds better.

    measures: one network, rounded by each; with another rounding than ours the first serves. judge: the loss of an
    allocation with the row's rounding on images kept for choice. None as `allocation_of`.
    """
    found = []
    for prepared in measures if row.rounding == "gptq" else measures[:1]:
        bits = allocation_of(row, prepared, partial(judge, prepared, row.rounding))
        if bits is not None:
            found.append((prepared, bits))
    return min(found, key=lambda f: judge(f[0], row.rounding, f[1])) if len(found) > 1 else next(iter(found), None)


def _smallest(row: Row) -> tuple[int, ...]:
    """Smallest widths to choose from: ours where the rounding is ours, those from 2 on of a method as published."""
    return SMALLEST if row.rounding == "gptq" else SMALLEST[1:]


def _naive(costs: Mapping[str, LayerCosts], least: int, budget: int) -> BitAllocation:
    """Per channel, pruning allowed; without binary channels where `least` is 2."""
    layers = costs if least == 1 else binary_only_in(costs, WIDTHS, ())
    return allocate(layers, WIDTHS, budget).allocation


def float_logits(prepared: Prepared, images: Tensor, batch: int = 16) -> Tensor:
    """(N, classes) of the float network."""
    return torch.cat([execute(prepared.graph, x)[prepared.graph.output].flatten(1) for x in torch.split(images, batch)])


def measure(
    prepared: Prepared,
    bits: BitAllocation | None,
    rounding: str,
    images: Tensor,
    labels: np.ndarray,
    target: Tensor,
    temperature: float = 1.0,
) -> Measured:
    """Weights of `bits` (None: float) and 8-bit activations, float32 on their levels; biases corrected with gptq.

    target: log-probabilities of the float network, at the same temperature.
    """
    probe = Probe(prepared.calibration, prepared.table(rounding))
    if bits is not None:
        probe.place(bits.bits)
        if rounding == "gptq":
            probe.correct()
    return judged(log_probabilities(probe, images, 16, temperature), target, labels)


def integer_agreement(prepared: Prepared, bits: BitAllocation, rounding: str, images: Tensor) -> float:
    """Per cent of the images that the integer network and its fake-quantized model put into the same class."""
    options = QuantizeOptions(bias_correction=rounding == "gptq")
    qgraph = quantize(prepared.graph, bits, prepared.calibration, options, prepared.table(rounding))
    found = evaluate(prepared.graph, qgraph, Evaluation(images, None))
    return float(found["fake_integer_agreement"])


def judged(found: Tensor, target: Tensor, labels: np.ndarray) -> Measured:
    """found, target: log-probabilities (N, classes)."""
    top = found.argmax(dim=1).numpy()
    loss = F.nll_loss(found, torch.from_numpy(labels), reduction="none")
    return Measured(top == labels, divergence(target, found).numpy(), loss.numpy(), top == target.argmax(dim=1).numpy())


def cached(folder: Path, key: str, work: Callable[[], Measured]) -> Measured:
    """The measurement under `key`, made and stored in `folder` when it is not there."""
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        found = work()
        part = path.with_suffix(".part.npz")
        np.savez(part, key=key, hit=found.hit, kl=found.kl, loss=found.loss, agree=found.agree)
        part.rename(path)
    with np.load(path) as file:
        return Measured(file["hit"], file["kl"], file["loss"], file["agree"])


def identity(row: Row, prepared: Prepared, bits: BitAllocation | None) -> str:
    """Equal for rows that measure the same weights on the same images with the same code, whatever their allocation is
    called."""
    digest = hashlib.sha256(sources_digest().encode() + repr(sorted(prepared.calibration.activations.items())).encode())
    probe = Probe(prepared.calibration, prepared.table(row.rounding))
    for name, widths in ({} if bits is None else bits.bits).items():
        digest.update(name.encode() + probe.rows(name, widths).tobytes())
    return f"{row.network} {row.data} {row.rounding} {digest.hexdigest()}"
