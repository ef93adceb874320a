"""Allocations side by side on one network: equal bytes, one row each, steps shared with a compile, resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bitloom.compare import compare as module
from bitloom.compare.compare import CompareOptions, compare
from bitloom.compare.methods import NAMES, Method, allocation_of
from bitloom.errors import BudgetError, DataError
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.graph.ir import Graph
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device
from flow.journeys import digits_graph, noise

ARCH = named_arch("small")
OPTIONS = CompareOptions(budgets=(3.0, 2.5), against=tuple(NAMES), coherent=8)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return noise()


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits_graph()


def task(images: Tensor) -> Evaluation:
    return Evaluation(images[:20], np.arange(20) % 10)


@pytest.fixture(scope="module")
def done(graph: Graph, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("compare")
    return out, compare(graph, images, task(images), ARCH, out, OPTIONS)


def test_every_method_has_a_row_within_its_budget(done: tuple[Path, list[dict[str, Any]]]) -> None:
    out, rows = done
    assert json.loads((out / "compare.json").read_text())["rows"] == json.loads(json.dumps(rows))
    assert rows[0]["method"] == "float" and rows[0]["kl"] == 0 and rows[0]["agreement"] == 100
    for budget in OPTIONS.budgets:
        found = [r["method"] for r in rows if r["budget"] == budget]
        # A uniform width is a whole one, and two widths of 4 and 8 bits fit neither budget.
        absent = ("hawq_v3", *(() if budget == 3.0 else ("uniform",)))
        assert found == [str(m) for m in OPTIONS.methods if m.allocation not in absent]
    for row in rows[1:]:
        assert 0 < row["mean_bits"] <= row["budget"] and row["n"] == 20
        assert row["comparison"] == ("method" if row["rounding"] != "gptq" else "allocation")
        assert row["vs_hbp"]["top1_points"] == pytest.approx(
            next(r for r in rows if r["method"] == "hbp+gptq" and r["budget"] == row["budget"])["top1"] - row["top1"]
        )


def test_a_second_call_measures_nothing_anew(
    graph: Graph, images: Tensor, done: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rows = done
    for work in ("measure", "float_logits"):
        monkeypatch.setattr(module, work, lambda *_: pytest.fail("measured again"))
    assert compare(graph, images, task(images), ARCH, out, OPTIONS) == rows


def test_rounding_and_costs_are_those_of_a_compile(
    graph: Graph, images: Tensor, done: tuple[Path, list[dict[str, Any]]]
) -> None:
    options = CompileOptions(budget=3.0, simulated=0, board=False, coherent=OPTIONS.coherent)
    facts = compile_model(graph, images, task(images), ARCH, load_device("xczu15eg"), done[0], options)
    shared = {"calibrate", "round", "round-coherent", "sensitivity", "sensitivity-coherent"}
    assert shared == {step["name"] for step in facts["steps"] if step["resumed"]} & shared


def test_without_labels_the_float_networks_classes_count(graph: Graph, images: Tensor, tmp_path: Path) -> None:
    few = CompareOptions(budgets=(4.0,), against=("uniform",), published=False, coherent=0)
    rows = compare(graph, images, Evaluation(images[:20], None), ARCH, tmp_path, few)
    assert rows[0]["top1"] == 100
    assert [r["method"] for r in rows] == ["float", "hbp+gptq", "uniform+gptq"]
    assert all(r["top1"] == r["agreement"] for r in rows)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"budgets": (9.0,)}, BudgetError, "budget = 9 mean bits; legal: above 0, up to 8"),
        ({"budgets": ("4",)}, BudgetError, "budget = '4'; must be mean bits per weight, for example 4.0"),
        ({"budgets": ()}, BudgetError, "no budget to compare at"),
        ({"against": ("hbq",)}, DataError, "unknown allocation 'hbq'; legal: hbp, naive_channel"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text.replace("(", r"\(")):
        CompareOptions(**options)


def test_too_few_images_are_refused_before_any_work(graph: Graph, tmp_path: Path) -> None:
    images = torch.randn(4, 1, 8, 8)
    with pytest.raises(DataError, match="4 calibration images; give at least 6"):
        compare(graph, images, Evaluation(images, None), ARCH, tmp_path)


def test_a_name_without_an_allocation_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="unknown allocation 'best'"):
        allocation_of(Method("best", "gptq"), 4.0, _Weights(), lambda bits: 0.0)  # type: ignore[arg-type]


class _Weights:
    total = 8
