"""A mixed table has each layer's rows from the measure of rounding errors with which they cost less."""

import numpy as np

from bitloom.allocate.hbp import LayerCosts
from bitloom.candidates import MARGIN, PricedTable, mixed
from bitloom.quantize.rounding import RoundedLayer

WIDTHS = (0, 2, 3)


def table(measure, factors, seed):
    rng = np.random.default_rng(seed)
    codes = {b: rng.integers(-2, 2, (4, 9)).astype(np.int8) for b in WIDTHS}
    scale = {b: rng.random(4) for b in WIDTHS}
    cost = np.outer(np.arange(1.0, 5.0), factors)
    return PricedTable(
        measure, {"a": RoundedLayer(WIDTHS, codes, scale, rng.random((4, 3)))}, {"a": LayerCosts(cost, 9)}
    )


def test_a_layer_takes_coherent_rows_where_they_cost_less_by_the_margin():
    plain = table("plain", [9.0, 3.0, 1.0], seed=0)
    coherent = table("coherent", [9.0 * MARGIN, 2.0, 1.1], seed=1)
    both = mixed(plain, coherent)
    ours, theirs, made = (t.rounded["a"] for t in (plain, coherent, both))
    assert both.measure == "mixed"
    for part in ("codes", "scale"):
        rows = [getattr(r, part) for r in (ours, theirs, made)]
        assert rows[2][0] is rows[0][0] and rows[2][2] is rows[1][2] and rows[2][3] is rows[0][3]
    assert np.array_equal(made.error, np.stack([ours.error[:, 0], theirs.error[:, 1], ours.error[:, 2]], axis=1))
    assert np.array_equal(both.costs["a"].cost, np.outer(np.arange(1.0, 5.0), [9.0, 2.0, 1.0]))


def test_more_bits_never_cost_more_in_a_mixed_table():
    both = mixed(table("plain", [9.0, 3.0, 2.0], seed=0), table("coherent", [9.0, 1.0, 1.95], seed=1))
    assert np.array_equal(both.costs["a"].cost, np.outer(np.arange(1.0, 5.0), [9.0, 1.0, 1.0]))


def test_without_a_better_layer_there_is_no_mixed_table():
    plain = table("plain", [9.0, 3.0, 1.0], seed=0)
    assert mixed(plain, plain) is None
