"""Resources of an architecture: exact memories and DSPs, LUT and flip-flops from one table of coefficients.

DSP, BRAM36 and URAM follow the RTL's declarations. LUT and flip-flop coefficients (`COEFFICIENTS`) come from one
hierarchical Yosys build (synth_xilinx -family xcup, BITLOOM_ADD3) of P=2, C=8, M=8, T=8, DC=4, WP=1; the shapes of the
formulas come from the structure of each block. LUTs count LUT1..6, LUT6_2, LUT memory and shift registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device

#: LUT or flip-flops per unit named, by block. Fitted to the build above; see docs/explore.md.
COEFFICIENTS: dict[str, float] = {
    "array.lut_per_pair": 6.0,  # final subtractions of two lanes, besides the trees
    "accum.lut_per_bit": 2.44,  # adder and choice of bias, per accumulator bit
    "digits.lut_per_weight": 4.25,  # shadow shift and clear
    "params.lut_per_bit": 0.65,  # LUT memory of four headers
    "requant.lut": 140.0,
    "requant.ff": 54.0,
    "drain.lut_per_pixel": 110.0,
    "drain.ff_per_pixel": 68.0,
    "address.lut_per_pixel": 128.0,
    "address.ff_per_pixel": 107.0,
    "coords.lut_per_pixel": 178.0,  # three instances
    "coords.ff_per_pixel": 102.0,
    "pool.lut_per_lane": 59.0,
    "reader.lut_per_pixel": 97.0,
    "reader.ff_per_pixel": 12.5,
    "lane.lut": 67.0,
    "lane.ff": 60.0,
    "port.lut": 270.0,
    "port.lut_per_lane": 14.0,
    "port.ff": 492.0,
    "port.ff_per_lane": 1.0,
    "engine.lut_per_lane": 3.0,
    "dma.lut": 1512.0,
    "dma.lut_per_channel": 6.5,
    "dma.ff": 1211.0,
    "dma.ff_per_channel": 8.0,
    "top.lut_per_pixel": 150.0,
    "control.lut": 2326.0,  # issue, pool issue, fetch, registers, sequencer, engine, wiring
    "control.ff": 3242.0,
}


@dataclass(frozen=True)
class Resources:
    """Counts of one architecture; lutram is the part of `lut` that must be in LUTs with memory."""

    dsp: int
    lut: int
    ff: int
    bram36: int
    uram: int
    lutram: int

    def shares(self, device: Device) -> dict[str, float]:
        """Used over available by kind; a kind that the device lacks counts as infinity when it is used."""
        pairs = {k: (getattr(self, k), getattr(device, k)) for k in ("dsp", "lut", "ff", "bram36", "uram", "lutram")}
        return {k: used / have if have else (float("inf") if used else 0.0) for k, (used, have) in pairs.items()}


@dataclass(frozen=True)
class Margins:
    """Largest share of each kind that a design may use: routing needs slack in LUTs and flip-flops."""

    dsp: float = 1.0
    lut: float = 0.90
    ff: float = 0.85
    bram36: float = 1.0
    uram: float = 1.0
    lutram: float = 0.80


def excess(need: Resources, device: Device, margins: Margins) -> dict[str, tuple[int, int]]:
    """Kinds of which `need` has more than allowed: (needed, allowed). Empty: it fits."""
    over = {}
    for kind in ("dsp", "lut", "ff", "bram36", "uram", "lutram"):
        allowed = int(getattr(device, kind) * getattr(margins, kind))
        if getattr(need, kind) > allowed:
            over[kind] = (getattr(need, kind), allowed)
    return over


def _mux(inputs: int) -> int:
    """LUT6 per bit of a multiplexer: a LUT6 chooses among four."""
    return -(-(inputs - 1) // 3)


@lru_cache
def _tree(terms: int, width: int) -> tuple[int, int]:
    """(LUT, flip-flops) of bl_sum_tree: three-input adders of one LUT a bit, every level registered."""
    lut = ff = 0
    covers = 1
    while terms_left(terms, covers) > 1:
        n, w = terms_left(terms, covers), _bits(min(covers, terms) * ((1 << width) - 1))
        lut += (n // 3) * (w + 2) + (w if n % 3 == 2 else 0)
        covers *= 3
        ff += terms_left(terms, covers) * _bits(min(covers, terms) * ((1 << width) - 1))
    return lut, ff


def terms_left(terms: int, covers: int) -> int:
    """Partial sums when each covers `covers` terms."""
    return -(-terms // covers)


def _bits(most: int) -> int:
    return max(1, most.bit_length())


def lut_memory(bits: int, depth: int, reads: int) -> int:
    """LUTs of a LUT memory with one write and `reads` read ports: RAM32M16 holds 14, RAM64M8 7 bits in eight LUTs."""
    if depth <= 32:
        return reads * 8 * -(-bits // 14)
    return reads * (8 * -(-bits // 7) * -(-depth // 64) + (bits if depth > 64 else 0))


def ring_bram36(vector: int, channels: int, ring_words: int) -> int:
    """Every lane: 128 bits × ring_words·C/128 rows, simple dual port 72 × 512."""
    rows = ring_words * channels // 128
    return vector * 2 * max(1, -(-rows // 512))


def activation_memory(arch: ArchConfig, uram: bool) -> tuple[int, int]:
    """(BRAM36, URAM): P·C/DC RAMs of DC bytes. From 4096 rows on URAM (4096 × 72), where the device has any.

    In block RAM both ports are true ports: at most 36 bits × 1024.
    """
    slices, width, rows = arch.channels // arch.drain_channels, arch.drain_channels * 8, arch.act_rows
    rams = arch.pixels * slices
    if uram and rows >= 4096:
        return 0, rams * -(-width // 72) * -(-rows // 4096)
    shapes = ((36, 1024), (18, 2048), (9, 4096), (4, 8192), (2, 16384), (1, 32768))
    return rams * min(-(-width // w) * -(-rows // d) for w, d in shapes), 0


def dsps(arch: ArchConfig, per_quad: int) -> int:
    """Array, two products per requantizer (the 27 × 18 one takes `per_quad` slices), addresses, one product of sizes.

    A lane's address takes one multiplier, three where P is not a power of two.
    """
    p = arch.pixels
    requant = p * arch.drain_channels * (1 + per_quad)
    return arch.array_dsps * per_quad + requant + p * (1 if p & (p - 1) == 0 else 3) + 1


def resources(arch: ArchConfig, device: Device) -> Resources:
    """Counts of `arch` on a device of this kind (DSP width, URAM or not)."""
    k, p, c, m = COEFFICIENTS, arch.pixels, arch.channels, arch.vector
    dc, wp, lanes = arch.drain_channels, arch.weight_ports, arch.vector // arch.weight_ports
    pairs = p * m // 2
    trees = [_tree(c, w) for w in (10, 12, 2)]
    sum_width = 12 + (c - 1).bit_length()
    acc_bits, drained = p * m * 32, p * dc * 32
    ram_bits = p * c * 8
    acc_ram = lut_memory(acc_bits, 2 * arch.acc_groups, 2)
    queue = lut_memory(p * c * 24, 4, 1)
    params = k["params.lut_per_bit"] * 52 * m
    delays = 2 * m * c + p * c  # low bits of digits and activations, shift registers
    lut = (
        pairs * (sum(t[0] for t in trees) + 2 * c + k["array.lut_per_pair"])
        + delays + 5 * (m // 2) * c + 8 * (p // 2) * c
        + acc_ram + k["accum.lut_per_bit"] * acc_bits
        + k["digits.lut_per_weight"] * m * c + params
        + p * dc * k["requant.lut"]
        + drained * (1 + _mux(m // dc + 1)) + 2 * p * dc * 8 * _mux(p) + k["drain.lut_per_pixel"] * p
        + (k["address.lut_per_pixel"] + 3 * k["coords.lut_per_pixel"] + k["top.lut_per_pixel"]) * p
        + k["pool.lut_per_lane"] * p * c + queue
        + ram_bits * (_mux(p + 1) + 1) + k["reader.lut_per_pixel"] * p
        + m * (k["lane.lut"] + c * _mux(128 // c) + k["engine.lut_per_lane"])
        + wp * (k["port.lut"] + k["port.lut_per_lane"] * lanes)
        + k["dma.lut"] + k["dma.lut_per_channel"] * c + k["control.lut"]
    )  # fmt: skip
    ff = (
        pairs * (sum(t[1] for t in trees) + 2 * sum_width - 2) + 18 * (p // 2) * c
        + acc_bits + p * m * (sum_width + 4)
        + 10 * m * c + 52 * m
        + p * dc * k["requant.ff"] + 2 * drained + 3 * p * dc * 8 + 20 * dc
        + (k["drain.ff_per_pixel"] + k["address.ff_per_pixel"] + 3 * k["coords.ff_per_pixel"]) * p
        + 24 * p * c + ram_bits + k["reader.ff_per_pixel"] * p
        + 2 * ram_bits + p * (c // dc)
        + m * (k["lane.ff"] + 128 + c)
        + wp * (k["port.ff"] + k["port.ff_per_lane"] * lanes)
        + k["dma.ff"] + k["dma.ff_per_channel"] * c + k["control.ff"]
    )  # fmt: skip
    block, ultra = activation_memory(arch, device.uram > 0)
    taps = -(-3 * -(-2 * arch.tap_entries // 512) // 2)  # 82 bits in half blocks of 36 × 512
    fifos = 2 * (wp + 1)  # 129 bits × 128 of each reader
    bram = ring_bram36(m, c, arch.ring_words) + block + taps + fifos
    lutram = acc_ram + int(params) + queue + delays
    return Resources(dsps(arch, device.dsps_per_quad), round(lut), round(ff), bram, ultra, lutram)
