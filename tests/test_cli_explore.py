"""`check`, `show` and `explore`: the commands that need no images."""

import json

import pytest
from typer.testing import CliRunner

from bitloom.cli import app


def test_check_of_a_supported_network_exits_with_zero():
    assert CliRunner().invoke(app, ["check", "digits"]).exit_code == 0


def test_show_prints_the_layers():
    result = CliRunner().invoke(app, ["show", "digits"])
    assert result.exit_code == 0
    assert "layer2.conv1" in result.stdout


def test_unknown_model_is_one_line_and_exit_code_2():
    result = CliRunner().invoke(app, ["show", "resnet19"])
    assert result.exit_code == 2
    assert "bitloom: unknown model 'resnet19'" in result.output


def test_unknown_device_lists_the_legal_ones():
    result = CliRunner().invoke(app, ["explore", "digits", "--target", "xczu99"])
    assert result.exit_code == 2
    assert "xczu15eg" in result.output


def test_explore_answers_in_json():
    result = CliRunner().invoke(app, ["explore", "digits", "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["cycles"] > 0


def test_explore_shows_a_table_by_default():
    result = CliRunner().invoke(app, ["explore", "digits", "--target", "xc7z020"])
    assert result.exit_code == 0
    assert "layer2.conv1" in result.stdout and "what binds each layer" in result.stdout


def test_one_build_for_several_networks():
    result = CliRunner().invoke(app, ["explore", "digits", "resnet20", "--target", "xc7z020", "--json"])
    assert result.exit_code == 0
    first, second = json.loads(result.stdout)["networks"]
    assert [first["network"], second["network"]] == ["digits", "resnet20"]
    assert first["arch"] == second["arch"]


@pytest.mark.parametrize("bits", ["0", "1", "9"])
def test_explore_says_why_a_width_is_not_assumed(bits):
    result = CliRunner().invoke(app, ["explore", "digits", "--bits", bits])
    assert (
        result.exit_code == 2
        and f"--bits {bits}: the width that every channel is assumed to have must be 2 to 8" in (result.output)
    )


def test_a_named_build_that_does_not_fit_exits_with_one():
    result = CliRunner().invoke(app, ["explore", "digits", "--target", "xc7z020", "--arch", "full"])
    assert result.exit_code == 1
    assert "build 'full' does not fit 'xc7z020': DSP" in result.output
