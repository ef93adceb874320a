"""Images through the RTL, every tensor and class against the integer reference: the proof that a compile ends with."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bitloom.explore.performance import CAUSES
from bitloom.program.container import Program
from bitloom.program.inputs import output_codes
from bitloom.program.lower import input_image
from bitloom.quantize.qgraph import QuantGraph
from bitloom.reference.fast import quantize_input
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.run import run_workload, workload_of


def verify_images(qgraph: QuantGraph, program: Program, images: Tensor, structural: bool = False) -> dict[str, Any]:
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
        "cycles_by_cause": {c: head.registers[f"CYCLES_{c.upper()}"] for c in CAUSES},
        "registers": dict(head.registers),
        "wall_s": result.wall_s,
        "peak_rss_mib": result.peak_rss_mib,
    }
