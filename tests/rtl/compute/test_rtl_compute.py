"""bl_compute (digits, parameters, array, accumulators together) and bl_weight_regs against plain Python models."""

from __future__ import annotations

import numpy as np
import pytest
from vector_bench import VectorBench, as_bytes, as_ints, bits_to_bytes, bytes_to_bits


@pytest.mark.parametrize("channels", [4, 7])
def test_weight_regs_follow_their_rules(channels: int) -> None:
    """Random planes, clears and swaps; the model applies the sentences of the module header, one cycle late."""
    cycles = 3000
    rng = np.random.default_rng(channels)
    valid, first, signed = (rng.integers(0, 2, cycles) for _ in range(3))
    plane = rng.integers(0, 2, (cycles, channels))
    clear, swap = (rng.random(cycles) < 0.2).astype(int), (rng.random(cycles) < 0.2).astype(int)
    reset = np.zeros(cycles, np.int64)
    reset[0], clear[1], swap[2], valid[1] = 1, 1, 1, 0
    bench = VectorBench(
        "bl_weight_regs",
        {"rst_i": 1, "swap_i": 1, "clear_i": 1, "plane_valid_i": 1, "plane_first_i": 1, "plane_signed_i": 1,
         "plane_i": channels},
        {"digit_o": 5 * channels},
        {"C": channels},
    )  # fmt: skip
    out = bench.run(
        cycles, rst_i=as_bytes(reset, 1), swap_i=as_bytes(swap, 1), clear_i=as_bytes(clear, 1),
        plane_valid_i=as_bytes(valid, 1), plane_first_i=as_bytes(first, 1), plane_signed_i=as_bytes(signed, 1),
        plane_i=bits_to_bytes(plane),
    )  # fmt: skip
    got = bytes_to_bits(out["digit_o"], 5 * channels).reshape(cycles, 5, channels)
    shadow = np.zeros(channels, np.int64)
    active = np.zeros_like(shadow)
    for cycle in range(1, cycles - 1):
        if cycle >= 3:
            np.testing.assert_array_equal((got[cycle + 1] << np.arange(5)[:, None]).sum(axis=0), active)
        if swap[cycle]:
            active = shadow.copy()
        if valid[cycle]:
            start = plane[cycle] * (31 if signed[cycle] else 1)
            later = start | 1 if signed[cycle] else (shadow * 2 + plane[cycle]) % 32  # 0 1: a binary weight
            shadow = start if first[cycle] else later
        elif clear[cycle]:
            shadow = np.zeros_like(shadow)


