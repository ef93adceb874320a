"""`compile`, `finetune` and `compare` on networks and images of a user."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bitloom import cli
from bitloom.__main__ import main
from bitloom.cli import app
from bitloom.frontends.findings import Finding, Severity
from bitloom.frontends.load import load_model


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("--budget", "much", "budget 'much' is not understood; legal: mean bits (4.0) or bytes"),
        ("--budget", "9", "budget = 9 mean bits; legal: above 0, up to 8"),
        ("--latency", "5", "latency '5': needs a unit"),
        ("--min-bits", "9", "smallest width = 9; legal: 0 to 8"),
    ],
)
def test_a_wrong_budget_is_one_line_and_exit_code_2(option, value, text, tmp_path):
    result = CliRunner().invoke(app, ["compile", "digits", "--data", str(tmp_path), option, value])
    assert result.exit_code == 2
    assert text in result.output


MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
        self.b, self.c = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.d = nn.Linear(16, 5)

    def forward(self, x):
        x = self.a(x)
        x = torch.relu(torch.cat([self.b(x), self.c(x)], 1))
        return self.d(x.mean((2, 3)))

def net():
    torch.manual_seed(0)
    return Net()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with a user's own module and unlabelled images, made the working directory."""
    (tmp_path / "my_net.py").write_text(MODULE)
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels = rng.integers(0, 256, (14, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMPILE = ["compile", "my_net:net", "--data", "images", "--shape", "3x12x12", "--arch", "tiny", "--json"]


def test_compile_of_a_users_own_network_ends_bit_exact(own):
    result = CliRunner().invoke(app, [*COMPILE, "--mean", "0.5", "--std", "0.25", "--budget", "3.5"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout[result.stdout.index("{") :])
    assert facts["simulation"]["bit_exact"] and facts["mean_bits"] <= 3.5
    assert facts["accuracy"]["labelled"] is False and facts["accuracy"]["calibrated"] is True
    assert (own / "out" / "report.html").is_file()
    assert "for the board: out/board/README.md" in result.output and (own / "out/board/project.tcl").is_file()


def test_compile_says_what_it_does_not_know_about_the_images(own):
    result = CliRunner().invoke(app, COMPILE)
    assert result.exit_code == 2
    assert "give --mean and --std" in result.output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--data", "nothing"], "nothing: not a folder"),
        (["--budget", "0.0"], "budget"),
        (["--target", "zcu999"], "unknown device"),
        (["--arch", "huge"], "unknown architecture 'huge'"),
        (["--arch", "full", "--target", "xc7z020"], "build 'full' does not fit 'xc7z020': DSP"),
        (["--weights", "none.npz"], "none.npz"),
        (["--out", "my_net.py/out"], "cannot be written"),
    ],
)
def test_compile_ends_with_one_clear_line_on_bad_input(own, arguments, text):
    result = CliRunner().invoke(app, [*COMPILE, "--mean", "0.5", "--std", "0.25", *arguments])
    assert result.exit_code == 2
    lines = [line for line in result.output.splitlines() if line.startswith("bitloom: ")]
    assert text in lines[-1]


@pytest.mark.parametrize(
    "option",
    [("--simulate", "-1"), ("--calibration", "0"), ("--views", "0"), ("--resize", "-5"), ("--equalize", "nan")],
)
def test_figures_outside_of_their_range_are_refused_at_once(own, option):
    result = CliRunner().invoke(app, [*COMPILE, "--mean", "0.5", "--std", "0.25", *option])
    assert result.exit_code == 2 and f"Invalid value for '{option[0]}'" in result.output and not (own / "out").exists()


def test_class_folders_that_are_not_as_many_as_the_classes_are_a_warning(own):
    for name in ("cat", "dog"):
        (own / "pets" / name).mkdir(parents=True)
    for i, path in enumerate(sorted((own / "images").iterdir())):
        path.rename(own / "pets" / ("cat" if i % 2 else "dog") / path.name)
    arguments = [*COMPILE, "--mean", "0.5", "--std", "0.25", "--data", "pets", "--simulate", "0", "--coherent", "0"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "warning: pets: 2 class folders, taken as classes 0 to 1 of 5 in name order" in result.stderr


def test_an_empty_folder_of_images(own):
    (own / "empty").mkdir()
    result = CliRunner().invoke(app, [*COMPILE, "--mean", "0", "--std", "1", "--data", "empty"])
    assert result.exit_code == 2 and "no images" in result.output


def test_an_interruption_is_one_line(own, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "compile_model", interrupted)
    result = CliRunner().invoke(app, [*COMPILE, "--mean", "0.5", "--std", "0.25"])
    assert result.exit_code == 130 and "run the same command again to go on" in result.output


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (errno.ENOSPC, "No space left on device; free space, or choose other folders"),
        (errno.EACCES, "Permission denied; give a path that this user may use"),
        (errno.ENOENT, ""),
    ],
)
def test_a_full_disk_and_a_closed_path_are_one_line(own, monkeypatch, code, shown):
    def full(*args, **kwargs):
        raise OSError(code, os.strerror(code), "/tmp/somewhere")

    monkeypatch.setattr(cli, "compile_model", full)
    result = CliRunner().invoke(app, [*COMPILE, "--mean", "0.5", "--std", "0.25"])
    if shown:
        assert result.exit_code == 2
        assert f"bitloom: /tmp/somewhere: {shown}" in result.output
    else:
        assert isinstance(result.exception, FileNotFoundError)


