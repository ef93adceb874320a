"""Resources of an architecture: exact memories and DSPs, LUT and flip-flops from the terms of its blocks.

DSP, BRAM36 and URAM follow the RTL's declarations and the rules by which Yosys builds memories; LUT and flip-flops are
the sums of `explore/blocks.py`. docs/resources.md compares them with synthesis. LUTs count LUT1..6, LUT6_2, LUT memory
and shift registers, no two in one LUT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from bitloom.errors import TargetError
from bitloom.explore.blocks import lane_logic, logic, lut_memory, ram_depth, slices
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device


@dataclass(frozen=True)
class Resources:
    """Counts of one architecture; bram36 in halves; lutram is the part of `lut` that must be in LUTs with memory."""

    dsp: int
    lut: int
    ff: int
    bram36: float
    uram: int
    lutram: int

    def shares(self, device: Device) -> dict[str, float]:
        """Used over available by kind; a kind that the device lacks counts as infinity when it is used."""
        pairs = {k: (getattr(self, k), getattr(device, k)) for k in KINDS}
        return {k: used / have if have else (float("inf") if used else 0.0) for k, (used, have) in pairs.items()}


#: Kinds of resources: fields of `Resources`, `Margins` and `Device`.
KINDS = tuple(field.name for field in fields(Resources))


@dataclass(frozen=True)
class Margins:
    """Largest share of each kind that a design may use: routing needs slack in LUTs and flip-flops."""

    dsp: float = 1.0
    lut: float = 0.90
    ff: float = 0.85
    bram36: float = 1.0
    uram: float = 1.0
    lutram: float = 0.80


def excess(need: Resources, device: Device, margins: Margins) -> dict[str, tuple[float, int]]:
    """Kinds of which `need` has more than allowed: (needed, allowed). Empty: it fits."""
    over = {}
    for kind in KINDS:
        allowed = int(getattr(device, kind) * getattr(margins, kind))
        if getattr(need, kind) > allowed:
            over[kind] = (getattr(need, kind), allowed)
    return over


def misfit(arch: ArchConfig, device: Device, over: Mapping[str, tuple[float, int]]) -> str:
    """In words that `arch` does not fit `device`, and by how much; over: as `excess` has it."""
    kinds = ", ".join(f"{kind.upper()} {needed:g} of {allowed}" for kind, (needed, allowed) in over.items())
    return f"build '{arch.name}' does not fit '{device.name}': {kinds}"


def check_fit(arch: ArchConfig, device: Device) -> None:
    """TargetError with everything that `device` has too little of for `arch`."""
    over = excess(resources(arch, device), device, Margins())
    if over:
        raise TargetError(f"{misfit(arch, device, over)}; choose a smaller one, or none to have it found")


def ring_bram36(vector: int, channels: int, ring_words: int) -> float:
    """Every lane: rows of 128 bits in simple dual port blocks of 512 × 36, nine bits a byte; see `_blocks`."""
    rows = ring_words * channels // 128
    return vector * _blocks(128, -(-rows // 512), 4) / 2


def ring_resources(vector: int, channels: int, ring_words: int) -> Resources:
    """What the weight lanes need: the part of `resources` that depends on the ring's size."""
    lut, ff = lane_logic(vector, channels, ring_words)
    return Resources(0, lut, ff, ring_bram36(vector, channels, ring_words), 0, 0)


def activation_memory(arch: ArchConfig, uram: bool) -> tuple[float, int]:
    """(BRAM36, URAM): P·C/DC RAMs of DC bytes, twice: each half of the rows has its own ports.

    Halves of 4096 rows and more go to URAM (4096 × 72), where the device has any, else to true dual port blocks of
    1024 × 18.
    """
    half, bits, rams = -(-arch.act_rows // 2), arch.drain_channels * 8, 2 * arch.pixels * slices(arch)
    if uram and half >= 4096:
        return 0, rams * _blocks(bits, ram_depth(arch, True), 8)
    return rams * _blocks(bits, ram_depth(arch, False), 2) / 2, 0


def _blocks(bits: int, depth: int, bytes_per_block: int) -> int:
    """Memory blocks of `bytes_per_block` bytes of 9 bits for words of `bits`, `depth` of them above each other.

    Yosys cuts a word into bytes and packs the bytes of all depths together.
    """
    return -(-depth * -(-bits // 9) // bytes_per_block)


def dsps(arch: ArchConfig, per_quad: int) -> int:
    """Array, two products per requantizer (the 27 × 18 one takes `per_quad` slices), addresses, one product of sizes.

    A lane's address, for the output and for the residual, takes one multiplier, two where P is not a power of two.
    """
    p = arch.pixels
    requant = p * arch.drain_channels * (1 + per_quad)
    return arch.array_dsps * per_quad + requant + 2 * p * (1 if p & (p - 1) == 0 else 2) + 1


def resources(arch: ArchConfig, device: Device) -> Resources:
    """Counts of `arch` on a device of this kind (DSP width, URAM or not)."""
    parts = logic(arch).values()
    p, c, m = arch.pixels, arch.channels, arch.vector
    lutram = (
        lut_memory(p * m * 32, 2 * arch.acc_groups, 2) + lut_memory(p * c * 24, 4, 1) + lut_memory(53 * m, 4, 1)
        + 2 * m * c + p * c  # low bits of digits and activations, shift registers
    )  # fmt: skip
    block, ultra = activation_memory(arch, device.uram > 0)
    taps = _blocks(82, -(-2 * arch.tap_entries // 512), 4) / 2
    fifos = (arch.weight_ports + 1) * _blocks(129, 1, 4) / 2
    bram = ring_bram36(m, c, arch.ring_words) + block + taps + fifos
    return Resources(
        dsps(arch, device.dsps_per_quad), sum(lut for lut, _ in parts), sum(ff for _, ff in parts), bram,
        ultra, lutram,
    )  # fmt: skip