class Stimulus:
    """Per-cycle inputs of bl_compute for a program of steps, and the model of what it must compute."""

    def __init__(self, shape: tuple[int, int, int, int], cycles: int, seed: int) -> None:
        self.p, self.c, self.m, self.t = shape
        self.rng = np.random.default_rng(seed)
        zeros = lambda *dims: np.zeros((cycles, *dims), np.int64)  # noqa: E731
        self.act = self.rng.integers(-127, 128, (cycles, self.p, self.c))
        self.bits = {n: zeros() for n in ("rst", "swap", "clear", "hdr_valid", "drain_buf")}
        self.ctrl = {n: zeros() for n in ("valid", "buf", "group", "first", "hi", "last", "ptag")}
        self.ints = {n: zeros() for n in ("hdr_index", "hdr_ptag", "drain_group", "param_ptag")}
        self.plane = {n: zeros(self.m) for n in ("valid", "first", "signed")}
        self.planes, self.hdr = zeros(self.m, self.c), zeros(self.m, self.c)
        self.bits["rst"][:3] = 1

    def header(self, at: int, ptag: int) -> dict[str, np.ndarray]:
        """Writes one header from cycle `at` on, a word a cycle; returns its fields."""
        fields = {
            "bias": self.rng.integers(-(1 << 31), 1 << 31, self.m),
            "m": self.rng.integers(1 - (1 << 17), 1 << 17, self.m),
            "s": self.rng.integers(0, 4, self.m), "pre": self.rng.integers(0, 2, self.m),
        }  # fmt: skip
        word = (fields["bias"] & 0xFFFFFFFF) | (fields["m"] & 0x1FFFF) << 32 | fields["s"] << 49 | fields["pre"] << 51
        word |= 8 << 52 | (fields["m"] < 0).astype(np.int64) << 56
        for index in range(max(1, 64 // self.c)):
            self.bits["hdr_valid"][at + index] = 1
            self.ints["hdr_index"][at + index] = index
            self.ints["hdr_ptag"][at + index] = ptag
            for bit in range(min(self.c, 64)):
                self.hdr[at + index, :, bit] = word >> (index * self.c + bit) & 1
        return fields

    def load(self, last: int, digit: np.ndarray, width: np.ndarray, signed: np.ndarray) -> None:
        """Planes of `digit` (M, C), the last one in cycle `last`, five cycles in all; width (M,) planes each."""
        self.bits["clear"][last - 4] = 1
        for lane in range(self.m):
            for k in range(width[lane]):
                cycle = last - width[lane] + 1 + k
                self.plane["valid"][cycle, lane] = 1
                self.plane["first"][cycle, lane] = k == 0
                self.plane["signed"][cycle, lane] = signed[lane] and k == 0
                self.planes[cycle, lane] = digit[lane] >> (width[lane] - 1 - k) & 1

    def run(self, defines: tuple[str, ...]) -> dict[str, np.ndarray]:
        p, c, m, t = self.p, self.c, self.m, self.t
        group = (t - 1).bit_length()
        widths = {
            "rst_i": 1, "act_i": 8 * p * c, **{f"ctrl_{n}_i": 1 for n in ("valid", "buf", "first", "hi", "last")},
            "ctrl_group_i": group, "ctrl_ptag_i": 2, "swap_i": 1, "clear_i": 1,
            **{f"plane_{n}_i": m for n in self.plane}, "plane_i": m * c, "hdr_valid_i": 1, "hdr_index_i": 4,
            "hdr_ptag_i": 2, "hdr_i": m * c, "drain_buf_i": 1, "drain_group_i": group, "param_ptag_i": 2,
        }  # fmt: skip
        outputs = {
            "drain_acc_o": 32 * p * m, "param_m_o": 18 * m, "param_s_o": 2 * m, "param_pre_o": m, "done_valid_o": 1,
            "done_last_o": 1,
        }  # fmt: skip
        drive = {
            "act_i": self.act.astype(np.int8).reshape(len(self.act), -1).view(np.uint8),
            "plane_i": bits_to_bytes(self.planes), "hdr_i": bits_to_bytes(self.hdr),
            **{f"plane_{n}_i": bits_to_bytes(v) for n, v in self.plane.items()},
            **{f"ctrl_{n}_i": as_bytes(v, 8) for n, v in self.ctrl.items()},
            **{f"{n}_i": as_bytes(v, 8) for n, v in {**self.bits, **self.ints}.items()},
        }  # fmt: skip
        bench = VectorBench("bl_compute", widths, outputs, {"P": p, "C": c, "M": m, "T": t}, defines)
        return bench.run(len(self.act), **drive)


@pytest.mark.parametrize("defines", [(), ("BITLOOM_FAST",)], ids=["packed", "fast"])
@pytest.mark.parametrize("shape", [(2, 4, 4, 8), (2, 8, 8, 2), (2, 64, 2, 8)])
def test_tiles_end_to_end(shape: tuple[int, int, int, int], defines: tuple[str, ...]) -> None:
    """Tiles of one to T groups, one- and two-pass weights, planes shifted in while the array works, swaps back to back.

    Headers change with every tile (four tags). After the last tile every accumulator and parameter is read back.
    """
    pixels, channels, lanes, groups = shape
    cycles = 1600
    s = Stimulus(shape, cycles, sum(shape))
    acc = np.zeros((2, groups, pixels, lanes), np.int64)
    params: dict[int, dict[str, np.ndarray]] = {}
    done: list[tuple[int, int]] = []
    at = 40
    tile = 0
    while at < cycles - 150:
        ptag, buf = tile % 4, tile % 2
        params[ptag] = s.header(at - 20, ptag)
        count = int(s.rng.integers(1, groups + 1))
        steps = int(s.rng.integers(1, 4))
        at += 20
        for step in range(steps):
            hi = int(s.rng.integers(0, 2))
            signed = np.full(lanes, 1) if hi else s.rng.integers(0, 2, lanes)
            width = s.rng.integers(0, 6, lanes)
            width = np.where(signed == 0, np.minimum(width, 4), width)
            low = np.where(signed == 1, -(1 << np.maximum(width, 1) - 1) + (width == 5), 0)
            high = np.where(signed == 1, (1 << np.maximum(width, 1) - 1) - 1, (1 << width) - 1)
            digit = s.rng.integers(low[:, None], high[:, None] + 1, (lanes, channels)) * (width > 0)[:, None]
            start = max(
                at, at + 5 - (count if step else 0)
            )  # the planes of a step need five cycles after the last swap
            s.load(start - 2, digit, width, signed)
            s.bits["swap"][start - 1] = 1
            for group in range(count):
                cycle = start + group
                for name, value in (
                    ("valid", 1), ("buf", buf), ("group", group), ("first", step == 0), ("hi", hi),
                    ("last", step == steps - 1), ("ptag", ptag),
                ):  # fmt: skip
                    s.ctrl[name][cycle] = value
                old = params[ptag]["bias"][None, :] if step == 0 else acc[buf, group]
                acc[buf, group] = (s.act[cycle] @ digit.T) * (16 if hi else 1) + old
                done.append((cycle, int(step == steps - 1)))
            at = start + count
        tile += 1
    assert tile > 8
    reads = [(b, g) for b in range(2) for g in range(groups)]
    base = cycles - len(reads) - 5
    for i, (b, g) in enumerate(reads):
        s.bits["drain_buf"][base + i], s.ints["drain_group"][base + i] = b, g
        s.ints["param_ptag"][base + i] = i % 4
    out = s.run(defines)
    acc32 = acc.astype(np.int32)
    written = {(s.ctrl["buf"][c], s.ctrl["group"][c]) for c, _ in done}
    for i, (b, g) in enumerate(reads):
        late = {name: base + i + (2 if name == "drain_acc_o" else 1) for name in out}
        row = {name: np.ascontiguousarray(value[late[name] : late[name] + 1]) for name, value in out.items()}
        if (b, g) in written:
            np.testing.assert_array_equal(row["drain_acc_o"].view(np.int32).reshape(pixels, lanes), acc32[b, g])
        expected = params[i % 4]
        for name, width in (("m", 18), ("s", 2), ("pre", 1)):
            bits = bytes_to_bits(row[f"param_{name}_o"], width * lanes).reshape(lanes, width).astype(np.int64)
            wanted = expected[name] & ((1 << width) - 1)
            np.testing.assert_array_equal((bits << np.arange(width)).sum(axis=1), wanted)
    pulses = np.nonzero(out["done_valid_o"][:, 0])[0]
    lag = pulses[0] - done[0][0]
    np.testing.assert_array_equal(pulses, [c + lag for c, _ in done])
    np.testing.assert_array_equal(out["done_last_o"][pulses, 0], [flag for _, flag in done])


def test_done_means_readable_in_the_same_cycle() -> None:
    """An address given one cycle before done_last_o reads the new sum; one cycle earlier still the old one."""
    for early, expected in ((0, 1), (1, 0)):
        s = Stimulus((2, 4, 2, 2), 120, 5)
        s.act[:] = 1
        s.load(30, np.ones((2, 4), np.int64), np.full(2, 2), np.full(2, 1))
        s.bits["swap"][31] = 1
        bias = s.header(3, 0)["bias"]
        for cycle in (40, 60):  # once to define the entry, then a second sum on top
            s.ctrl["valid"][cycle] = s.ctrl["last"][cycle] = 1
            s.ctrl["first"][cycle] = cycle == 40
        out = s.run(())
        done = np.nonzero(out["done_last_o"][:, 0])[0]
        assert len(done) == 2
        s.bits["drain_buf"][:] = 1
        s.bits["drain_buf"][done[1] - 1 - early] = 0
        raw = np.ascontiguousarray(s.run(())["drain_acc_o"])[done[1] - early + 1]
        total = bias + 4 + 4 * expected
        np.testing.assert_array_equal(raw.view(np.int32).reshape(2, 2), np.broadcast_to(total.astype(np.int32), (2, 2)))
        assert as_ints(out["done_valid_o"], 1).sum() == -2
