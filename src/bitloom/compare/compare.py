"""HBP beside other allocations on a network and images of the user's own, at equal weight bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from bitloom.allocate.budget import Budget
from bitloom.allocate.hbp import binary_only_in
from bitloom.candidates import Material, priced_tables
from bitloom.compare.lineup import Lineup
from bitloom.compare.methods import NAMES, PUBLISHED, Method, choice_of
from bitloom.compare.outcome import Outcome, float_logits, measure, outcome_of, paired
from bitloom.errors import BudgetError, DataError, OutputError
from bitloom.evaluate import Evaluation
from bitloom.graph.allocation import WIDTHS, BitAllocation
from bitloom.graph.ir import Graph
from bitloom.graph.verify import verify
from bitloom.inputs import check_build, check_task, identity, usable
from bitloom.journal import Journal
from bitloom.pictures import split_pictures
from bitloom.program.binary import binary_layers
from bitloom.quantize.curvature import CHOICE_TEMPERATURE
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.statistics import StatisticsOptions
from bitloom.quantize.tables import nearest_table
from bitloom.target.arch import ArchConfig

AGAINST = ("per_layer", "uniform", "hawq_v2", "ompq")  #: allocations that HBP is compared with by default


@dataclass(frozen=True)
class CompareOptions:
    """budgets: mean bits per weight. against: allocations of `methods.NAMES` beside HBP. published: those that have a
    rounding of their own are measured with it too. views, coherent: as in `CompileOptions`. Raises BudgetError and
    DataError: a budget or a name that cannot be.
    """

    budgets: tuple[float, ...] = (2.0, 3.0, 4.0)
    against: tuple[str, ...] = AGAINST
    published: bool = True
    views: int = 1
    coherent: int = 64

    def __post_init__(self) -> None:
        for budget in self.budgets:
            if not isinstance(budget, Real) or isinstance(budget, bool):
                raise BudgetError(f"budget = {budget!r}; must be mean bits per weight, for example 4.0")
            Budget(mean_bits=budget)  # refuses what is out of range
        if not self.budgets:
            raise BudgetError("no budget to compare at; give at least one, in mean bits per weight")
        unknown = [name for name in self.against if name not in NAMES]
        if unknown:
            raise DataError(f"unknown allocation '{unknown[0]}'; legal: {', '.join(NAMES)}")

    @property
    def methods(self) -> tuple[Method, ...]:
        """In the order of the rows: HBP, the others with our rounding, then with their own."""
        others = tuple(name for name in dict.fromkeys(self.against) if name != "hbp")
        own = [Method(name, r) for name in others for r in PUBLISHED.get(name, ())] if self.published else []
        return (Method("hbp", "gptq"), *(Method(name, "gptq") for name in others), *own)


def compare(
    graph: Graph,
    calibration: Tensor,
    evaluation: Evaluation,
    arch: ArchConfig,
    out: Path,
    options: CompareOptions | None = None,
) -> list[dict[str, Any]]:
    """A row for the float network and for every method and budget; writes them to out/compare.json as well.

    calibration: normalised images, float (N, C, H, W), split as in `compile_model`, with which the steps in `out/steps`
    are shared; nothing is chosen on the images of `evaluation`. arch: the build, which says where binary channels are
    legal. Allocations are those of least estimated loss, without regard for cycles.

    A row: network, method, allocation, rounding, comparison (`allocation`: rounding as HBP's, `method`: the related
    method's own, `reference`: float), budget, mean_bits, weight_bytes, the figures of `Outcome`, measure (of rounding
    errors) and vs_hbp (`paired`, HBP minus this row). A method without an allocation at a budget has no row there.
    Raises a BitloomError that names what is wrong.
    """
    opts = CompareOptions() if options is None else options
    verify(graph)
    check_build(arch)
    check_task(graph, evaluation)
    calibration = usable(graph, calibration, "calibration images")
    images = usable(graph, evaluation.images, "evaluation images")
    journal = Journal(out / "steps")
    lineups = _lineups(graph, calibration, arch, opts, journal)
    key = f"{lineups[-1].key} {arch} {replace(evaluation, images=images).key()}"
    target = F.log_softmax(journal.step("float", key, lambda: float_logits(graph, images)), dim=1)
    labels = target.argmax(dim=1).numpy() if evaluation.labels is None else evaluation.labels.astype(np.int64)
    judge = _judge(lineups[0])

    def measured(method: Method, budget: float) -> tuple[str, BitAllocation, Outcome] | None:
        taken = choice_of(method, budget, lineups, judge)
        if taken is None:
            return None
        lineup, bits = taken
        return lineup.measure, bits, measure(lineup, bits, method.rounding, images, labels, target)

    rows = [reference_row(graph.name, outcome_of(target, target, labels))]
    for budget in sorted(opts.budgets):
        hbp: Outcome | None = None
        for method in opts.methods:
            work = partial(measured, method, budget)
            found = journal.step(f"{method}-{budget:g}", f"{key} {method} {budget!r}", work)
            if found is not None:
                hbp = found[2] if method.allocation == "hbp" else hbp
                rows.append(row_of(graph.name, method, budget, *found, hbp))
    _write(rows, out / "compare.json")
    return rows


def reference_row(network: str, found: Outcome) -> dict[str, Any]:
    """The float network's own row, as in `compare`."""
    names = {"network": network, "method": "float", "allocation": "float", "rounding": "float"}
    return {**names, "comparison": "reference", "budget": 32.0, "mean_bits": 32.0, **found.figures()}


