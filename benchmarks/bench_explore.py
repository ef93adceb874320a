"""Modelled cycles of the four networks, one build for all of them, and what binds each layer: `make bench-explore`.

Writes benchmarks/results/explore.json and the tables of docs/explore.md between its markers. Needs no data.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bitloom.errors import TargetError
from bitloom.explore.explorer import Exploration, explore_all
from bitloom.explore.search import floor_cycles
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import uniform
from bitloom.graph.ir import Graph, Linear
from bitloom.graph.qgraph import Int8Array
from bitloom.program.commands import CAUSES
from bitloom.report.architecture import pareto_picture, roofline_picture
from bitloom.target.arch import ArchConfig, named_arch
from bitloom.target.device import load_device

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "explore.md"
NETWORKS = ("resnet18", "resnet34", "resnet50", "vgg16")
#: The project's marks for an XCZU15EG, in cycles.
MARKS = {"resnet18": 200_000, "resnet34": 370_000, "resnet50": 430_000, "vgg16": 2_300_000}

#: Parts of a record that only the build `full` shows.
SHORTENED = ("layers", "roofline", "energy", "search")


def widths(graph: Graph) -> dict[str, Int8Array]:
    """Four bits; three in VGG-16's fully connected layers, whose weights DDR has to deliver."""
    dense = {n.name for n in graph.nodes if isinstance(n.op, Linear)} if graph.name == "vgg16" else set()
    return {k: np.full_like(v, 3) if k in dense else v for k, v in uniform(graph, 4).bits.items()}


def size_of(arch: ArchConfig) -> str:
    return (
        f"P={arch.pixels} C={arch.channels} M={arch.vector} T={arch.acc_groups} DC={arch.drain_channels} "
        f"ring={arch.ring_words} WP={arch.weight_ports} rows={arch.act_rows}"
    )


def networks_table(found: Sequence[Exploration]) -> list[str]:
    lines = [
        "| network | cycles | ms at 300 MHz | mark | floor of all DSPs | MAC efficiency | " + " | ".join(CAUSES) + " |",
        "|---" * (6 + len(CAUSES)) + "|",
    ]
    for one in found:
        run, name = one.run, one.network.name
        lines.append(
            f"| {name} | {run.cycles:,} | {run.milliseconds:.3f} | {MARKS[name]:,} | "
            f"{floor_cycles(one.network, one.device):,.0f} | {100 * run.mac_efficiency:.1f} % | "
            + " | ".join(f"{run.causes[c]:,}" for c in CAUSES)
            + " |"
        )
    return lines


def bound_table(found: Sequence[Exploration]) -> list[str]:
    """Layers by what costs them most beyond useful work, and those that lose most cycles to it."""
    lines = ["| network | layers bound by | the layers that lose most (cycles, cause) |", "|---|---|---|"]
    for one in found:
        counts = Counter(layer.bound for layer in one.run.layers)
        lost = [
            (layer.causes[i], layer.name, CAUSES[i])
            for layer in one.run.layers
            for i in range(1, len(CAUSES))
            if layer.causes[i] > 300
        ]
        worst = ", ".join(f"{name} ({cycles:,} {cause})" for cycles, name, cause in sorted(lost, reverse=True)[:4])
        bound = ", ".join(f"{n} {cause}" for cause, n in counts.most_common())
        lines.append(f"| {one.network.name} | {bound} | {worst} |")
    return lines


def devices_table(graphs: Sequence[Graph]) -> tuple[list[str], list[dict[str, Any]]]:
    """The best build of every device for ResNet-18, and for what fits the smallest."""
    lines = ["| network | device | best build | DSP | LUT | BRAM36 | URAM | ms |", "|---" * 8 + "|"]
    rows: list[dict[str, Any]] = []
    for graph in graphs:
        for name in ("xcu250", "xczu15eg", "xczu9eg", "xck26", "xc7z020"):
            try:
                (one,) = explore_all([graph], name, [widths(graph)], front=False)
            except TargetError as error:
                lines.append(f"| {graph.name} | {name} | none fits | | | | | |")
                rows.append({"network": graph.name, "device": name, "error": str(error)})
                continue
            need = one.need
            lines.append(
                f"| {graph.name} | {name} | {size_of(one.arch)} | {need.dsp:,} | {need.lut:,} | {need.bram36} | "
                f"{need.uram} | {one.run.milliseconds:.3f} |"
            )
            rows.append({k: v for k, v in one.record().items() if k not in SHORTENED})
    return lines, rows


def put(name: str, lines: list[str]) -> None:
    """Replaces what stands between the page's markers `name`."""
    text = PAGE.read_text()
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.S)
    if not pattern.search(text):
        raise SystemExit(f"{PAGE.name} lacks the markers '{name}'")
    PAGE.write_text(pattern.sub(lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text))


def main() -> int:
    device = load_device("xczu15eg")
    start = time.process_time()
    graphs = [load_model(name) for name in NETWORKS]
    loaded = time.process_time() - start
    bits = [widths(graph) for graph in graphs]
    full = explore_all(graphs, device, bits, named_arch("full"))
    quick = time.process_time()
    explore_all(graphs, device, bits, front=False)
    quick = time.process_time() - quick
    whole = time.process_time()
    best = explore_all(graphs, device, bits)
    whole = time.process_time() - whole
    search = best[0].found
    assert search is not None
    put("cycles", networks_table(full))
    put("bounds", bound_table(full))
    put(
        "search",
        [
            f"One build for the four on {device.title}: `{size_of(best[0].arch)}`, {best[0].arch.array_dsps} array "
            "DSPs; "
            f"{search.evaluated} of {search.evaluated + search.skipped} unrolls evaluated for the whole front of "
            f"{len(search.front)} points, {whole:.1f} s; the optimum alone {quick:.1f} s "
            f"(processor time on one core; reading the four networks: {loaded:.1f} s).",
        ],
    )
    lines, devices = devices_table([graphs[0], load_model("resnet20")])
    put("devices", lines)
    for one in full:
        name = f"roofline-{one.network.name}.svg"
        (ROOT / "docs" / "pictures").mkdir(exist_ok=True)
        (ROOT / "docs" / "pictures" / name).write_bytes(roofline_picture(one.roof))
    picture = pareto_picture(search.front, search.best, device.clock_mhz)
    (ROOT / "docs" / "pictures" / "front-xczu15eg.svg").write_bytes(picture)
    result = {
        "command": "make bench-explore",
        "cpu_seconds": {"load": loaded, "optimum": quick, "front": whole},
        "full": [one.record() for one in full],
        "best": [{k: v for k, v in one.record().items() if k not in SHORTENED} for one in best],
        "search": best[0].record()["search"],
        "devices": devices,
    }
    (ROOT / "benchmarks" / "results" / "explore.json").write_text(json.dumps(result) + "\n")
    print(json.dumps({one.network.name: one.run.cycles for one in full}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
