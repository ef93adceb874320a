"""Images through the RTL, every tensor and class against the integer reference: the proof that a compile ends with."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.qgraph import QuantGraph
from bitloom.program.commands import CAUSES
from bitloom.program.container import Program
from bitloom.reference.fast import quantize_input
from bitloom.simulate.build import BuildOptions, build
from bitloom.simulate.compare import compare_run, reference_tensors
from bitloom.simulate.job import SimOptions
from bitloom.simulate.run import simulate

_DUMP = SimOptions(dump=True)


def verify_images(
    qgraph: QuantGraph, program: Program, images: Tensor, structural: bool = False, cluster: str | None = None
) -> dict[str, Any]:
    """Runs images on the RTL, `program.batch` in a run, and compares every tensor with the integer reference.

    structural: the bit-true build instead of the fast one.  cluster: see `run_workload`.  Raises DataError when the
    images do not fill the runs. Returns counts, cycles of the first run, causes per layer number, the first difference
    as text ('' when exact), and the class of every image by the simulated output and by the reference.
    """
    size = program.batch
    if len(images) % size:
        raise DataError(f"{len(images)} images in runs of {size}; simulate a multiple of {size}")
    codes = quantize_input(qgraph, images)
    result = simulate(program, codes, build(program.arch, BuildOptions(fast=not structural)), _DUMP, cluster)
    compared, differing, first = 0, 0, ""
    classes: dict[str, list[int]] = {"rtl": [int(output.argmax()) for output in result.outputs], "reference": []}
    for at, one in zip(range(0, len(codes), size), result.runs, strict=True):
        expected = reference_tensors(qgraph, codes[at : at + size])
        comparison = compare_run(program, one, expected)
        last = expected[qgraph.output]
        classes["reference"] += [int(rows.argmax()) for rows in np.split(last, size, axis=1)]
        compared += len(comparison.tensors)
        if not comparison.exact:
            differing += 1
            first = first or comparison.text()
    head = result.runs[0]
    return {
        "images": len(images),
        "batch": size,
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
