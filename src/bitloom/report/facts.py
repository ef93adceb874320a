"""Gathers what the report shows into one JSON-able record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bitloom import __version__
from bitloom.allocate.allocation import BitAllocation
from bitloom.explore.energy import estimate_energy
from bitloom.explore.performance import Performance
from bitloom.explore.resources import resources
from bitloom.explore.roofline import roofline
from bitloom.journal import StepRecord
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device


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
        "version": __version__,
        "network": network,
        "arch": asdict(arch),
        "architecture_hash": f"0x{arch.hash:08X}",
        "array_dsps": arch.array_dsps,
        "device": device,
        "clock_mhz": clock_mhz,
        "mean_bits": allocation.mean_bits,
        "weight_bytes": allocation.bytes,
        "float_ratio": 4.0 * allocation.weights / max(1, allocation.bytes),
        "channel_weights": {name: int(n) for name, n in allocation.inputs.items()},
        "bits": {name: widths.tolist() for name, widths in allocation.bits.items()},
        "allocation": dict(solution),
        "steps": [asdict(record) for record in steps],
    }


def model_facts(model: Performance, arch: ArchConfig, device: Device) -> dict[str, Any]:
    """What the models say of a network on a build: cycles, resources against the device, roofline, energy estimate."""
    need = resources(arch, device)
    used = {k.upper(): int(v) for k, v in asdict(need).items() if isinstance(v, int) and hasattr(device, k)}
    energy = estimate_energy(model, need, device)
    return {
        "model_cycles": model.cycles,
        "model_cycles_by_cause": model.causes,
        "resources": {"used": used, "available": {k: int(getattr(device, k.lower())) for k in used}},
        "roofline": asdict(roofline(model, device)),
        "energy": {
            "estimate": True,
            "millijoules": energy.millijoules,
            "watts": energy.watts,
            "parts_mj": energy.parts_mj,
        },
    }
