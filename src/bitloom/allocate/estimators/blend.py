"""Fisher information drawn towards the gradient share: fewer assumptions where the data suffice, less noise where not.

The share assumes that a channel's error and gradient are independent; the Fisher information does not, but has a noise
in every cell. Their weighted geometric mean is the posterior mode of a lognormal prior and a lognormal likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.allocate.estimators.fisher import ChannelFisher
from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.probe import Probe


@dataclass(frozen=True)
class FisherBlend:
    """weight: of the Fisher information, 0 to 1; the prior is the share."""

    weight: float = 0.5
    fisher: ChannelFisher = field(default_factory=ChannelFisher)
    prior: GradientShare = field(default_factory=GradientShare)

    def passes(self, layers: int) -> int:
        """Those of both."""
        return self.fisher.passes(layers) + self.prior.passes(layers)

    def costs(self, probe: Probe, images: Tensor) -> dict[str, npt.NDArray[np.float64]]:
        """share^(1 - weight) * fisher^weight; the estimates have the same unit (nats), so no scale is fitted."""
        prior = self.prior.costs(probe, images)
        fisher = self.fisher.costs(probe, images)
        return {n: np.asarray(prior[n] ** (1 - self.weight) * fisher[n] ** self.weight) for n in prior}
