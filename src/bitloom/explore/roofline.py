"""Rooflines: what binds each layer, in numbers. `report/architecture.py` draws them."""

from __future__ import annotations

from dataclasses import dataclass

from bitloom.explore.performance import Performance
from bitloom.explore.stream import ddr_limits
from bitloom.explore.timing import DEFAULT_TIMING, Timing
from bitloom.target.device import Device


@dataclass(frozen=True)
class RooflinePoint:
    """A layer: useful MACs per DDR byte, and MACs per cycle that it reaches in the model."""

    layer: str
    intensity: float
    macs_per_cycle: float
    bound: str
    share: float  #: of the run's cycles


@dataclass(frozen=True)
class Roofline:
    """peak: MACs per cycle of the array at 5 bits or fewer.  slope: DDR bytes per cycle."""

    network: str
    peak: float
    slope: float
    points: tuple[RooflinePoint, ...]

    def attainable(self, intensity: float) -> float:
        """MACs per cycle under the roof; weights that ran ahead may lift a single layer over the slope."""
        return min(self.peak, self.slope * intensity)


def roofline(run: Performance, device: Device, timing: Timing = DEFAULT_TIMING) -> Roofline:
    """The roofline of all layers with multiplications."""
    rate, _ = ddr_limits(device, run.arch.weight_ports, timing)
    points = tuple(
        RooflinePoint(x.name, x.macs / x.ddr_bytes, x.macs / x.cycles, x.bound, x.cycles / run.cycles)
        for x in run.layers
        if x.macs
    )
    return Roofline(run.network, float(run.arch.array_dsps * 4), rate, points)