def row_of(
    network: str,
    method: Method,
    budget: float,
    measure: str,
    bits: BitAllocation,
    found: Outcome,
    hbp: Outcome | None,
) -> dict[str, Any]:
    """What one measurement comes to, as in `compare`; hbp: the outcome of HBP at the same budget."""
    result: dict[str, Any] = {
        "network": network,
        "method": str(method),
        "allocation": "random" if method.allocation.startswith("random") else method.allocation,
        "rounding": method.rounding,
        "comparison": method.comparison,
        "budget": budget,
        "mean_bits": bits.mean_bits,
        "weight_bytes": bits.bytes,
        **found.figures(),
        "measure": measure,
    }
    return result if hbp is None else result | {"vs_hbp": paired(hbp, found)}


def _lineups(
    graph: Graph, calibration: Tensor, arch: ArchConfig, options: CompareOptions, journal: Journal
) -> list[Lineup]:
    """The network rounded by each measure of rounding errors; steps as `compile_model` keeps them."""
    pictures = split_pictures(calibration, options.views)
    key = identity(graph, calibration)
    cal: Calibration = journal.step("calibrate", key, lambda: calibrate(graph, pictures.seen))
    key += f" {options.views}"
    material = Material(graph, cal, pictures.every_view, pictures.held_out)
    nearest, binary = nearest_table(cal), binary_layers(graph, arch)
    return [
        Lineup(
            graph=graph,
            calibration=cal,
            binary=binary,
            tables={"gptq": table.rounded, "nearest": nearest},
            costs=binary_only_in(table.costs, WIDTHS, binary),
            samples=StatisticsOptions(coherent=options.coherent if table.measure == "coherent" else 0),
            measuring=pictures.held_out,
            choice=pictures.held_out,
            seen=lambda: pictures.every_view,
            journal=journal,
            key=f"{key} {table.measure} {options.coherent}",
        )
        for table in priced_tables(material, options.coherent, journal, key)
    ]


def _judge(first: Lineup) -> Callable[[Lineup, str, BitAllocation], float]:
    """(lineup, rounding, allocation) -> mean KL to the float network on the images kept for choice."""
    images = first.choice
    logits = first.journal.step("choice", first.key, lambda: float_logits(first.graph, images))
    target = F.log_softmax(logits / CHOICE_TEMPERATURE, dim=1)
    blank = np.zeros(len(images), np.int64)

    @cache
    def judge(lineup: Lineup, rounding: str, bits: BitAllocation) -> float:
        return float(measure(lineup, bits, rounding, images, blank, target, CHOICE_TEMPERATURE).kl.mean())

    return judge


def _write(rows: Sequence[dict[str, Any]], path: Path) -> None:
    try:
        path.write_text(json.dumps({"rows": list(rows)}, indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --out") from None
