"""A calibration as the journal keeps it."""

from __future__ import annotations

import pickle

import torch

from bitloom.quantize.observe import calibrate
from flow.journeys import digits_graph


def test_a_saved_calibration_holds_its_own_images_alone() -> None:
    """Not the storage that they are a slice of: views of pictures beside them."""
    graph = digits_graph()
    every = torch.randn(400, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    calibration = calibrate(graph, every[:20])
    saved = pickle.dumps(calibration)
    assert len(saved) < len(pickle.dumps(calibrate(graph, every[:20].clone()))) + 1000
    loaded = pickle.loads(saved)
    assert loaded.images.equal(every[:20]) and loaded.activations == calibration.activations
