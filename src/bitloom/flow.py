"""The whole journey as one function: float graph and images in; integer network, program, verified run, report out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from torch import Tensor

from bitloom.allocate.budget import Budget
from bitloom.board.network import NetworkFacts, network_facts
from bitloom.board.write import remove_board, write_board
from bitloom.candidates import Material, candidate, priced_tables
from bitloom.data.images import Preprocess
from bitloom.errors import BudgetError, DataError
from bitloom.evaluate import Evaluation, evaluate
from bitloom.explore.planned import planned_performance
from bitloom.export.integer_onnx import save_onnx
from bitloom.graph.allocation import WIDTHS, check_answers
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QuantGraph
from bitloom.graph.verify import verify
from bitloom.inputs import check_build, check_device, check_task, identity, usable
from bitloom.journal import Journal
from bitloom.pictures import split_pictures
from bitloom.program.container import Program, save
from bitloom.program.lower import lower
from bitloom.program.ordering import choose_order, reorder
from bitloom.program.plan import plan
from bitloom.quantize.equalize import EqualizeOptions, equalize
from bitloom.quantize.finetune import print_progress
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.parallel import leads
from bitloom.quantize.quantize import quantize
from bitloom.quantize.refine import RefinedNetwork, Refinement, best, refine
from bitloom.report.facts import basic_facts, layer_facts, model_facts, trust_facts
from bitloom.report.page import write_report
from bitloom.report.samples import sample_rows
from bitloom.retrain import Retrained, Training, retrain
from bitloom.simulate.verify import verify_images
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device
from bitloom.widths import CycleFacts, WidthSolution, WidthSolver, weights


@dataclass(frozen=True)
class CompileOptions:
    """budget: limits of the allocation (a number is mean bits). simulated: images run on RTL (0: none).

    batch: images that share a run of the accelerator, and every pass over its weights; `simulated` is rounded up to
    whole runs. evaluated: images evaluated together. structural: simulate the bit-true build instead of the fast one.
    cluster: address of a dask scheduler whose workers simulate. rounding: how far rounding goes once the widths are
    known. training: fine-tuning after that. views: images of every calibration picture, as `load_images` returns them;
    rounding uses all, every other step the plain ones. coherent: images that say how much the mean of a map counts in
    a second rounding (`StatisticsOptions`), from which and the plain one the held-out images choose; 0: there is none.
    equalize: power of the channels' sizes in `equalize`; 0: none.
    board: write out/board where the device is a Zynq MPSoC. preprocess: how pixels became the images, for the board's
    driver (None: it takes codes alone). Raises DataError, BudgetError: a figure out of range, or of another type.
    """

    budget: Budget | float = 4.0
    simulated: int = 3
    batch: int = 1
    evaluated: int = 16
    structural: bool = False
    cluster: str | None = None
    rounding: Refinement = Refinement.GPTQ
    training: Training | None = None
    views: int = 1
    coherent: int = 64
    equalize: float = 0.0
    board: bool = True
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.budget, Budget | Real) or isinstance(self.budget, bool):
            raise BudgetError(
                f"budget = {self.budget!r}; must be mean bits (4.0) or a Budget; parse_budget makes one of text"
            )
        least = {"simulated": 0, "batch": 1, "evaluated": 1, "views": 1, "coherent": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
                raise DataError(f"{name} = {value!r}; must be a whole number, {low} or more")
        if not 0 <= self.equalize <= 1:
            raise DataError(f"equalize = {self.equalize!r}; must be 0 (none) to 1")
        if not isinstance(self.rounding, Refinement):
            legal = ", ".join(f"Refinement.{one.name}" for one in Refinement)
            raise DataError(f"rounding = {self.rounding!r}; must be one of {legal}")


def compile_model(
    graph: Graph,
    calibration: Tensor,
    evaluation: Evaluation,
    arch: ArchConfig,
    device: Device,
    out: Path,
    options: CompileOptions | None = None,
) -> dict[str, Any]:
    """Runs every step (or resumes it from `out/steps`) and returns the report's facts.

    Writes out/program.bitloom, out/network.onnx (the integer network for any ONNX runtime), out/report.html,
    out/report.json and, for a Zynq MPSoC, out/board. Under `torchrun` every process does the same up to the end of
    training; then only the first goes on, and the others return an empty record. calibration: normalised images, float
    (N, C, H, W). Raises a BitloomError that names what is wrong. Every step is kept under a key that grows on the way:
    it names all that the step depends on.
    """
    opts = CompileOptions() if options is None else options
    budget = opts.budget if isinstance(opts.budget, Budget) else Budget(mean_bits=opts.budget)
    verify(graph)
    check_build(arch)
    check_device(device)
    check_task(graph, evaluation)
    calibration = usable(graph, calibration, "calibration images")
    evaluation = replace(evaluation, images=usable(graph, evaluation.images, "evaluation images"))
    budget.weight_bits(weights(graph))  # refused before any work
    journal = Journal(out / "steps")
    key = identity(graph, calibration)
    pictures = split_pictures(calibration, opts.views)
    held_out = pictures.held_out

    # Calibration.
    original = graph
    if opts.equalize:
        key += f" equalized {opts.equalize:g}"
        graph = equalize(graph, pictures.seen, EqualizeOptions(power=opts.equalize))
    cal: Calibration = journal.step("calibrate", key, lambda: calibrate(graph, pictures.seen))

    # Widths: rows rounded at every width by each measure of their errors, costs, allocation, cycles.
    widths = WidthSolver(graph, arch, device, budget)
    rounding_key = f"{key} {opts.views}"
    key = f"{rounding_key} {widths.key()} coherent {opts.coherent}"
    material = Material(graph, cal, pictures.every_view, held_out)
    tables = priced_tables(material, opts.coherent, journal, rounding_key)
    made = [candidate(table, material, widths.solve, journal, key) for table in tables]
    taken, divergences = best(made), {c.table.measure: c.divergence for c in made}
    del made, tables  # a table of rounded rows is large
    key += f" {taken.table.measure} {widths.spare_key()}"
    weighed = taken.trust.weigh(taken.table.costs, WIDTHS)

    def settle() -> tuple[WidthSolution, CycleFacts]:
        found = widths.spare(weighed, taken.solution)
        return found, widths.cycle_facts(weighed, taken.solution, found)

    solution, cycle_facts = journal.step("cycles", f"{key} {arch} {device}", settle)
    check_answers(graph, solution.allocation)

    # Integers: rounded at these widths, refined, trained.
    qgraph: QuantGraph = journal.step(
        "quantize", key, lambda: quantize(graph, solution.allocation, cal, rounded=taken.table.rounded)
    )
    stages: tuple[RefinedNetwork, ...] = ()
    if opts.rounding is not Refinement.GPTQ:
        key += f" {opts.rounding.value}"
        stages = journal.step(
            "refine",
            key,
            lambda: refine(graph, cal.lowered, qgraph, pictures.by_picture(), held_out, opts.rounding),
        )
        qgraph = best(stages).qgraph
    trained: Retrained[WidthSolution] | None = None
    if opts.training is not None:
        key += f" {opts.training.key()}"
        again = lambda c: widths.settle(taken.trust.weigh(c, WIDTHS))  # noqa: E731
        trained = retrain(graph, cal, qgraph, solution, again, held_out, opts.training, journal, key, print_progress)
        qgraph, solution = trained.qgraph, trained.solution
        if not leads():
            return {}

    # Program, and what a board needs beside it.
    key += f" {arch} {opts.batch}"
    ordered = reorder(qgraph, choose_order(qgraph, arch))
    planned = plan(ordered, arch, opts.batch)
    program: Program = journal.step("program", key, lambda: lower(ordered, planned))
    save(program, out / "program.bitloom")
    save_onnx(qgraph, out / "network.onnx")
    board = None
    key += f" {evaluation.key()}"
    if opts.board and device.mpsoc_part:
        network: NetworkFacts = journal.step(
            "sample",
            f"{key} {opts.preprocess}",
            lambda: network_facts(ordered, program, evaluation.images, opts.preprocess),
        )
        board = write_board(arch, device, out / "board", program, network)
    else:
        remove_board(out / "board")  # an earlier run's, of another network or device

    # Measurements and the proof on RTL.
    accuracy: dict[str, Any] = journal.step(
        "accuracy", key, lambda: evaluate(original, qgraph, evaluation, opts.evaluated)
    )
    model = planned_performance(planned, device)
    run, chosen = None, evaluation.images[: -(-opts.simulated // opts.batch) * opts.batch]
    if opts.simulated:
        run = journal.step(
            "simulate",
            f"{key} {opts.simulated} {opts.structural}",
            lambda: verify_images(ordered, program, chosen, opts.structural, opts.cluster),
        )

    # The report.
    facts = basic_facts(graph.name, arch, device, solution, journal.records, opts.batch)
    facts |= {"accuracy": accuracy, "image_edge": int(max(evaluation.images.shape[2:]))}
    # KL to float on held-out images: at the widths of least loss, before cycles are spared; and by stage of rounding.
    facts["measure"] = {"chosen": taken.table.measure, "least_loss_divergence": divergences}
    facts["allocation"] |= trust_facts(taken.trust)
    facts["rounding"] = {c.stage.value: c.divergence for c in stages}
    if trained is not None:
        facts["training"] = {"losses": trained.losses, "widths_changed": trained.changed}
    facts |= model_facts(model, arch, device) | layer_facts(model, run)
    facts["latency"] = asdict(cycle_facts)
    if run:
        facts["samples"] = sample_rows(chosen, evaluation.labels, run["classes"]["rtl"])
    facts["board"] = None if board is None else str(board.parent)
    facts["report"] = str(write_report(facts, out))
    journal.tidy()
    return facts
