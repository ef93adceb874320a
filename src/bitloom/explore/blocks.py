"""LUT and flip-flops of every block: quantities from its structure, each times a coefficient fitted to synthesis.

`BLOCKS` holds, for each RTL module, how often an architecture contains it and of which quantities one instance is
made. The coefficients are in coefficients.json, written by `python benchmarks/bench_resources.py --fit` from the
configurations that it marks as fitted; `tests/synthesize` compares the instance counts with the elaborated design.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from bitloom.target.arch import ArchConfig

Terms = Mapping[str, float]


@dataclass(frozen=True)
class Block:
    """A module: instances in an architecture; quantities that LUT and flip-flops of one instance (without its children)
    are made of, names of `quantities`.  parameters: the ones that tell it from other uses of the same module.
    """

    module: str
    instances: Callable[[ArchConfig], int]
    lut: tuple[str, ...] = ("1",)
    ff: tuple[str, ...] = ("1",)
    parameters: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """`module`, with the parameters that tell it apart."""
        return self.module + "".join(f" {name}={value}" for name, value in self.parameters)


def mux(inputs: int) -> int:
    """LUT6 per bit of a multiplexer: a LUT6 chooses among four."""
    return -(-(inputs - 1) // 3)


def lut_memory(bits: int, depth: int, reads: int) -> int:
    """LUTs of a LUT memory with one write and `reads` read ports: RAM32M16 holds 14, RAM64M8 7 bits in eight LUTs."""
    if depth <= 32:
        return reads * 8 * -(-bits // 14)
    return reads * (8 * -(-bits // 7) * -(-depth // 64) + (bits if depth > 64 else 0))


@lru_cache
def adder_tree(terms: int, width: int) -> tuple[int, int]:
    """(LUT, flip-flops) of bl_sum_tree: three-input adders of one LUT a bit, every level registered."""
    lut = ff = 0
    covers = 1
    while (n := -(-terms // covers)) > 1:
        w = _bits(min(covers, terms) * ((1 << width) - 1))
        lut += (n // 3) * (w + 2) + (w if n % 3 == 2 else 0)
        covers *= 3
        ff += -(-terms // covers) * _bits(min(covers, terms) * ((1 << width) - 1))
    return lut, ff


def _bits(most: int) -> int:
    return max(1, most.bit_length())


def slices(arch: ArchConfig) -> int:
    """RAMs beside each other in a bank."""
    return arch.channels // arch.drain_channels


def ram_depth(arch: ArchConfig, uram: bool) -> int:
    """Memory blocks above each other in one half of an activation bank, as synthesis builds it."""
    half = -(-arch.act_rows // 2)
    return -(-half // (4096 if uram and half >= 4096 else 1024))


def _uram_choice(arch: ArchConfig) -> int:
    """LUT6 per bit for the URAMs above each other; block RAM takes narrower and deeper shapes instead."""
    return mux(ram_depth(arch, True)) if -(-arch.act_rows // 2) >= 4096 else 0


def bank_width(arch: ArchConfig) -> int:
    """Channels of an accumulator bank."""
    return 8 if arch.vector % 8 == 0 else arch.vector


def pick_width(arch: ArchConfig) -> int:
    """Channels of a unit that picks sums for the requantizers."""
    return min(arch.drain_channels, 16)


def quantities(arch: ArchConfig) -> dict[str, float]:
    """What blocks are made of. Memories and multiplexers are in LUTs, trees in LUTs or flip-flops, widths in bits."""
    p, c, m, dc = arch.pixels, arch.channels, arch.vector, arch.drain_channels
    rows, sums = (arch.act_rows - 1).bit_length(), 12 + (c - 1).bit_length()
    trees = [adder_tree(c, width) for width in (10, 12, 2)]
    chosen = mux(m // dc + 1)
    bank, pick = bank_width(arch), pick_width(arch)
    return {
        "1": 1, "P": p, "C": c, "M": m, "DC": dc, "WP": arch.weight_ports, "lanes": m // arch.weight_ports,
        "P·P": p * p, "P·C": p * c, "M·C": m * c, "P·DC": p * dc, "P·P·DC": p * p * dc, "P·rows": p * rows,
        "P·slices": p * slices(arch), "sum": sums, "group": arch.acc_groups.bit_length(),
        "tree LUT": 2 * sum(lut for lut, _ in trees), "tree FF": 2 * sum(ff for _, ff in trees),
        "bank": bank, "bank·sum": bank * sums, "accumulators": lut_memory(bank * 32, 2 * arch.acc_groups, 2),
        "queue": lut_memory(c * 24, 4, 1), "parameter choice": dc * 20 * chosen, "pick": pick,
        "sum choice": pick * 32 * chosen, "pool choice": pick * 24 * mux(slices(arch)),
        "residual choice": dc * 8 * mux(2 * p * slices(arch)),
        "RAM bits": 16 * dc, "RAM choice": 16 * dc * _uram_choice(arch),
        **lane_quantities(c, arch.ring_words),
    }  # fmt: skip


def lane_quantities(channels: int, ring_words: int) -> dict[str, float]:
    """What a weight lane is made of: pointers, the choice of a memory block and that of a word in a row of 128 bits."""
    blocks = -(-ring_words * channels // 128 // 512)
    return {
        "1": 1, "ring": ring_words.bit_length(), "row choice": 128 * mux(blocks),
        "word choice": channels * mux(128 // channels),
    }  # fmt: skip


def _once(_: ArchConfig) -> int:
    return 1


BLOCKS: tuple[Block, ...] = (
    Block("bl_top", _once, ("1", "P", "P·C", "P·rows")),
    Block("bl_regs", _once),
    Block("bl_cmd_fetch", _once),
    Block("bl_sequencer", _once, ("1", "WP"), ("1", "WP")),
    Block("bl_issue", _once, ("1", "group"), ("1", "group")),
    Block("bl_pool_issue", _once),
    Block("bl_coords", lambda a: 4, ("1", "P"), ("1", "P")),
    Block("bl_reader", _once, ("1", "P", "P·C", "P·rows"), ("1", "P", "P·rows")),
    Block("bl_reader_lane", lambda a: a.pixels, ("1", "P·C"), ("1", "C")),
    Block("bl_weights", _once, ("1", "WP"), ("1",)),
    Block("bl_weight_engine", _once, ("1", "M"), ("1", "M")),
    Block("bl_weight_lane", lambda a: a.vector, ("1", "ring", "row choice", "word choice"), ("1", "ring")),
    Block("bl_weight_port", lambda a: a.weight_ports, ("1", "lanes"), ("1", "lanes")),
    Block("bl_axi_reader", lambda a: a.weight_ports + 1, parameters=(("FifoDepth", 128),)),
    Block("bl_axi_reader", _once, parameters=(("FifoDepth", 32),)),
    Block("bl_axi_writer", _once),
    Block("bl_compute", _once),
    Block("bl_weight_regs", lambda a: a.vector, ("1", "C"), ("1", "C")),
    Block("bl_params", _once, ("1", "M"), ("M",)),
    Block("bl_accum", _once),
    Block(
        "bl_accum_bank", lambda a: a.pixels * a.vector // bank_width(a),
        ("1", "accumulators", "bank", "bank·sum"), ("1", "group", "bank", "bank·sum"),
    ),
    Block("bl_mac_array", _once, ("P·C", "M·C"), ("P·C", "M·C")),
    Block("bl_dsp_column", lambda a: a.pixels * a.vector // 4, ("1", "C", "tree LUT"), ("sum", "tree FF")),
    Block("bl_pool", lambda a: a.pixels, ("1", "C"), ("1", "C")),
    Block("bl_pool_queue", lambda a: a.pixels, ("1", "queue"), ("1",)),
    Block(
        "bl_drain", _once,
        ("1", "P", "P·P", "P·P·DC", "P·rows", "parameter choice"), ("1", "P", "DC", "P·DC", "P·rows"),
    ),
    Block(
        "bl_drain_pick", lambda a: a.pixels * a.drain_channels // pick_width(a),
        ("1", "pick", "sum choice", "pool choice"), ("1", "pick"),
    ),
    Block("bl_drain_residual", lambda a: a.pixels, ("1", "residual choice"), ("1", "DC")),
    Block("bl_drain_addr", lambda a: 2, ("1", "P", "P·P"), ("1", "P", "P·rows")),
    Block("bl_requant", lambda a: a.pixels * a.drain_channels),
    Block("bl_act_mem", _once, ("P·C", "P·rows", "P·slices"), ("P",)),
    Block("bl_ram_rr", lambda a: 2 * a.pixels * slices(a), ("1", "RAM choice"), ("1", "RAM bits")),
    Block("bl_dma", _once, ("1", "C"), ("1", "C")),
    Block("bl_dma_load", _once, ("1", "P", "C"), ("1", "C")),
    Block("bl_dma_store", _once, ("1", "P", "C"), ("1", "C")),
)  # fmt: skip


@lru_cache
def coefficients() -> dict[str, dict[str, Terms]]:
    """Block name -> "lut" or "ff" -> quantity -> coefficient."""
    text = (files("bitloom.explore") / "coefficients.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Terms]] = json.loads(text)["blocks"]
    return table


def _value(amounts: Terms, fitted: Terms) -> float:
    return sum(amounts[name] * coefficient for name, coefficient in fitted.items())


def lane_logic(vector: int, channels: int, ring_words: int) -> tuple[int, int]:
    """(LUT, flip-flops) of all weight lanes."""
    amounts, fitted = lane_quantities(channels, ring_words), coefficients()["bl_weight_lane"]
    return round(vector * _value(amounts, fitted["lut"])), round(vector * _value(amounts, fitted["ff"]))


def logic(arch: ArchConfig) -> dict[str, tuple[int, int]]:
    """(LUT, flip-flops) of all instances of each block."""
    amounts, table = quantities(arch), coefficients()
    found = {}
    for block in BLOCKS:
        times, fitted = block.instances(arch), table[block.name]
        found[block.name] = (
            round(times * _value(amounts, fitted["lut"])),
            round(times * _value(amounts, fitted["ff"])),
        )
    return found
