"""The rows of the accuracy benchmark: which allocation, with which rounding, at which budget, and how it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from bitloom.allocate.probe import Probe
from bitloom.compare.lineup import Lineup
from bitloom.compare.methods import Method
from bitloom.compare.outcome import Outcome
from bitloom.evaluate import Evaluation, evaluate
from bitloom.graph.allocation import BitAllocation
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
    """One measurement to make; budget: mean bits."""

    network: str
    data: str
    method: Method
    budget: float


def rows(network: str, data: str, budgets: tuple[float, ...] = BUDGETS) -> list[Row]:
    """All rows of one network and measuring set, wave by wave."""
    return [Row(network, data, Method(a, r), b) for wave in WAVES for b in budgets for a, r in wave]


def integer_agreement(prepared: Lineup, bits: BitAllocation, rounding: str, images: Tensor) -> float:
    """Per cent of the images that the integer network and its fake-quantized model put into the same class."""
    options = QuantizeOptions(bias_correction=rounding == "gptq")
    qgraph = quantize(prepared.graph, bits, prepared.calibration, options, prepared.table(rounding))
    found = evaluate(prepared.graph, qgraph, Evaluation(images, None))
    return float(found["fake_integer_agreement"])


def cached(folder: Path, key: str, work: Callable[[], Outcome]) -> Outcome:
    """The measurement under `key`, made and stored in `folder` when it is not there."""
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        found = work()
        part = path.with_suffix(".part.npz")
        np.savez(part, key=key, hit=found.hit, kl=found.kl, loss=found.loss, agree=found.agree)
        part.rename(path)
    with np.load(path) as file:
        return Outcome(file["hit"], file["kl"], file["loss"], file["agree"])


def identity(network: str, data: str, rounding: str, prepared: Lineup, bits: BitAllocation | None) -> str:
    """Equal for rows that measure the same weights on the same images with the same code, whatever their allocation is
    called."""
    digest = hashlib.sha256(sources_digest().encode() + repr(sorted(prepared.calibration.activations.items())).encode())
    probe = Probe(prepared.calibration, prepared.table(rounding))
    for name, widths in ({} if bits is None else bits.bits).items():
        digest.update(name.encode() + probe.rows(name, widths).tobytes())
    return f"{network} {data} {rounding} {digest.hexdigest()}"
