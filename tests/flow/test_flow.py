"""The journey as a user calls it: what it writes, and how it resumes."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from bitloom import candidates, flow
from bitloom.allocate.budget import Budget
from bitloom.allocate.estimators import gradient
from bitloom.errors import BudgetError, DataError
from bitloom.flow import CompileOptions
from bitloom.graph.ir import Conv, Flatten, GlobalAvgPool, Graph, Input, Linear, Node, Relu
from bitloom.pictures import split_pictures
from bitloom.program.binary import binary_layers
from bitloom.program.container import load
from bitloom.quantize.refine import Refinement, best
from bitloom.target.arch import named_arch
from flow.journeys import journey


@pytest.fixture(scope="module")
def done(graph, images, tmp_path_factory):
    out = tmp_path_factory.mktemp("journey")
    return out, journey(graph, images, out)


def test_it_ends_bit_exact_with_report_and_program(done):
    out, facts = done
    run = facts["simulation"]
    assert run["bit_exact"] and run["classes_equal"] and run["first_difference"] == ""
    assert run["layers_compared"] > 2 * len(facts["bits"])
    assert sum(run["cycles_by_cause"].values()) == run["cycles"]
    assert facts["mean_bits"] <= 3.0
    assert json.loads((out / "report.json").read_text())["simulation"]["cycles"] == run["cycles"]
    assert "bit-exact" in (out / "report.html").read_text()
    assert load(out / "program.bitloom").arch == named_arch("small")


def test_the_onnx_file_gives_the_classes_of_the_hardware(done, images):
    out, facts = done
    session = onnxruntime.InferenceSession(str(out / "network.onnx"), providers=["CPUExecutionProvider"])
    codes, logits = session.run(None, {"image": images[:20].numpy()})
    assert codes[:2].argmax(1).tolist() == facts["simulation"]["classes"]["rtl"]
    right = (logits.argmax(1) == np.arange(20) % 10).mean()
    assert 100 * right == pytest.approx(facts["accuracy"]["integer"])


def test_below_two_bits_with_binary_channels(graph, images, tmp_path):
    """Binary channels where the build can have them, and nowhere else; the run is bit-exact like any other."""
    facts = journey(graph, images, tmp_path, CompileOptions(budget=1.5, simulated=2))
    assert facts["mean_bits"] <= 1.5 and facts["simulation"]["bit_exact"]
    having = {name for name, bits in facts["bits"].items() if 1 in bits}
    assert having and having <= binary_layers(graph, named_arch("small"))


def test_the_smallest_width_may_be_one(graph, images, tmp_path):
    facts = journey(graph, images, tmp_path, CompileOptions(budget=Budget(mean_bits=2.0, least=1), simulated=0))
    assert min(min(bits) for bits in facts["bits"].values()) == 1
    with pytest.raises(BudgetError, match="smallest allocation has"):
        journey(graph, images, tmp_path, CompileOptions(budget=Budget(mean_bits=1.0, least=1), simulated=0))


def test_images_of_a_batch_share_a_run(done, graph, images, tmp_path):
    one = done[1]["simulation"]
    facts = journey(graph, images, tmp_path, CompileOptions(budget=3.0, simulated=3, batch=4))
    run = facts["simulation"]
    assert run["bit_exact"] and run["images"] == run["batch"] == 4 and len(run["classes"]["rtl"]) == 4
    assert run["classes"]["rtl"][:2] == one["classes"]["rtl"]
    assert run["cycles"] < 4 * one["cycles"]
    assert "for 4 images" in (tmp_path / "report.html").read_text()


def test_views_reach_rounding_alone(graph, images, tmp_path, monkeypatch):
    """Rounding errors are priced on pictures that it has not seen, in the plain view; gradients on all of them, once
    for both measures of rounding errors."""
    seen, calls = {}, []

    def keep(module, name):
        call = getattr(module, name)

        def kept(*args, **kwargs):
            seen[name] = args, kwargs
            calls.append(name)
            return call(*args, **kwargs)

        monkeypatch.setattr(module, name, kept)

    keep(flow, "calibrate")
    keep(candidates, "round_network")
    keep(candidates, "gradient_power")
    keep(gradient, "output_errors")
    facts = journey(graph, images, tmp_path, CompileOptions(budget=3.0, simulated=0, views=2))
    parts = split_pictures(images, 2)
    assert len(parts.seen) == 20 and len(parts.held_out) == 10
    assert seen["calibrate"][0][1].equal(parts.seen)
    assert seen["round_network"][1]["images"].equal(parts.every_view)
    assert seen["output_errors"][0][1].equal(parts.held_out)
    assert seen["gradient_power"][0][1].equal(torch.cat([parts.held_out, parts.seen]))
    assert [calls.count(name) for name in ("round_network", "output_errors", "gradient_power")] == [2, 2, 1]
    names = [step["name"] for step in facts["steps"]]
    assert len(set(names)) == len(names) and names.count("gradients") == 1


def test_held_out_images_choose_between_measures_of_rounding_errors(graph, images, tmp_path, monkeypatch):
    seen, work, quantize, tables = [], candidates.round_network, flow.quantize, []

    def rounding(*args, **kwargs):
        seen.append(kwargs["statistics"].coherent)
        return work(*args, **kwargs)

    def picking(*args, **kwargs):
        tables.append(kwargs["rounded"])
        return quantize(*args, **kwargs)

    monkeypatch.setattr(candidates, "round_network", rounding)
    monkeypatch.setattr(flow, "quantize", picking)
    plain = journey(graph, images, tmp_path, CompileOptions(budget=3.0, simulated=0, coherent=0))
    assert seen == [0] and list(plain["measure"]["least_loss_divergence"]) == ["plain"]
    for measure in ("plain", "coherent"):
        chosen = lambda made, measure=measure: next(c for c in made if c.table.measure == measure)  # noqa: E731
        monkeypatch.setattr(flow, "best", chosen)
        facts = journey(graph, images, tmp_path, CompileOptions(budget=3.0, simulated=0, coherent=16))
        found = facts["measure"]["least_loss_divergence"]
        assert facts["measure"]["chosen"] == measure and list(found) == ["plain", "coherent"]
        assert found["plain"] == plain["measure"]["least_loss_divergence"]["plain"] != found["coherent"]
    assert seen == [0, 16]  # the same folder: the plain one is done before
    codes = [next(iter(table.values())).codes[2] for table in tables[-2:]]  # and the chosen table is the one used
    assert not np.array_equal(codes[0], codes[1])
    monkeypatch.setattr(flow, "best", best)
    facts = journey(graph, images, tmp_path, CompileOptions(budget=3.0, simulated=0, coherent=16))
    found = facts["measure"]["least_loss_divergence"]
    assert found[facts["measure"]["chosen"]] == min(found.values())


def test_images_that_are_no_whole_views_are_refused(graph, images, tmp_path):
    with pytest.raises(DataError, match="60 calibration images are no 7 views"):
        journey(graph, images, tmp_path, CompileOptions(views=7))


def test_learned_rounding_is_a_step_and_its_stages_are_in_the_facts(graph, images, tmp_path):
    options = CompileOptions(budget=2.0, simulated=0, rounding=Refinement.LEARNED)
    facts = journey(graph, images, tmp_path, options)
    assert "refine" in [step["name"] for step in facts["steps"]]
    assert list(facts["rounding"]) == ["gptq", "learned"]
    assert all(np.isfinite(v) and v >= 0 for v in facts["rounding"].values())
    assert all(step["resumed"] for step in journey(graph, images, tmp_path, options)["steps"])


def test_a_second_call_resumes_every_step_with_the_same_facts(done, graph, images):
    out, facts = done
    again = journey(graph, images, out)
    assert all(step["resumed"] for step in again["steps"])
    assert again["bits"] == facts["bits"] and again["simulation"] == facts["simulation"]


def test_the_same_weights_behind_another_activation_or_stride_are_another_network(images, tmp_path):
    weight = np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)
    head = np.ones((10, 4), np.float32) * np.arange(10, dtype=np.float32)[:, None]

    def network(limit, stride):
        nodes = (
            Node("image", Input((1, 8, 8)), ()),
            Node("conv", Conv(weight, np.zeros(4, np.float32), (stride, stride), (1, 1, 1, 1)), ("image",)),
            Node("relu", Relu(limit), ("conv",)),
            Node("pool", GlobalAvgPool(), ("relu",)),
            Node("flat", Flatten(), ("pool",)),
            Node("fc", Linear(head, np.zeros(10, np.float32)), ("flat",)),
        )
        return Graph("net", nodes, "fc")

    options = CompileOptions(simulated=0, board=False, coherent=0)
    journey(network(None, 1), images, tmp_path, options)
    for other in (network(0.5, 1), network(None, 2)):
        assert not any(step["resumed"] for step in journey(other, images, tmp_path, options)["steps"])


def test_another_budget_keeps_calibration_and_rounding(done, graph, images):
    out, _ = done
    again = journey(graph, images, out, CompileOptions(budget=2.5, simulated=0))
    resumed = {step["name"]: step["resumed"] for step in again["steps"]}
    assert resumed["calibrate"] and resumed["round"] and resumed["sensitivity"]
    assert not resumed["allocate"] and not resumed["quantize"]
    assert again["mean_bits"] <= 2.5 and "simulation" not in again


def test_a_cycle_bound_holds_in_the_model_and_on_rtl(done, graph, images):
    """The tightest bound that is refused names the nearest feasible; two thirds up from it is met."""
    out, facts = done
    with pytest.raises(
        BudgetError, match=r"a bound of 100 cycles \(0.0003333 ms at 300 MHz\) .* nearest feasible: \d+ cycles \(0.0"
    ) as info:
        journey(graph, images, out, CompileOptions(budget=Budget(mean_bits=3.0, cycles=100), simulated=0))
    least = int(str(info.value).rsplit(" cycles", 1)[0].rsplit(" ", 1)[1])
    limit = least + (facts["model_cycles"] - least) * 2 // 3
    bound = journey(graph, images, out, CompileOptions(budget=Budget(mean_bits=3.0, cycles=limit), simulated=1))
    assert bound["latency"]["limit"] == limit
    assert bound["model_cycles"] <= limit < bound["latency"]["model_cycles_without_limit"]
    assert bound["mean_bits"] <= 3.0
    assert bound["simulation"]["bit_exact"]
    assert bound["simulation"]["cycles"] == pytest.approx(bound["model_cycles"], rel=0.02)


def test_some_loss_is_given_up_for_cycles_and_said(graph, images, tmp_path):
    """On a build of one weight port, where wide channels and late weights cost much."""
    free, spared = (
        journey(graph, images, tmp_path, CompileOptions(budget=Budget(mean_bits=5.0, tolerance=t), simulated=0))
        for t in (0.0, 0.5)
    )
    assert free["latency"]["loss_given_up"] == 0.0
    assert free["latency"]["model_cycles"] == free["latency"]["model_cycles_without_limit"]
    found = spared["latency"]
    assert found["limit"] is None and 0 < found["loss_given_up"] <= 0.5
    assert found["model_cycles"] < found["model_cycles_without_limit"] == free["latency"]["model_cycles"]
    assert f"{found['model_cycles']:,}" in Path(spared["report"]).read_text()
    assert spared["allocation"]["objective"] == pytest.approx(
        (1 + found["loss_given_up"]) * free["allocation"]["objective"]
    )


def test_an_interrupted_run_goes_on_where_it_stopped(graph, images, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(flow, "lower", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journey(graph, images, tmp_path)
    resumed = {step["name"]: step["resumed"] for step in journey(graph, images, tmp_path)["steps"]}
    assert resumed["quantize"] and not resumed["program"]
