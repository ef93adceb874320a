"""The report: one HTML page that works offline, and the same facts as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from bitloom.errors import OutputError
from bitloom.report import plots

Facts = dict[str, Any]


def write_report(facts: Facts, out: Path) -> Path:
    """Writes report.json and report.html into `out` and returns the page's path.

    facts: the JSON-able record that `bitloom.flow` fills (see docs/report.md). Raises OutputError when `out` cannot be
    written.
    """
    page = render(facts)
    try:
        (out / "report.json").write_text(json.dumps(facts, indent=2) + "\n")
        path = out / "report.html"
        path.write_text(page)
    except OSError as error:
        raise OutputError(f"{out}: the report cannot be written ({error.strerror}); choose another --out") from None
    return path


def render(facts: Facts) -> str:
    """The HTML text."""
    template = Environment(autoescape=True).from_string(Path(__file__).with_name("page.html").read_text())
    return template.render(r=facts, cards=_cards(facts), pictures=_pictures(facts), causes=list(plots.CAUSE_COLOURS))


def _cards(facts: Facts) -> list[dict[str, str]]:
    def card(value: str, label: str, tone: str = "") -> dict[str, str]:
        return {"value": value, "label": label, "tone": tone}

    cards = [card(f"{facts['mean_bits']:.2f}", "mean bits per weight")]
    cards.append(
        card(f"{facts['weight_bytes'] / 1e6:.2f} MB", f"weights, {facts['float_ratio']:.1f} times smaller than float")
    )
    accuracy = facts.get("accuracy")
    if accuracy:
        cards.append(card(f"{accuracy['integer']:.2f} %", f"top-1, integer (float {accuracy['float']:.2f} %)"))
    simulation = facts.get("simulation")
    if simulation:
        exact = simulation["bit_exact"]
        cards.append(
            card(
                "bit-exact" if exact else "MISMATCH",
                f"{simulation['layers_compared']} tensors, {simulation['images']} images on RTL",
                "ok" if exact else "bad",
            )
        )
        ms = simulation["cycles"] / (1e3 * facts["clock_mhz"])
        cards.append(card(f"{simulation['cycles']:,}", f"cycles an image: {ms:.3f} ms at {facts['clock_mhz']:g} MHz"))
        cards.append(card(f"{100 * simulation['mac_efficiency']:.1f} %", "MAC efficiency, convolutions"))
    return cards


def _pictures(facts: Facts) -> dict[str, Markup]:
    pictures = {"bits": plots.bits_picture({k: np.asarray(v, dtype=np.int8) for k, v in facts["bits"].items()})}
    if facts.get("accuracy"):
        rows = {k: facts["accuracy"][k] for k in ("float", "fake_quantized", "integer") if k in facts["accuracy"]}
        pictures["accuracy"] = plots.accuracy_picture({k.replace("_", "-"): v for k, v in rows.items()})
        full = facts["weight_bytes"] * facts["float_ratio"]
        pictures["size"] = plots.accuracy_picture(
            {"float": 100.0, "8 bits": 25.0, "Bitloom": 100.0 * facts["weight_bytes"] / full}
        )
    if facts.get("layers"):
        pictures["cycles"] = plots.cycles_picture(facts["layers"])
    if facts.get("resources"):
        pictures["resources"] = plots.resources_picture(facts["resources"]["used"], facts["resources"]["available"])
    if facts.get("roofline_svg"):
        pictures["roofline"] = facts["roofline_svg"]
    return {name: Markup(text) for name, text in pictures.items()}
