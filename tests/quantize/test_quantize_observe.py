"""Activation ranges beside rows of very different size, and a calibration as the journal keeps it."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import torch

from bitloom.graph.allocation import BitAllocation
from bitloom.graph.execute import execute
from bitloom.graph.ir import AvgPool, Input, Relu
from bitloom.quantize.observe import calibrate
from bitloom.quantize.quantize import quantize
from flow.journeys import digits_graph
from quantize.float_graphs import graph_of, images_of, logit_error, random_conv


def test_a_saved_calibration_holds_its_own_images_alone() -> None:
    """Not the storage that they are a slice of: views of pictures beside them."""
    graph = digits_graph()
    every = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    calibration = calibrate(graph, every[:20])
    saved = pickle.dumps(calibration)
    assert len(saved) < len(pickle.dumps(calibrate(graph, every[:20].clone()))) + 1000
    loaded = pickle.loads(saved)
    assert loaded.images.equal(every[:20]) and loaded.activations == calibration.activations


def test_a_few_large_rows_do_not_take_the_levels_of_the_others() -> None:
    """As folded batch normalization makes them: a row twenty times the others, on an input that hardly varies."""
    rng = np.random.default_rng(7)
    first, deep = random_conv(rng, 8, 3, 1), replace(random_conv(rng, 8, 1, 3), groups=8)
    first.weight[3], deep.weight[3] = first.weight[3] / 20, deep.weight[3] * 20
    nodes = (("r1", Relu(6.0), ("c1",)), ("c2", deep, ("r1",)), ("r2", Relu(6.0), ("c2",)))
    head = ("c3", random_conv(rng, 4, 8, 1), ("r2",))
    pool = ("p", AvgPool((8, 8), (1, 1), (0, 0, 0, 0)), ("c3",))
    graph = graph_of(("in", Input((3, 8, 8)), ()), ("c1", first, ("in",)), *nodes, head, pool)
    images = images_of(graph, 32)
    calibration = calibrate(graph, images)
    step = next(s for s in calibration.lowered.convs if s.name == "c2")
    own = float(execute(graph, images, {"r2"})["r2"].max()) / 254
    assert calibration.activations["r2"].scale <= 1.51 * own
    assert np.abs(step.weight).max() > 4 * calibration.largest_scale(step)  # no multiplier holds that row at 2 bits
    sizes = {s.name: int(np.prod(s.weight.shape[1:])) for s in calibration.lowered.convs}
    errors = {}
    for bits in (8, 6, 4, 2):
        widths = {s.name: np.full(len(s.weight), bits, np.int8) for s in calibration.lowered.convs}
        qgraph = quantize(graph, BitAllocation(widths, sizes), calibration)
        errors[bits] = logit_error(graph, qgraph, images)
        scale = next(n for n in qgraph.nodes if n.name == "c2").weight_scale  # type: ignore[union-attr]
        assert np.abs(scale).max() <= calibration.largest_scale(step) * 1.05
    assert errors[8] < 0.03 and errors[8] < errors[6] < errors[4] < errors[2]
