"""Budgets: every form a user may write, their meaning together, and the text of what is refused."""

from __future__ import annotations

import pytest

from bitloom.allocate.budget import Budget, enough_milliseconds, parse_budget
from bitloom.errors import BudgetError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4.0", Budget(mean_bits=4.0)),
        ("3", Budget(mean_bits=3.0)),
        ("5.8MB", Budget(bytes=5_800_000)),
        ("5800kB", Budget(bytes=5_800_000)),
        (" 5.5 MiB ", Budget(bytes=5_767_168)),
        ("1e6B", Budget(bytes=1_000_000)),
    ],
)
def test_sizes(text: str, expected: Budget) -> None:
    assert parse_budget(text) == expected


@pytest.mark.parametrize(("text", "ms"), [("0.6ms", 0.6), ("600us", 0.6), ("0.0006s", 0.6), ("600000ns", 0.6)])
def test_latencies(text: str, ms: float) -> None:
    assert parse_budget(None, text).milliseconds == ms


def test_the_tightest_limit_counts() -> None:
    assert Budget(mean_bits=4.0, bytes=100).weight_bits(1000) == 800
    assert Budget(mean_bits=0.5, bytes=100).weight_bits(1000) == 500
    assert Budget().weight_bits(1000) == 8000
    assert Budget(milliseconds=0.6, cycles=170_000).cycle_limit(300.0) == 170_000
    assert Budget(milliseconds=0.5, cycles=170_000).cycle_limit(300.0) == 150_000
    assert Budget(mean_bits=4.0).cycle_limit(300.0) is None


def test_figures_count_as_they_are_written() -> None:
    assert 0.023 * 300 * 1e3 < 6900 and 32.3 * 1e3 < 32_300
    assert Budget(milliseconds=0.023).cycle_limit(300.0) == 6900
    assert Budget(milliseconds=0.044).cycle_limit(333.25) == 14_663
    assert parse_budget("32.3kB").bytes == 32_300
    assert parse_budget(None, "9us") == parse_budget(None, "0.009ms") == Budget(milliseconds=0.009)


def test_what_cannot_be_met_names_the_nearest_feasible() -> None:
    with pytest.raises(
        BudgetError, match=r"1.500 mean bits \(188 bytes\) .* nearest feasible: 2 mean bits \(250 bytes"
    ):
        Budget(mean_bits=1.5, least=2).weight_bits(1000)


@pytest.mark.parametrize(
    ("size", "latency", "text"),
    [
        ("", None, "budget '' is not understood; legal: mean bits"),
        ("4 bits", None, "budget '4 bits': unknown unit; legal: none"),
        ("-3", None, "budget '-3' is not understood"),
        ("0", None, "budget = 0 mean bits; legal: above 0, up to 8"),
        ("8.5", None, "budget = 8.5 mean bits"),
        ("0.1B", None, "bytes = 0; must be above 0"),
        ("1e999kB", None, "budget '1e999kB' is too large a number"),
        (None, "soon", "latency 'soon' is not understood; legal: a time"),
        (None, "0.6", "latency '0.6': needs a unit"),
        (None, "0ms", "milliseconds = 0; must be above 0"),
        (None, "1e-99999999ms", "milliseconds = 0; must be above 0"),
    ],
)
def test_refusals(size: str | None, latency: str | None, text: str) -> None:
    with pytest.raises(BudgetError, match=text):
        parse_budget(size, latency)


def test_the_text_lists_what_is_asked() -> None:
    assert (
        str(parse_budget("4", "0.6ms", 180_000, 2)) == "4 mean bits, 180000 cycles, 0.6 ms, at least 2 bits a channel"
    )
    assert str(Budget()) == "no limit"


@pytest.mark.parametrize("clock", [300.0, 200.0, 333.25])
def test_the_milliseconds_for_some_cycles_are_enough_and_few_digits(clock: float) -> None:
    for cycles in (0, 1, 195, 1209, 179_730, 300_000, 123_456_789):
        text = enough_milliseconds(cycles, clock)
        assert not cycles or Budget(milliseconds=float(text)).cycle_limit(clock) >= cycles
        assert float(text) <= cycles / clock / 1e3 * 1.003
    assert enough_milliseconds(179_730, 300.0) == "0.5991"


def test_infinite_limits_are_refused() -> None:
    with pytest.raises(BudgetError, match="budget: milliseconds = inf; must be above 0, at most 1e"):
        Budget(milliseconds=float("inf"))
