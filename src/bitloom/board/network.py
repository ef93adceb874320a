"""What a host must know beside the program: pixels as codes, the worth of an output code, an image with its result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bitloom.data.images import Preprocess
from bitloom.graph.qgraph import Int8Array, QuantGraph
from bitloom.program.container import Program
from bitloom.reference.fast import codes_of, quantize_input, run_fast


@dataclass(frozen=True, eq=False)
class NetworkFacts:
    """record: what `network.json` holds.  samples, results: int8 (N, C, H, W), one run's images and the integer
    reference's outputs."""

    record: dict[str, object]
    samples: Int8Array
    results: Int8Array


def network_facts(qgraph: QuantGraph, program: Program, images: Tensor, preprocess: Preprocess | None) -> NetworkFacts:
    """The facts of a program made from `qgraph`.

    images: normalised float (N, C, H, W), repeated where they are fewer than the program's batch.  preprocess: how
    pixels became those images; None leaves the table of pixel codes out, and the driver takes codes alone.
    """
    source, output = qgraph.tensors[qgraph.input], qgraph.tensors[qgraph.output]
    chosen = images[torch.arange(program.batch) % len(images)]
    samples = quantize_input(qgraph, chosen)
    table = None if preprocess is None else _pixel_codes(qgraph, preprocess).tolist()
    record: dict[str, object] = {
        "name": program.name,
        "graph_hash": program.graph_hash,
        "shape": list(source.shape),
        "output_scale": float(output.scale),
        "output_zero_point": int(output.zero_point),
        "mean": None if preprocess is None else list(preprocess.mean),
        "std": None if preprocess is None else list(preprocess.std),
        "resize": None if preprocess is None else preprocess.resize,
        "pixel_codes": table,
    }
    return NetworkFacts(record, samples, run_fast(qgraph, samples)[qgraph.output])


def _pixel_codes(qgraph: QuantGraph, preprocess: Preprocess) -> Int8Array:
    """The code of every byte of a pixel, int8 (C, 256): as `load_images` and `quantize_input` make it."""
    pixels = torch.from_numpy(np.arange(256, dtype=np.float32) / np.float32(255.0))[None]
    mean = torch.tensor(preprocess.mean, dtype=torch.float32)[:, None]
    std = torch.tensor(preprocess.std, dtype=torch.float32)[:, None]
    return codes_of((pixels - mean) / std, qgraph.tensors[qgraph.input])


def write_network(facts: NetworkFacts, folder: Path) -> None:
    """Writes network.json, sample0.codes .. (one image each) and sample.result (all results)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.json").write_text(json.dumps(facts.record) + "\n")
    for old in folder.glob("sample*.codes"):
        old.unlink()
    digits = len(str(len(facts.samples) - 1))
    for index, image in enumerate(facts.samples):
        (folder / f"sample{index:0{digits}d}.codes").write_bytes(image.tobytes())
    (folder / "sample.result").write_bytes(facts.results.tobytes())
