"""What the allocations of one network share, so that nothing but the allocation differs between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.allocate.estimators.fisher import ChannelFisher
from bitloom.allocate.hbp import LayerCosts, binary_only_in
from bitloom.allocate.probe import Probe
from bitloom.allocate.sensitivity import layer_costs
from bitloom.baselines.hawq import mean_traces
from bitloom.baselines.ompq import orthogonality
from bitloom.graph.allocation import WIDTHS
from bitloom.graph.execute import execute
from bitloom.graph.ir import Graph
from bitloom.journal import Journal
from bitloom.quantize.observe import Calibration
from bitloom.quantize.rounding import RoundedLayer, RoundingOptions
from bitloom.quantize.statistics import StatisticsOptions
from bitloom.quantize.tables import round_network


@dataclass(frozen=True, eq=False)
class Lineup:
    """One network, rounded by one measure of errors.

    binary: layers that may have 1 bit on the build. tables: rounded rows by rounding; costs: shared by HBP and the
    baselines with our sensitivities; samples, seen: of the rounding; measuring, choice: images (N, C, H, W) that the
    rounding has not seen, those of the costs and those that choose; journal and key: where the baselines' measurements
    are kept.
    """

    graph: Graph
    calibration: Calibration
    binary: frozenset[str]
    tables: Mapping[str, Mapping[str, RoundedLayer]]
    costs: Mapping[str, LayerCosts]
    samples: StatisticsOptions
    measuring: Tensor
    choice: Tensor
    seen: Callable[[], Tensor]
    journal: Journal
    key: str

    @property
    def measure(self) -> str:
        """Of rounding errors in the table `gptq`, as in `candidates.py`."""
        return "coherent" if self.samples.coherent else "plain"

    def table(self, rounding: str) -> Mapping[str, RoundedLayer]:
        """Rounded rows: gptq, nearest, or plain: GPTQ as published, symmetric codes without search or descent."""
        if rounding != "plain":
            return self.tables[rounding]
        options, samples = RoundingOptions(search=False, sweeps=0, turned=False), replace(self.samples, coherent=0)
        work = lambda: round_network(self.calibration, rounding=options, statistics=samples, images=self.seen())  # noqa: E731
        return self.journal.step("plain", self.key, work)

    def naive(self) -> dict[str, LayerCosts]:
        """Fisher information of every channel and width at temperature 1, on images that the rounding has seen."""
        images = self.calibration.images[: max(320, len(self.measuring))]
        estimator = ChannelFisher(temperature=1.0, together=2)
        table = self.tables["gptq"]
        work = lambda: layer_costs(self.calibration, table, images, estimator)  # noqa: E731
        return binary_only_in(self.journal.step("naive", self.key, work), WIDTHS, self.binary)

    def traces(self) -> dict[str, float]:
        """HAWQ's mean Hessian traces; the float network's own top-1 stands for labels, which these images lack."""
        images = self.measuring[:32] if self.measuring.shape[2] > 64 else self.measuring[:256]
        labels = execute(self.graph, images)[self.graph.output].flatten(1).argmax(1).numpy()
        probe = Probe(self.calibration, self.tables["gptq"])
        return self.journal.step("traces", self.key, lambda: mean_traces(probe, images, labels, draws=2))

    def orm(self) -> npt.NDArray[np.float64]:
        """OMPQ's orthogonality of layers."""
        probe = Probe(self.calibration, self.tables["gptq"])
        return self.journal.step("orm", self.key, lambda: orthogonality(probe, self.measuring[:64]))

    @property
    def channels(self) -> dict[str, int]:
        """Output channels by layer."""
        return {name: len(layer.cost) for name, layer in self.costs.items()}

    @property
    def weights(self) -> dict[str, int]:
        """Weights of one output channel by layer."""
        return {name: layer.weights for name, layer in self.costs.items()}

    @property
    def total(self) -> int:
        """Weights of the network."""
        return sum(self.channels[n] * self.weights[n] for n in self.costs)
