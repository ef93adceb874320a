"""An estimate of energy, never a measurement: events of the cycle model times coefficients, plus static power."""

from __future__ import annotations

from dataclasses import dataclass

from bitloom.explore.performance import Performance
from bitloom.explore.resources import Resources
from bitloom.target.device import Device

_HOROWITZ = "M. Horowitz, Computing's Energy Problem, ISSCC 2014, 45 nm"
_KUON = "times 7.1, the dynamic power of FPGA hard blocks over ASIC (I. Kuon, J. Rose, IEEE TCAD 26(2), 2007)"


@dataclass(frozen=True)
class Coefficient:
    """Energy of one event, picojoules, and where the figure comes from."""

    picojoules: float
    source: str


#: Coefficients. Literature at other processes, not measured on these devices: orders of magnitude.
ENERGY: dict[str, Coefficient] = {
    "product": Coefficient(2.13, f"8-bit multiply 0.2 pJ and 32-bit add 0.1 pJ ({_HOROWITZ}), {_KUON}"),
    "activation_byte": Coefficient(2.5, f"64-bit read of a 32 KB SRAM, 20 pJ ({_HOROWITZ})"),
    "ring_byte": Coefficient(1.25, f"64-bit read of an 8 KB SRAM, 10 pJ ({_HOROWITZ})"),
    "accumulator": Coefficient(
        10.0, f"read and write of 32 bits at 10 pJ per 64-bit access of an 8 KB SRAM ({_HOROWITZ})"
    ),
    "ddr_byte": Coefficient(162.5, f"64 bits from DRAM, 1.3 nJ ({_HOROWITZ})"),
    "ff_cycle": Coefficient(0.01, "project assumption: clock tree and flip-flop, 10 fJ a cycle"),
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
    }
    parts = {name: count * ENERGY[name].picojoules * 1e-9 for name, count in events.items()}
    parts["static"] = device.static_w * run.milliseconds
    return Energy(parts, run.milliseconds)
