"""Rounded weights and sensitivities of the networks with real weights, made once for the benchmarks of cycles."""

from __future__ import annotations

from dataclasses import dataclass

import journey

from bitloom import zoo
from bitloom.allocate.hbp import LayerCosts, binary_only_in
from bitloom.allocate.sensitivity import layer_costs
from bitloom.data.images import Preprocess, load_images
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import WIDTHS
from bitloom.graph.ir import Graph
from bitloom.journal import Journal
from bitloom.program.binary import binary_layers
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.rounding import RoundedLayer
from bitloom.quantize.tables import round_network
from bitloom.target.arch import named_arch

WEIGHTS = {"resnet18": "resnet18_hybrid.npz", "resnet50": "resnet50_pqf.npz"}
DATA = journey.DATA / "imagenet"
CALIBRATION = 150  #: images, a third of them held out for the sensitivities


@dataclass(frozen=True, eq=False)
class Real:
    """A float graph, what its calibration images said, its weights at every width and what each costs.

    1 bit is only in layers that may have it on the full build.
    """

    graph: Graph
    calibration: Calibration
    rounded: dict[str, RoundedLayer]
    costs: dict[str, LayerCosts]

    @property
    def weights(self) -> int:
        return sum(layer.weights * len(layer.cost) for layer in self.costs.values())


def real_costs(name: str) -> Real:
    """Of a network of `WEIGHTS`; every step is kept in out/costs."""
    info = zoo.info(name)
    graph = load_model(name, str(DATA / "weights" / WEIGHTS[name]))
    resized = Preprocess(info.image_shape, info.mean, info.std, 256)
    images = load_images(DATA / "calibration", resized, CALIBRATION).images
    journal, split = Journal(journey.ROOT / "out" / "costs" / name), 2 * CALIBRATION // 3
    cal: Calibration = journal.step("calibrate", name, lambda: calibrate(graph, images[:split]))
    rounded: dict[str, RoundedLayer] = journal.step("round", name, lambda: round_network(cal))
    costs: dict[str, LayerCosts] = journal.step("sensitivity", name, lambda: layer_costs(cal, rounded, images[split:]))
    binary = binary_layers(graph, named_arch("full"))
    return Real(graph, cal, rounded, binary_only_in(costs, WIDTHS, binary))
