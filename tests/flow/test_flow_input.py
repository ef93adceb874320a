"""What the journey makes of unusual input, and what it says of bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitloom import zoo
from bitloom.errors import BitloomError, BudgetError, DataError, GraphError, OutputError, TargetError, WeightsError
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.torch_export import from_torch
from bitloom.pictures import split_pictures
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device
from flow.journeys import journey


@pytest.mark.parametrize("budget", [0.0, -1.0, 9.0])
def test_impossible_budget(graph, images, tmp_path, budget):
    with pytest.raises(BudgetError, match="budget = "):
        journey(graph, images, tmp_path, CompileOptions(budget=budget, simulated=0))


def test_a_budget_that_leaves_no_network(graph, images, tmp_path):
    with pytest.raises(
        BudgetError, match=r"0 bytes of weights leave 'digits' no way from the image to .* larger budget"
    ):
        journey(graph, images, tmp_path, CompileOptions(budget=1e-9, simulated=0))


def test_images_of_another_shape(graph, tmp_path):
    with pytest.raises(
        DataError, match=r"calibration images have shape \(60, 1, 9, 9\), but .digits. needs \(N, 1, 8, 8\)"
    ):
        journey(graph, torch.zeros(60, 1, 9, 9), tmp_path)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_too_few_images(graph, images, tmp_path, count):
    with pytest.raises(DataError, match=f"{count} calibration images; give at least 6: two thirds"):
        compile_model(
            graph, images[:count], Evaluation(images, None), named_arch("small"), load_device("xczu15eg"), tmp_path
        )


def test_six_images_are_enough(graph, images, tmp_path):
    few, options = Evaluation(images[:6], None), CompileOptions(simulated=0, board=False)
    facts = compile_model(graph, images[:6], few, named_arch("small"), load_device("xczu15eg"), tmp_path, options)
    assert facts["mean_bits"] <= 4.0


def test_a_label_that_is_no_class(graph, images, tmp_path):
    evaluation = Evaluation(images[:20], np.arange(20) % 12)
    with pytest.raises(DataError, match="an image has label 10, but the classes of 'digits' are 0 to 9; correct"):
        compile_model(graph, images, evaluation, named_arch("small"), load_device("xczu15eg"), tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"simulated": -1}, "simulated = -1; must be a whole number, 0 or more"),
        ({"batch": 0}, "batch = 0; must be a whole number, 1 or more"),
        ({"batch": 1.5}, "batch = 1.5; must be a whole number"),
        ({"evaluated": -3}, "evaluated = -3; must be a whole number, 1 or more"),
        ({"views": 0}, "views = 0; must be"),
        ({"coherent": -1}, "coherent = -1; must be a whole number, 0 or more"),
        ({"equalize": 2.0}, r"equalize = 2.0; must be 0 \(none\) to 1"),
        ({"equalize": float("nan")}, "equalize = nan; must be"),
        ({"rounding": "gptq"}, "rounding = 'gptq'; must be one of Refinement.GPTQ, Refinement.COMPENSATED"),
        ({"budget": "4.0"}, r"budget = '4.0'; must be mean bits \(4.0\) or a Budget; parse_budget"),
        ({"budget": True}, "budget = True; must be mean bits"),
    ],
)
def test_options_out_of_range(options, text):
    with pytest.raises(BitloomError, match=text):
        CompileOptions(**options)


def test_build_device_and_evaluation_by_the_wrong_type(graph, images, tmp_path):
    arch, device, evaluation = named_arch("small"), load_device("xczu15eg"), Evaluation(images, None)
    with pytest.raises(TargetError, match=r"arch = 'small'; must be an ArchConfig, for example named_arch\('small'\)"):
        compile_model(graph, images, evaluation, "small", device, tmp_path)
    with pytest.raises(TargetError, match="device = 'xczu15eg'; must be a Device, for example load_device"):
        compile_model(graph, images, evaluation, arch, "xczu15eg", tmp_path)
    with pytest.raises(DataError, match="evaluation is a tuple; must be Evaluation"):
        compile_model(graph, images, (images, None), arch, device, tmp_path)


def with_pixel(images, at, value):
    changed = images.clone()
    changed[at, 0, 0, 0] = value
    return changed


def with_equal(images, part):
    """Every picture of one part is the first picture; which those are, pictures that hold their own number tell."""
    numbers = getattr(split_pictures(torch.arange(60.0).reshape(60, 1, 1, 1), 1), part).flatten().long()
    changed = images.clone()
    changed[numbers] = images[0]
    return changed


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x: x.numpy(), "calibration images are of type ndarray, must be a torch tensor .* torch.from_numpy"),
        (list, "calibration images are of type list, must be a torch tensor"),
        (lambda x: (x * 9).to(torch.uint8), "calibration images are torch.uint8, but must be normalised floats"),
        (lambda x: with_pixel(x, 59, torch.nan), "calibration images: image 59 holds NaN or infinite pixels"),
        (lambda x: x[:1].expand(60, -1, -1, -1), "all 60 calibration images are equal; give different"),
        (
            lambda x: with_equal(x, "seen"),
            "all 40 of 60 calibration images that are calibrated on are equal; give",
        ),
        (
            lambda x: with_equal(x, "held_out"),
            "all 20 of 60 calibration images that are held out to choose by are",
        ),
    ],
)
def test_calibration_images_that_cannot_be_used(graph, images, tmp_path, change, text):
    """Counted as the user gave them, whatever a later step sees of them."""
    with pytest.raises(DataError, match=text):
        compile_model(
            graph, change(images), Evaluation(images, None), named_arch("small"), load_device("xczu15eg"), tmp_path
        )


def test_evaluation_images_that_cannot_be_used(graph, images, tmp_path):
    for wrong, text in (
        (images.numpy(), "evaluation images are of type ndarray"),
        (with_pixel(images, 3, torch.inf), "evaluation images: image 3 holds NaN"),
        (images[:, :, :7], r"evaluation images have shape \(60, 1, 7, 8\), but 'digits' needs"),
    ):
        with pytest.raises(DataError, match=text):
            journey_of(graph, images, Evaluation(wrong, None), tmp_path)


def journey_of(graph, images, evaluation, out, **options):
    chosen = CompileOptions(simulated=0, coherent=0, **options)
    return compile_model(graph, images, evaluation, named_arch("small"), load_device("xczu15eg"), out, chosen)


def test_images_in_double_precision_or_with_a_gradient_are_the_same(graph, images, tmp_path):
    plain = journey_of(graph, images, Evaluation(images[:20], None), tmp_path)
    other = images.double().requires_grad_()
    again = journey_of(graph, other, Evaluation(other[:20], None), tmp_path)
    assert all(step["resumed"] for step in again["steps"]) and again["bits"] == plain["bits"]


def test_a_board_of_an_earlier_run_does_not_stay(graph, images, tmp_path):
    evaluation = Evaluation(images[:20], None)
    assert journey_of(graph, images, evaluation, tmp_path)["board"] and (tmp_path / "board" / "project.tcl").is_file()
    facts = journey_of(graph, images, evaluation, tmp_path, board=False)
    assert facts["board"] is None and not (tmp_path / "board").exists()


def test_a_network_whose_softmax_is_saturated_keeps_its_channels(graph, images, tmp_path):
    """No channel's rounding changes such a softmax: all widths cost nothing, and the budget is spent evenly."""
    last = graph[graph.output]
    large = replace(last, op=replace(last.op, weight=last.op.weight * np.float32(1e6)))
    nodes = [large if node is last else node for node in graph.nodes]
    facts = journey_of(replace(graph, nodes=tuple(nodes)), images, Evaluation(images[:20], None), tmp_path, budget=4.0)
    assert {b for bits in facts["bits"].values() for b in bits} == {4}


