"""What the benchmarks of whole compiles share: where the data is, and the row that their results have in common."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from bitloom.simulate.build import cache_folder
from bitloom.target.arch import ArchConfig

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("BITLOOM_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results"
#: weights that `make train-cifar` makes
CIFAR_WEIGHTS = cache_folder() / "cifar"


def machine() -> str:
    """Processor and cores of this machine."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def result_row(command: str, arch: ArchConfig, facts: dict[str, Any]) -> dict[str, Any]:
    """The row of a compile that was simulated, from the facts of `compile_model`."""
    run, accuracy = facts["simulation"], facts["accuracy"]
    return {
        "command": command,
        "machine": machine(),
        "arch": arch.name,
        "architecture_hash": facts["architecture_hash"],
        "dsps": arch.array_dsps,
        "images": run["images"],
        "layers_compared": run["layers_compared"],
        "bit_exact": run["bit_exact"],
        "classes_equal": run["classes_equal"],
        "cycles": run["cycles"],
        "model_cycles": facts["model_cycles"],
        "cycles_by_cause": run["cycles_by_cause"],
        "mac_efficiency": run["mac_efficiency"],
        "mean_bits": facts["mean_bits"],
        "wall_s": run["wall_s"],
        "peak_rss_mib": run["peak_rss_mib"],
        "top1_float": accuracy["float"],
        "top1_integer": accuracy["integer"],
        "fake_integer_agreement": accuracy["fake_integer_agreement"],
        "n_images_accuracy": accuracy["images"],
        "steps": facts["steps"],
    }


def write_result(name: str, result: dict[str, Any]) -> None:
    """Writes benchmarks/results/NAME.json and prints it."""
    text = json.dumps(result, indent=2)
    write_text(RESULTS / f"{name}.json", text + "\n")
    print(text)


def write_text(path: Path, text: str) -> None:
    """Writes a file in whole or not at all: a result that grows row by row outlives an interruption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        part.write_text(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
