"""An estimate of energy, never a measurement: events of the cycle model times coefficients, plus static power."""

from __future__ import annotations

from dataclasses import dataclass

from bitloom.explore.performance import Performance
from bitloom.explore.resources import Resources
from bitloom.target.device import Device

_HOROWITZ = "M. Horowitz, Computing's Energy Problem, ISSCC 2014, 45 nm"
_KUON = (
    "times 7, for an FPGA instead of an ASIC: I. Kuon and J. Rose (IEEE TCAD 26(2), 2007, 90 nm) measured about 14 for "
    "LUT logic and less with hard blocks; the half is this project's assumption"
)
_SRAM = "without a factor for the FPGA's memory blocks and their routing: a project assumption"


@dataclass(frozen=True)
class Coefficient:
    """Energy of one event, picojoules, and where the figure comes from."""

    picojoules: float
    source: str


#: Coefficients. Literature at other processes (45 and 90 nm; the devices are 16 nm), not scaled and not measured on
#: these devices: orders of magnitude, in which a smaller process and an FPGA's routing pull in opposite directions.
ENERGY: dict[str, Coefficient] = {
    "product": Coefficient(2.1, f"8-bit multiply 0.2 pJ and 32-bit add 0.1 pJ ({_HOROWITZ}), {_KUON}"),
    "activation_byte": Coefficient(2.5, f"64-bit read of a 32 KB SRAM, 20 pJ ({_HOROWITZ}), {_SRAM}"),
    "ring_byte": Coefficient(1.25, f"64-bit read of an 8 KB SRAM, 10 pJ ({_HOROWITZ}), {_SRAM}"),
    "accumulator": Coefficient(
        10.0, f"read and write of 32 bits at 10 pJ per 64-bit access of an 8 KB SRAM ({_HOROWITZ}), {_SRAM}"
    ),
    "ddr_byte": Coefficient(162.5, f"64 bits from DRAM, 1.3 nJ ({_HOROWITZ})"),
    "ff_cycle": Coefficient(0.01, "project assumption: clock tree and flip-flop, 10 fJ a cycle"),
    "lut_cycle": Coefficient(0.02, "project assumption: a LUT and its routing, 160 fJ a change, one cycle in eight"),
}


@dataclass(frozen=True)
class Energy:
    """Estimate of one image. millijoules by part; watts on average; `estimate` is always True."""

    parts_mj: dict[str, float]
    milliseconds: float
    estimate: bool = True

    @property
    def millijoules(self) -> float:
        return sum(self.parts_mj.values())

    @property
    def watts(self) -> float:
        return self.millijoules / self.milliseconds

    @property
    def images_per_joule(self) -> float:
        return 1e3 / self.millijoules


def estimate_energy(run: Performance, need: Resources, device: Device) -> Energy:
    """Switching by event and static power over the run's time at the device's clock."""
    a = run.arch
    array = sum(layer.ideal for layer in run.layers if layer.conv)
    busy = sum(layer.ideal for layer in run.layers)
    ring_bytes = sum(layer.weight_bytes for layer in run.layers)
    events = {
        "product": array * a.pixels * a.channels * a.vector,
        "activation_byte": busy * a.pixels * a.channels,
        "ring_byte": 2 * ring_bytes,
        "accumulator": array * a.pixels * a.vector,
        "ddr_byte": run.ddr_bytes,
        "ff_cycle": need.ff * run.cycles,
        "lut_cycle": need.lut * run.cycles,
    }
    parts = {name: count * ENERGY[name].picojoules * 1e-9 for name, count in events.items()}
    parts["static"] = device.static_w * run.milliseconds
    return Energy(parts, run.milliseconds)