def test_an_output_that_is_a_map_is_warned_of(own, monkeypatch):
    monkeypatch.setattr(cli, "_compile", lambda *args: None)
    (own / "maps_for_test.py").write_text(
        "from torch import nn\ndef net(): return nn.Conv2d(3, 4, 3)\n"
        "def pooled(): return nn.Sequential(net(), nn.AdaptiveAvgPool2d(1))\n"
    )
    shown = {}
    for name in ("net", "pooled"):
        command = ["compile", f"maps_for_test:{name}", *COMPILE[2:], "--mean", "0.5", "--std", "0.25"]
        shown[name] = CliRunner().invoke(app, command).stderr
    assert "the output is a map of 4x10x10, and each of its 400 values is taken for a class" in shown["net"]
    assert "warning" not in shown["pooled"]


def test_pictures_are_read_before_the_best_build_is_searched(own, monkeypatch):
    monkeypatch.setattr(cli, "_best_build", lambda *args: pytest.fail("searched first"))
    command = [word for word in COMPILE if word not in ("--arch", "tiny")]
    result = CliRunner().invoke(app, [*command, "--data", "nowhere", "--mean", "0.5", "--std", "0.25"])
    assert result.exit_code == 2 and "bitloom: nowhere: not a folder" in result.output


def test_what_check_warns_of_is_printed_by_compile(own, monkeypatch):
    monkeypatch.setattr(cli, "_compile", lambda *args: None)
    warning = Finding(Severity.WARNING, "conv", "Conv", "is large", "make it small")
    monkeypatch.setattr(cli, "read_model", lambda *args: (load_model("digits"), (warning,)))
    result = CliRunner().invoke(app, [*COMPILE, "--mean", "0.5", "--std", "0.25"])
    assert result.exit_code == 0
    assert "warning: 'conv' (Conv): is large; make it small" in result.stderr


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "bitloom", "--help"], capture_output=True, text=True, check=True)
    assert "compile" in done.stdout


FINETUNE = ["finetune", *COMPILE[1:], "--mean", "0.5", "--std", "0.25", "--train", "images", "--batch", "8"]


def test_finetune_ends_bit_exact_and_a_second_call_continues(own):
    options = ["--budget", "2.5", "--epochs", "2", "--shift", "1", "--resolve", "1", "--coherent", "0"]
    result = CliRunner().invoke(app, [*FINETUNE, *options])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout[result.stdout.index("{") :])
    assert facts["simulation"]["bit_exact"] and facts["mean_bits"] <= 2.5
    assert len(facts["training"]["losses"]) == 2 and len(facts["training"]["widths_changed"]) == 1
    assert {"train0", "resolve1", "train1"} <= {step["name"] for step in facts["steps"]}
    assert list(facts["measure"]["least_loss_divergence"]) == ["plain"]
    again = CliRunner().invoke(app, [*FINETUNE, *options])
    facts = json.loads(again.stdout[again.stdout.index("{") :])
    assert all(step["resumed"] for step in facts["steps"])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--batch", "25"], "24 images for batches of 25; give more images or a smaller batch"),
        (["--epochs", "0.1"], "0.1 epochs of 24 images in batches of 8 are no step; give more epochs"),
        (["--resolve", "9"], "widths solved again 9 times in 9 steps; legal: 0 to 8"),
        (["--label-weight", "2"], "label_weight = 2.0; must be a share, 0 to 1"),
        (["--rate", "-1"], "latent_rate = -1.0; must be a learning rate, 0 or more"),
        (["--epochs", "nan"], "nan epochs; give a number"),
        (["--device", "tpu"], "device = 'tpu'; legal: cpu, cuda"),
        (["--shift", "-1"], "Invalid value for '--shift'"),
        (["--label-weight", "0.5"], "label_weight = 0.5, but there are no labels"),
        (["--train", "nothing"], "nothing: not a folder"),
    ],
)
def test_finetune_ends_with_one_clear_line_on_bad_input(own, arguments, text):
    result = CliRunner().invoke(app, [*FINETUNE, *arguments])
    assert result.exit_code == 2
    assert text in result.output


COMPARE = ["compare", *COMPILE[1:-1], "--mean", "0.5", "--std", "0.25"]


def test_compare_prints_a_row_a_method_and_draws_them(own):
    result = CliRunner().invoke(app, [*COMPARE, "--budgets", "2.5,4", "--against", "per_layer, uniform"])
    assert result.exit_code == 0, result.output
    assert result.output.count("HBP, per channel") == 2 and result.output.count("per layer, exact") == 2
    assert result.output.count("uniform, GPTQ as published") == 1  # at whole widths alone
    assert (own / "out" / "compare.png").is_file() and result.stdout.rstrip().endswith("out/compare.png")
    rows = json.loads((own / "out" / "compare.json").read_text())["rows"]
    again = CliRunner().invoke(app, [*COMPARE, "--budgets", "2.5,4", "--against", "per_layer,uniform", "--json"])
    assert json.loads(again.stdout)["rows"] == rows


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--budgets", "2,5kB"], "budgets '2,5kB': '5kB' is a size; give mean bits with commas between (2,2.5,4)"),
        (["--budgets", ""], "budget '' is not understood"),
        (["--budgets", "2,9"], "budget = 9 mean bits; legal: above 0, up to 8"),
        (["--against", "per-layer"], "unknown allocation 'per-layer'; legal: hbp, naive_channel, per_layer"),
    ],
)
def test_compare_ends_with_one_clear_line_on_bad_input(own, arguments, text):
    result = CliRunner().invoke(app, [*COMPARE, *arguments])
    assert result.exit_code == 2
    assert text in result.output.splitlines()[-1]


def test_an_interruption_while_libraries_are_loaded_is_one_line(monkeypatch, capsys):
    class Interrupted:
        def find_spec(self, name, path=None, target=None):
            if name == "bitloom.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "bitloom.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 130
    assert capsys.readouterr().err == "bitloom: interrupted before anything was done\n"
