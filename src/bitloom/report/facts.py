"""Gathers what the report shows into one JSON-able record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bitloom.allocate.allocation import BitAllocation
from bitloom.journal import StepRecord
from bitloom.target.arch import ArchConfig


def basic_facts(
    network: str,
    arch: ArchConfig,
    device: str,
    clock_mhz: float,
    allocation: BitAllocation,
    solution: Mapping[str, float],
    steps: Sequence[StepRecord],
) -> dict[str, Any]:
    """The facts that every report has: network, build, bits, solver record and cost of each step.

    solution: objective, bound, gap and seconds of the solver.
    """
    return {
        "network": network,
        "arch": asdict(arch),
        "architecture_hash": f"0x{arch.hash:08X}",
        "array_dsps": arch.array_dsps,
        "device": device,
        "clock_mhz": clock_mhz,
        "mean_bits": allocation.mean_bits,
        "weight_bytes": allocation.bytes,
        "float_ratio": 4.0 * allocation.weights / max(1, allocation.bytes),
        "bits": {name: widths.tolist() for name, widths in allocation.bits.items()},
        "allocation": dict(solution),
        "steps": [asdict(record) for record in steps],
    }
