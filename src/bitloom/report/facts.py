"""Gathers what the report shows into one JSON-able record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bitloom import __version__
from bitloom.allocate.trust import Trust
from bitloom.explore.energy import estimate_energy
from bitloom.explore.performance import Performance
from bitloom.explore.resources import resources
from bitloom.explore.roofline import roofline
from bitloom.journal import StepRecord
from bitloom.program.commands import CAUSES
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device
from bitloom.widths import WidthSolution


def basic_facts(
    network: str,
    arch: ArchConfig,
    device: Device,
    solution: WidthSolution,
    steps: Sequence[StepRecord],
    batch: int = 1,
) -> dict[str, Any]:
    """The facts that every report has: network, build, bits, images of a run, solver record, cost of each step."""
    allocation = solution.allocation
    return {
        "version": __version__,
        "network": network,
        "arch": asdict(arch),
        "architecture_hash": f"0x{arch.hash:08X}",
        "array_dsps": arch.array_dsps,
        "device": device.title,
        "clock_mhz": device.clock_mhz,
        "batch": batch,
        "mean_bits": allocation.mean_bits,
        "weight_bytes": allocation.bytes,
        "float_ratio": 4.0 * allocation.weights / max(1, allocation.bytes),
        "channel_weights": {name: int(n) for name, n in allocation.inputs.items()},
        "bits": {name: widths.tolist() for name, widths in allocation.bits.items()},
        "allocation": {k: getattr(solution, k) for k in ("objective", "bound", "gap", "seconds")},
        "steps": [asdict(record) for record in steps],
    }


def trust_facts(trust: Trust) -> dict[str, float | None]:
    """Factors on the costs of the two smallest widths; None: the width is not used."""
    factors = {"pruning_factor": trust.pruned, "binary_factor": trust.binary}
    return {name: factor if math.isfinite(factor) else None for name, factor in factors.items()}


def model_facts(model: Performance, arch: ArchConfig, device: Device) -> dict[str, Any]:
    """What the models say of a network on a build: cycles, resources against the device, roofline, energy estimate."""
    need = resources(arch, device)
    used = {k.upper(): v for k, v in asdict(need).items() if hasattr(device, k)}  # BRAM36 in halves
    energy = estimate_energy(model, need, device)
    return {
        "model_cycles": model.cycles,
        "model_cycles_by_cause": model.causes,
        "resources": {"used": used, "available": {k: int(getattr(device, k.lower())) for k in used}},
        "roofline": asdict(roofline(model, device)),
        "energy": {
            "estimate": True,
            "millijoules": energy.millijoules,  # of a run
            "watts": energy.watts,
            "parts_mj": energy.parts_mj,
        },
    }


def layer_facts(model: Performance, run: Mapping[str, Any] | None) -> dict[str, Any]:
    """A row a layer, measured where there is a run (of `simulate.verify`), beside the model; the run's own facts."""
    predicted = {layer.name: layer for layer in model.layers}
    measured: Mapping[str, Mapping[str, int]] = run["layer_cycles"] if run else {}
    rows = []
    for name in list(measured) or list(predicted):
        modelled = predicted[name].cycles if name in predicted else None
        causes = dict(measured[name]) if name in measured else dict(zip(CAUSES, predicted[name].causes, strict=True))
        rows.append({"name": name, "causes": causes, "cycles": sum(causes.values()), "model": modelled})
    if run is None:
        return {"layers": rows, "cycles_note": "Modelled cycles by cause."}
    conv = {layer.name: layer.macs for layer in model.layers if layer.conv}
    cycles = sum(sum(c.values()) for n, c in measured.items() if n in conv)
    efficiency = sum(conv.values()) / (model.arch.array_dsps * 4 * cycles) if cycles else 0.0
    return {
        "layers": rows,
        "cycles_note": "Bars: RTL simulation, cycles by cause from the hardware's counters. Ticks: the model.",
        "simulation": {k: v for k, v in run.items() if k != "layer_cycles"} | {"mac_efficiency": efficiency},
    }
