import json

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
    result = CliRunner().invoke(app, ["explore", "digits"])
    assert result.exit_code == 0
    assert json.loads(result.stdout[result.stdout.index("{") :])["cycles"] > 0