def test_a_network_of_one_output(images, tmp_path):
    """A softmax of one logit never changes: every channel would be pruned."""
    single = from_torch(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), (1, 8, 8), "single")
    with pytest.raises(GraphError, match=r"'single' has one output, .* give it one logit a class"):
        journey(single, images, tmp_path)


def test_a_network_without_weights(images, tmp_path):
    empty = from_torch(nn.Flatten(), (1, 8, 8), "empty")
    with pytest.raises(GraphError, match="'empty' has no layer with weights; there is nothing to quantize"):
        journey(empty, images, tmp_path)


def test_labels_that_do_not_match(images):
    with pytest.raises(DataError, match="19 labels for 20 images"):
        Evaluation(images[:20], np.zeros(19, np.int64))
    for labels in (np.zeros(20), np.zeros((20, 1), np.int64), np.zeros(20, bool), [0] * 20, torch.zeros(20)):
        with pytest.raises(DataError, match=r"labels are .*, must be a numpy array of integers, .* \(N,\)"):
            Evaluation(images[:20], labels)
    with pytest.raises(DataError, match="no images to evaluate on"):
        Evaluation(images[:0], None)


def test_without_labels_the_float_model_is_the_measure(graph, images, tmp_path):
    options = CompileOptions(budget=4.0, simulated=0)
    evaluation = Evaluation(images[:20], None, calibrated=True)
    device = load_device("xczu15eg")
    accuracy = compile_model(graph, images, evaluation, named_arch("small"), device, tmp_path, options)["accuracy"]
    assert accuracy["float"] == 100.0 and accuracy["labelled"] is False
    assert "unlabelled images. These are the calibration images" in (tmp_path / "report.html").read_text()


def test_unwritable_output(graph, images, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        journey(graph, images, tmp_path / "file" / "out")


def test_nan_weights_are_named(images, tmp_path):
    network = zoo.build("digits")
    with torch.no_grad():
        next(network.parameters()).view(-1)[5] = float("nan")
    with pytest.raises(WeightsError, match="NaN or infinite"):
        from_torch(network, (1, 8, 8), "digits")
