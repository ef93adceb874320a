"""The report: one HTML page that works offline, and the same facts as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from bitloom.errors import OutputError
from bitloom.explore.roofline import Roofline, RooflinePoint
from bitloom.report import plots
from bitloom.report.architecture import roofline_picture

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
    return template.render(
        r=facts,
        cards=_cards(facts),
        pictures=_pictures(facts),
        causes=list(plots.CAUSE_COLOURS),
        accuracy_note=_accuracy_note(facts.get("accuracy") or {}),
        small=facts.get("image_edge", 0) <= 64,
    )


def _size(count: float) -> str:
    if count < 1e3:
        return f"{count:.0f} bytes"
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _accuracy_note(accuracy: Facts) -> str:
    if not accuracy:
        return ""
    what = "Top-1 on" if accuracy["labelled"] else "Same class as the float model on"
    kind = "labelled" if accuracy["labelled"] else "unlabelled"
    warning = " These are the calibration images: other images do worse." if accuracy["calibrated"] else ""
    return (
        f"{what} {accuracy['images']} {kind} images.{warning} Fake-quantized and integer model agree on "
        f"{accuracy['fake_integer_agreement']:.2f} %."
    )


def _cards(facts: Facts) -> list[dict[str, str]]:
    def card(value: str, label: str, tone: str = "") -> dict[str, str]:
        return {"value": value, "label": label, "tone": tone}

    cards = [card(f"{facts['mean_bits']:.2f}", "mean bits per weight")]
    smaller = f"weights, {facts['float_ratio']:.1f} times smaller than float"
    cards.append(card(_size(facts["weight_bytes"]), smaller))
    accuracy = facts.get("accuracy")
    if accuracy and accuracy["labelled"]:
        cards.append(card(f"{accuracy['integer']:.2f} %", f"top-1, integer (float {accuracy['float']:.2f} %)"))
    elif accuracy:
        cards.append(card(f"{accuracy['integer']:.2f} %", "integer model gives the float model's class"))
    simulation = facts.get("simulation")
    if simulation:
        exact = simulation["bit_exact"]
        count = simulation["images"]
        compared = f"{simulation['layers_compared']} tensors, {count} image{'' if count == 1 else 's'} on RTL"
        cards.append(card("bit-exact" if exact else "MISMATCH", compared, "ok" if exact else "bad"))
    cycles = simulation["cycles"] if simulation else facts.get("model_cycles")
    if cycles:
        source = "simulated" if simulation else "modelled"
        batch = facts["batch"]
        ms = cycles / (1e3 * facts["clock_mhz"])
        what = "an image" if batch == 1 else f"for {batch} images ({cycles // batch:,} an image)"
        cards.append(card(f"{cycles:,}", f"{source} cycles {what}: {ms:.3f} ms at {facts['clock_mhz']:g} MHz"))
    if simulation:
        efficiency = simulation["mac_efficiency"]
        cards.append(card(f"{100 * efficiency:.1f} %", "of the array's products are useful, in convolutions"))
    if facts.get("energy"):
        cards.append(card(f"{facts['energy']['millijoules'] / facts['batch']:.3g} mJ", "an image, an estimate"))
    return cards


def _pictures(facts: Facts) -> dict[str, Markup]:
    bits = {k: np.asarray(v, dtype=np.int8) for k, v in facts["bits"].items()}
    full = facts["weight_bytes"] * facts["float_ratio"]
    pictures = {
        "bits": plots.bits_picture(bits),
        "widths": plots.widths_picture(bits, facts["channel_weights"]),
        "size": plots.percent_picture(
            {"float": 100.0, "8 bits": 25.0, "Bitloom": 100.0 * facts["weight_bytes"] / full if full else 0.0}
        ),
    }
    if facts.get("accuracy"):
        rows = {k: facts["accuracy"][k] for k in ("float", "fake_quantized", "integer") if k in facts["accuracy"]}
        pictures["accuracy"] = plots.percent_picture({k.replace("_", "-"): v for k, v in rows.items()})
    if facts.get("layers"):
        pictures["cycles"] = plots.cycles_picture(facts["layers"])
    if facts.get("resources"):
        pictures["resources"] = plots.resources_picture(facts["resources"]["used"], facts["resources"]["available"])
    if facts.get("energy"):
        pictures["energy"] = plots.parts_picture(facts["energy"]["parts_mj"], "mJ")
    if facts.get("roofline"):
        pictures["roofline"] = _roofline(facts["roofline"])
    return {name: Markup(text) for name, text in pictures.items()}


def _roofline(record: Facts) -> str:
    points = tuple(RooflinePoint(**p) for p in record["points"])
    roof = Roofline(record["network"], record["peak"], record["slope"], points)
    return plots.inline(roofline_picture(roof, "svg").decode())
