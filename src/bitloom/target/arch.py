"""The one architecture record: every size of the accelerator, checked at construction."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from bitloom.errors import TargetError

_POWERS_OF_TWO = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


@dataclass(frozen=True)
class ArchConfig:
    """Sizes of one accelerator build (see docs/spec/streams.md for the letters).

    pixels: P, even, 2..16.  channels: C, a power of two, 4..128.  vector: M, a multiple of C, a power of two times
    weight_ports, at most 256.  weight_ports: WP in {1, 2, 4}.  drain_channels: DC, divides C.
    acc_groups: T, groups of one accumulator buffer, a power of two, 8..64.  ring_words: words of a weight lane, a
    power of two.  act_rows: rows of an activation bank.  tap_entries: taps that one command can hold.
    """

    name: str
    pixels: int
    channels: int
    vector: int
    weight_ports: int
    drain_channels: int
    acc_groups: int
    ring_words: int
    act_rows: int
    tap_entries: int = 256

    def __post_init__(self) -> None:
        checks = (
            ("pixels", self.pixels, self.pixels % 2 == 0 and 2 <= self.pixels <= 16, "2, 4, .. 16"),
            ("channels", self.channels, self.channels in (4, 8, 16, 32, 64, 128), "4, 8, 16, 32, 64, 128"),
            ("weight_ports", self.weight_ports, self.weight_ports in (1, 2, 4), "1, 2, 4"),
            (
                "vector",
                self.vector,
                0 < self.vector <= 256
                and self.vector % max(self.channels, 2) == 0
                and self.vector % self.weight_ports == 0,
                f"multiples of channels = {self.channels} up to 256",
            ),
            (
                "drain_channels",
                self.drain_channels,
                self.drain_channels > 0 and self.channels % self.drain_channels == 0,
                f"divisors of channels = {self.channels}",
            ),
            ("acc_groups", self.acc_groups, self.acc_groups in (8, 16, 32, 64), "8, 16, 32, 64"),
            ("ring_words", self.ring_words, self.ring_words in _POWERS_OF_TWO[6:], "powers of two from 64 to 65536"),
            ("act_rows", self.act_rows, 64 <= self.act_rows <= 262144, "64 .. 262144"),
            ("tap_entries", self.tap_entries, self.tap_entries in (64, 128, 256, 512), "64, 128, 256, 512"),
        )
        for field, value, ok, legal in checks:
            if not ok:
                raise TargetError(f"architecture '{self.name}': {field} = {value}; legal: {legal}")

    @property
    def array_dsps(self) -> int:
        """DSP48E2 slices of the multiplier array: four products each."""
        return self.pixels * self.channels * self.vector // 4

    @property
    def act_bytes(self) -> int:
        """Bytes of the activation memory."""
        return self.pixels * self.act_rows * self.channels

    @property
    def ring_bytes(self) -> int:
        """Bytes of the weight ring over all lanes."""
        return self.vector * self.ring_words * self.channels // 8

    @property
    def hash(self) -> int:
        """32-bit identity of everything the hardware's behaviour depends on (the name does not count)."""
        fields = {k: v for k, v in asdict(self).items() if k != "name"}
        text = json.dumps({"format": 1, **fields}, sort_keys=True)
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


#: Named builds. `tiny` is for tests, `small` for the demo, `mid` has 512 array DSPs, `full` fills an XCZU15EG.
NAMED: dict[str, ArchConfig] = {
    c.name: c
    for c in (
        ArchConfig("tiny", 2, 8, 8, 1, 4, 8, 512, 2048),
        ArchConfig("small", 4, 8, 16, 1, 8, 16, 1024, 4096),
        ArchConfig("mid", 4, 16, 32, 2, 16, 32, 8192, 32768),
        ArchConfig("full", 6, 32, 64, 4, 32, 32, 8192, 16384),
    )
}


def named_arch(name: str) -> ArchConfig:
    """The named build; raises TargetError listing the legal names."""
    if name not in NAMED:
        raise TargetError(f"unknown architecture '{name}'; legal: {', '.join(NAMED)}")
    return NAMED[name]
