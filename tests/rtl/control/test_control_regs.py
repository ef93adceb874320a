"""bl_regs against a model of the register map, under random AXI4-Lite traffic; its addresses against the table."""

from __future__ import annotations

from pathlib import Path

import pytest
from cpp_bench import CppBench

from bitloom.program.commands import FORMAT_VERSION, HARDWARE_ID, REGISTERS

HASH = 0x89ABCDEF
BENCH = CppBench("bl_regs", Path(__file__).parent / "bench_regs.cpp", params={"ArchHash": HASH}, defines={"HASH": HASH})


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_traffic_equals_the_model(tmp_path: Path, seed: int) -> None:
    """Reads and writes at once, strobes, unknown addresses, done and error events, interrupts, start while busy."""
    got = BENCH.run(tmp_path, seed, 20000)
    assert got["dones"] > 20
    assert min(got["reads"], got["writes"]) > 3000


def test_bench_knows_the_whole_map() -> None:
    """The addresses in the bench are those of the table: a new register needs a line there."""
    text = (Path(__file__).parent / "bench_regs.cpp").read_text()
    plain = text[text.index("plain[] = {") : text.index("for (unsigned a : plain)")]
    for name, address, access, _ in REGISTERS:
        if access == "rw" and address >= 0x20:
            assert f"0x{address:02x}" in plain, name
        elif 0x80 <= address <= 0x98:
            assert "address >= 0x80 && address <= 0x98" in text, name
        else:
            assert f"case 0x{address:02x}:" in text, name
    assert f"0x{HARDWARE_ID:08X}" in text
    assert f"case 0x14: return {FORMAT_VERSION};" in text
