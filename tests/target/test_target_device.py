"""Device files: complete, sourced, and refused with a clear text when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitloom.errors import TargetError
from bitloom.target.device import FIGURES, device_names, load_device, read_device

FILES = Path(__file__).parents[2] / "src/bitloom/target/devices"


def test_the_five_devices_are_there() -> None:
    assert device_names() == ("xc7z020", "xck26", "xcu250", "xczu15eg", "xczu9eg")


@pytest.mark.parametrize("name", device_names())
def test_every_figure_has_a_source(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    assert set(device.sources) - {"mpsoc_part"} == set(FIGURES)
    assert all(len(source) > 15 for source in device.sources.values())
    assert device.lutram < device.lut < device.ff


def test_figures_of_the_xczu15eg() -> None:
    d = load_device("xczu15eg")
    assert (d.dsp, d.lut, d.ff, d.bram36, d.uram) == (3528, 341280, 682560, 744, 112)
    assert d.ddr_bytes_per_cycle(0.85) == pytest.approx(54.4)
    assert d.dsps_per_quad == 1


def test_a_dsp48e1_needs_two_slices_for_four_products() -> None:
    assert load_device("xc7z020").dsps_per_quad == 2


def test_unknown_device_lists_the_legal_names() -> None:
    with pytest.raises(
        TargetError, match=r"unknown device 'pynq-z9'; legal: xc7z020, xck26, xcu250, xczu15eg, xczu9eg"
    ):
        load_device("pynq-z9")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("[dsp]", "[dps]"), "lacks 'dsp'"),
        (("value = 3528", "value = 'many'"), "dsp = 'many' must be a number"),
        (("value = 3528", "value = -1"), "dsp = -1; must be positive"),
        (('dsp_kind = "DSP48E2"', 'dsp_kind = "DSP58"'), "dsp_kind = 'DSP58'; legal: DSP48E2, DSP48E1"),
        (("[dsp]\nvalue = 3528\nsource =", "[dsp]\nvalue = 3528\norigin ="), "'dsp' needs a value and a source"),
        (("[dsp]\n", "[cores]\nvalue = 1\nsource = 'x'\n[dsp]\n"), "unknown figure 'cores'"),
        (("[dsp]", "[dsp"), "cannot be read"),
        (('"xczu15eg-ffvb1156-2-i"', "15"), "mpsoc_part = 15; legal: a full name such as 'xczu15eg-ffvb1156-2-i'"),
    ],
)
def test_a_broken_device_file_is_refused(tmp_path: Path, change: tuple[str, str], text: str) -> None:
    original = (FILES / "xczu15eg.toml").read_text(encoding="utf-8")
    assert change[0] in original
    path = tmp_path / "board.toml"
    path.write_text(original.replace(*change), encoding="utf-8")
    with pytest.raises(TargetError) as caught:
        read_device(path)
    assert text in str(caught.value)
