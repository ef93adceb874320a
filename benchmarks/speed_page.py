"""Writes the tables of docs/speed.md from benchmarks/results/speed.json."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "speed.md"
CLOCK_MHZ = 300.0
#: This project's own marks at batch 1: cycles, MAC efficiency of the convolutions in percent.
MARKS = {"resnet18": (200_000, 85), "resnet34": (370_000, 85), "resnet50": (430_000, 80), "vgg16": (2_300_000, 90)}
#: Published, batch 1, milliseconds: FILM-QNN on ZCU102 at 150 MHz; DPU 3×B4096, one thread.
PUBLISHED = {"resnet18": "4.66 / 5.41", "resnet50": "9.17 / 12.44", "vgg16": "49.71 (DPU)"}


def write(results: Path) -> None:
    """Replaces what stands between the page's markers."""
    found = json.loads(results.read_text())
    text = PAGE.read_text()
    for name, lines in (("speed", _speed(found["rows"])), ("model", _model(found["rows"])), ("notes", _notes(found))):
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.S)
        found_part = pattern.search(text)
        if found_part is None:
            raise ValueError(f"{PAGE}: no part '{name}' between its markers")
        body = found_part[1] + "\n".join(lines) + "\n" + found_part[2]
        text = text[: found_part.start()] + body + text[found_part.end() :]
    PAGE.write_text(text)


def _speed(rows: list[dict[str, Any]]) -> list[str]:
    head = (
        "network", "batch", "mean bits", "cycles", "ms an image at 300 MHz", "published, ms",
        "MAC efficiency, convolutions (all)", "cycles by cause: compute, weights, planes, drain, input, control",
        "tensors compared, equal", "wall s, MiB",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for r in rows:
        name, batch = r["network"], r["batch"]
        mark = f" (mark {MARKS[name][0]:,})" if batch == 1 else ""
        limit = f", mark {MARKS[name][1]}" if batch == 1 else ", mark 92"
        causes = ", ".join(f"{v:,}" for v in r["cycles_by_cause"].values())
        published = PUBLISHED.get(name, "") if batch == 1 else ""
        efficiency = f"{100 * r['mac_efficiency']:.1f} % ({100 * r['mac_efficiency_with_fc']:.1f} %){limit}"
        lines.append(
            f"| {name} | {batch} | {r['mean_bits']:.2f} | {r['cycles']:,}{mark} | "
            f"{r['cycles'] / batch / CLOCK_MHZ / 1e3:.3f} | {published} | {efficiency} | {causes} | "
            f"{r['layers_compared']}, {'all' if r['bit_exact'] else 'NOT ALL'} | {r['wall_s']}, {r['peak_rss_mib']} |"
        )
    return lines


def _model(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| network | batch | cycles | model | deviation | worst layers, percent of their cycles |"]
    lines.append("|---|---|---|---|---|---|")
    for r in rows:
        worst = sorted(r["layers"], key=lambda x: -abs(x["deviation_percent"]))[:3]
        text = ", ".join(f"{x['layer']} {x['deviation_percent']:+.1f}" for x in worst)
        share = 100.0 * (r["model_cycles"] / r["cycles"] - 1.0)
        lines.append(
            f"| {r['network']} | {r['batch']} | {r['cycles']:,} | {r['model_cycles']:,} | {share:+.2f} % | {text} |"
        )
    return lines


def _notes(found: dict[str, Any]) -> list[str]:
    lines = []
    if "stalls" in found:
        s = found["stalls"]
        lines.append(
            f"- Stalls: {s['network']} under {s['seeds']} seeds, {100 * s['stall_probability']:g} % of all cycles of "
            f"every AXI channel, refresh shifted: {min(s['cycles']):,} to {max(s['cycles']):,} cycles against "
            f"{s['cycles_without']:,}, at most {s['largest_deviation_percent']} % away; "
            f"outputs {'equal' if s['outputs_equal'] else 'NOT equal'}."
        )
    for name, a in found.get("accuracy", {}).items():
        lines.append(
            f"- Accuracy of {name}'s allocation on {a['images']} images of `val`: {a['integer']} % integer, "
            f"{a['float']} % float (bits under a bound of the modelled cycles, no fine-tuning)."
        )
    return lines
