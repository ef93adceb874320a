"""The report: everything it is given stands on the page, and the page needs nothing from outside."""

import json
import re
import subprocess
import sys

import matplotlib.style
import numpy as np
import pytest
import torch

from bitloom.allocate.hbp import HbpSolution
from bitloom.errors import OutputError
from bitloom.explore.explorer import explore
from bitloom.explore.space import Space
from bitloom.graph.allocation import BitAllocation, uniform
from bitloom.journal import StepRecord
from bitloom.report.architecture import pareto_picture, roofline_picture
from bitloom.report.facts import basic_facts, model_facts
from bitloom.report.page import render, write_report
from bitloom.report.samples import MOST, sample_rows
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device
from explore.explore_networks import tiny


@pytest.fixture(scope="module")
def found():
    space = Space(pixels=(2, 4), channels=(8,), vectors=(8, 16), ring_words=(512,), act_rows=(1024,), least_dsp=0.1)
    return explore(tiny(), "xc7z020", uniform(tiny(), 4).bits, space=space)


@pytest.fixture
def facts(found):
    arch, device = named_arch("small"), load_device("xc7z020")
    bits = {"conv1": np.array([0, 2, 8, 8], np.int8), "fc": np.array([4, 5], np.int8)}
    allocation = BitAllocation(bits, {"conv1": 27, "fc": 16})
    solution = HbpSolution(allocation, 2.5, 2.5, 0.0, 0.1, 2.6, (1.0, 1.0, 1.0))
    record = basic_facts("a net", arch, device, solution, [StepRecord("round", 3.0, 900, False)])
    return record | model_facts(found.run, arch, device)


def test_every_kind_of_resource_that_the_device_has_is_counted(facts):
    used = facts["resources"]["used"]
    assert list(used) == ["DSP", "LUT", "FF", "BRAM36", "URAM", "LUTRAM"] and list(
        facts["resources"]["available"]
    ) == list(used)
    assert used["BRAM36"] > 0 and f"{used['BRAM36']:g} of " in render(facts)


@pytest.mark.parametrize(
    ("count", "text"), [(39, "39 bytes"), (999, "999 bytes"), (1400, "1.4 kB"), (5_800_000, "5.80 MB")]
)
def test_sizes_of_any_network_are_shown(facts, count, text):
    assert f">{text}<" in render(facts | {"weight_bytes": count})


def simulated(facts, exact):
    run = {"images": 2, "layers_compared": 18, "bit_exact": exact, "cycles": 1234, "mac_efficiency": 0.5}
    causes = {"compute": 1000, "control": 234}
    layers = [{"name": "conv1", "causes": causes, "cycles": 1234, "model": 1230}]
    accuracy = {"images": 9, "float": 90.0, "fake_quantized": 89.5, "integer": 89.5, "fake_integer_agreement": 100.0}
    accuracy |= {"labelled": True, "calibrated": False}
    samples = sample_rows(torch.rand(2, 3, 8, 8), np.array([3, 4]), [3, 7])
    extra = {"simulation": run, "layers": layers, "accuracy": accuracy, "samples": samples, "cycles_note": "Bars."}
    return facts | extra


def test_a_users_style_does_not_colour_the_pictures(facts, found):
    """A dark background and thick lines of the user's own: the same pictures, and the settings are still there."""
    point, clock, measured = found.found.best, found.run.clock_mhz, simulated(facts, True)

    def drawn():
        return render(measured), pareto_picture(found.found.front, point, clock)

    plain = drawn()
    own = {"lines.linewidth": 9.0, "svg.fonttype": "none", "axes.titlesize": 33.0}
    with matplotlib.style.context(["dark_background", own]):
        before = dict(matplotlib.rcParams)
        assert drawn() == plain
        assert dict(matplotlib.rcParams) == before and before["lines.linewidth"] == 9.0


def test_page_shows_the_facts_and_stands_alone(facts):
    page = render(simulated(facts, True))
    for text in ("a net", "bit-exact", "18 tensors, 2 images on RTL", "1,234", "89.50 %", "7, is 4", "An estimate"):
        assert text in page, text
    assert page.count("<svg") >= 7
    outside = [u for u in re.findall(r'(?:src|href)="([^"#]+)', page) if not u.startswith("data:")]
    assert outside == []


def test_a_mismatch_is_loud(facts):
    page = render(simulated(facts, False))
    assert "MISMATCH" in page and "bit-exact</b>" not in page


def test_without_simulation_the_page_says_that_cycles_are_modelled(facts):
    page = render(facts)
    assert "modelled cycles an image" in page
    assert "none was run here" in page


def test_unlabelled_and_calibration_images_are_named(facts):
    measured = simulated(facts, True)
    measured["accuracy"] |= {"labelled": False, "calibrated": True}
    page = render(measured)
    assert "Same class as the float model on 9 unlabelled images. These are the calibration images" in page


def test_json_holds_the_same_facts(facts, tmp_path):
    write_report(simulated(facts, True), tmp_path)
    read = json.loads((tmp_path / "report.json").read_text())
    assert read["bits"]["conv1"] == [0, 2, 8, 8]
    assert read["energy"]["estimate"] is True
    assert sum(read["model_cycles_by_cause"].values()) == read["model_cycles"]


def test_unwritable_folder_is_named(facts, tmp_path):
    with pytest.raises(OutputError, match=r"the report cannot be written .*choose another --out"):
        write_report(facts, tmp_path / "none")


def test_samples_are_bounded_and_small():
    rows = sample_rows(torch.rand(MOST + 5, 1, 8, 8), None, [0] * (MOST + 5))
    assert len(rows) == MOST and rows[0]["label"] is None
    assert all(len(row["picture"]) < 2000 for row in rows)


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_pictures_of_an_exploration(found, kind):
    pictures = (
        roofline_picture(found.roof, kind),
        pareto_picture(found.found.front, found.found.best, found.run.clock_mhz, kind),
    )
    for data in pictures:
        assert len(data) > 5000
        assert data.startswith(b"\x89PNG") if kind == "png" else b"<svg" in data[:1000]


def test_pictures_leave_the_users_own_alone():
    """A notebook's backend and figures stay; pyplot is not even loaded."""
    code = (
        "import sys\n"
        "from bitloom.report import architecture, hardware, plots\n"
        "assert plots.percent_picture({'a': 50.0}).startswith('<svg')\n"
        "hardware.hardware_figure('n', {'a': 1.0}, {'a': 2.0}, {'a': 1.0}, ('x', 'y'), {'4': [(1e3, 0.1)]})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
