"""The whole journey as one function: float graph and images in; integer network, program, verified run, report out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.allocate.allocation import WIDTHS, BitAllocation
from bitloom.allocate.budget import Budget
from bitloom.allocate.hbp import HbpSolution, LayerCosts, allocate
from bitloom.allocate.sensitivity import layer_costs
from bitloom.errors import DataError
from bitloom.explore.performance import CAUSES, Performance
from bitloom.explore.planned import planned_performance
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv, Graph, Linear
from bitloom.graph.verify import verify
from bitloom.journal import Journal
from bitloom.program.container import Program, save
from bitloom.program.inputs import output_codes
from bitloom.program.lower import input_image, lower
from bitloom.program.plan import plan
from bitloom.quantize.fake import FakeQuantized
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.qgraph import QuantGraph
from bitloom.quantize.quantize import quantize
from bitloom.quantize.rounding import RoundedLayer
from bitloom.quantize.statistics import round_network
from bitloom.reference.fast import quantize_input, run_fast
from bitloom.report.facts import basic_facts, model_facts
from bitloom.report.page import write_report
from bitloom.report.samples import sample_rows
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.run import run_workload, workload_of
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CompileOptions:
    """budget: limits of the allocation (a number is mean bits). simulated: images run on RTL (0: none).

    batch: images evaluated together. structural: simulate the bit-true build instead of the fast one.
    """

    budget: Budget | float = 4.0
    simulated: int = 3
    batch: int = 16
    structural: bool = False


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Labelled images that are only measured on: float (N, C, H, W), int64 (N,)."""

    images: Tensor
    labels: Labels


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

    Writes out/program.bitloom, out/report.html and out/report.json. Raises a BitloomError that names what is wrong.
    """
    opts = CompileOptions() if options is None else options
    budget = opts.budget if isinstance(opts.budget, Budget) else Budget(mean_bits=opts.budget)
    verify(graph)
    limit = budget.weight_bits(sum(_weights(graph)))
    journal = Journal(out / "steps")
    key = _key(graph, calibration)
    split = max(1, 2 * len(calibration) // 3)

    cal: Calibration = journal.step("calibrate", key, lambda: calibrate(graph, calibration[:split]))
    rounded: dict[str, RoundedLayer] = journal.step("round", key, lambda: round_network(cal))
    held_out = calibration[split:] if split < len(calibration) else calibration
    costs: dict[str, LayerCosts] = journal.step(
        "sensitivity", key, lambda: layer_costs(graph, cal.lowered, rounded, held_out)
    )
    key += f" budget {budget}"
    allowed = {name: layer.at_least(budget.least, WIDTHS) for name, layer in costs.items()}
    solution: HbpSolution = journal.step("allocate", key, lambda: allocate(allowed, WIDTHS, limit))
    qgraph: QuantGraph = journal.step(
        "quantize", key, lambda: quantize(graph, solution.allocation, cal, rounded=rounded)
    )
    key += f" {arch}"
    planned = plan(qgraph, arch)
    program: Program = journal.step("program", key, lambda: lower(qgraph, planned))
    save(program, out / "program.bitloom")
    accuracy: dict[str, Any] = journal.step(
        "accuracy", key + _key(graph, evaluation.images), lambda: _accuracy(graph, qgraph, evaluation, opts.batch)
    )
    model = planned_performance(planned, device)
    run, chosen = None, evaluation.images[: opts.simulated]
    if opts.simulated:
        run = journal.step(
            "simulate",
            f"{key} {opts.simulated} {opts.structural}",
            lambda: simulate(qgraph, program, chosen, opts.structural),
        )
    facts = _facts(graph, arch, device, solution, journal, accuracy, model, run)
    facts["image_edge"] = int(max(evaluation.images.shape[2:]))
    if run:
        facts["samples"] = sample_rows(chosen, evaluation.labels.tolist(), run["classes"]["rtl"])
    facts["report"] = str(write_report(facts, out))
    return facts


def simulate(qgraph: QuantGraph, program: Program, images: Tensor, structural: bool = False) -> dict[str, Any]:
    """Runs images on the RTL and compares every tensor with the integer reference.

    Returns counts, cycles of the first image, causes per layer number, the first difference as text ('' when exact),
    and the class of every image by the simulated output and by the reference.
    """
    arch = program.arch
    codes = quantize_input(qgraph, images)
    binary = build(arch, BuildOptions(fast=not structural))
    result = run_workload(workload_of(program), [input_image(program, c) for c in codes], binary, SimOptions(dump=True))
    compared, differing, first = 0, 0, ""
    classes: dict[str, list[int]] = {"rtl": [], "reference": []}
    for code, one in zip(codes, result.runs, strict=True):
        expected = reference_tensors(qgraph, code)
        comparison = compare_run(program, one, expected)
        classes["rtl"].append(int(output_codes(program.output_spec, one.output).argmax()))
        classes["reference"].append(int(expected[qgraph.output].argmax()))
        compared += len(comparison.tensors)
        if not comparison.exact:
            differing += 1
            first = first or comparison.text()
    head = result.runs[0]
    return {
        "images": len(images),
        "layers_compared": compared,
        "bit_exact": differing == 0,
        "first_difference": first,
        "classes": classes,
        "classes_equal": classes["rtl"] == classes["reference"],
        "cycles": head.cycles,
        "layer_cycles": {program.layers[i]: c for i, c in head.layer_cycles().items() if i < len(program.layers)},
        "cycles_by_cause": _totals(head.registers),
        "registers": dict(head.registers),
        "wall_s": result.wall_s,
        "peak_rss_mib": result.peak_rss_mib,
    }


def _totals(registers: Mapping[str, int]) -> dict[str, int]:
    return {c: registers[f"CYCLES_{c.upper()}"] for c in CAUSES}


def _weights(graph: Graph) -> list[int]:
    return [int(node.op.weight.size) for node in graph.nodes if isinstance(node.op, Conv | Linear)]


def _accuracy(graph: Graph, qgraph: QuantGraph, evaluation: Evaluation, batch: int) -> dict[str, Any]:
    if len(evaluation.labels) != len(evaluation.images):
        raise DataError(f"{len(evaluation.labels)} labels for {len(evaluation.images)} images; give one label an image")
    fake = FakeQuantized(qgraph)
    hits, agree = np.zeros(3, np.int64), 0
    for at in range(0, len(evaluation.images), batch):
        images, labels = evaluation.images[at : at + batch], evaluation.labels[at : at + batch]
        tops = [
            execute(graph, images)[graph.output].flatten(1).argmax(1).numpy(),
            fake(images).argmax(1).numpy(),
            run_fast(qgraph, quantize_input(qgraph, images))[qgraph.output].reshape(len(images), -1).argmax(1),
        ]
        hits += np.array([(top == labels).sum() for top in tops])
        agree += int((tops[1] == tops[2]).sum())
    n = len(evaluation.images)
    percent = 100.0 * hits / n
    return {
        "images": n,
        "float": float(percent[0]),
        "fake_quantized": float(percent[1]),
        "integer": float(percent[2]),
        "fake_integer_agreement": 100.0 * agree / n,
    }


def _facts(
    graph: Graph,
    arch: ArchConfig,
    device: Device,
    solution: HbpSolution,
    journal: Journal,
    accuracy: dict[str, Any],
    model: Performance,
    run: dict[str, Any] | None,
) -> dict[str, Any]:
    record = {k: getattr(solution, k) for k in ("objective", "bound", "gap", "seconds")}
    allocation: BitAllocation = solution.allocation
    facts = basic_facts(graph.name, arch, device.title, device.clock_mhz, allocation, record, journal.records)
    facts["accuracy"] = accuracy
    facts |= model_facts(model, arch, device)
    facts["cycles_note"] = "Modelled cycles by cause."
    predicted = {layer.name: layer for layer in model.layers}
    measured: Mapping[str, Mapping[str, int]] = run["layer_cycles"] if run else {}
    facts["layers"] = _layer_rows(list(measured) or list(predicted), measured, predicted)
    if run:
        conv = {layer.name: layer.macs for layer in model.layers if layer.conv}
        cycles = sum(sum(c.values()) for n, c in measured.items() if n in conv)
        efficiency = sum(conv.values()) / (arch.array_dsps * 4 * cycles) if cycles else 0.0
        facts["simulation"] = {k: v for k, v in run.items() if k != "layer_cycles"} | {"mac_efficiency": efficiency}
        facts["cycles_note"] = "Bars: RTL simulation, cycles by cause from the hardware's counters. Ticks: the model."
    return facts


def _layer_rows(
    names: Sequence[str], measured: Mapping[str, Mapping[str, int]], predicted: Mapping[str, Any]
) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        model = predicted[name].cycles if name in predicted else None
        causes = dict(measured[name]) if name in measured else dict(zip(CAUSES, predicted[name].causes, strict=True))
        rows.append({"name": name, "causes": causes, "cycles": sum(causes.values()), "model": model})
    return rows


def _key(graph: Graph, images: Tensor) -> str:
    """Identity of a graph's structure and weights and of a set of images."""
    digest = hashlib.sha256()
    for node in graph.nodes:
        digest.update(f"{node.name} {node.inputs} {type(node.op).__name__}".encode())
        if isinstance(node.op, Conv | Linear):
            digest.update(node.op.weight.tobytes())
            digest.update(node.op.bias.tobytes())
    digest.update(images.contiguous().numpy().tobytes())
    return digest.hexdigest()
