"""True divergence of groups of channels, drawn towards the gradient's estimate by empirical Bayes.

Channels of a layer are ordered by the prior (gradient share) and cut into groups of equal size; each group is
rounded alone at each measured width. The ratio of truth to prior is lognormal around its layer, with a spread between
groups that is estimated from all groups after the noise of each (from two halves of the images) is taken off; a group
moves from the layer's ratio towards its own by the share of the spread that is not noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.allocate.estimators.gradient import GradientShare
from bitloom.allocate.estimators.truth import Alone
from bitloom.allocate.probe import Probe

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GroupTruth:
    """groups: of a layer; measured: widths; images: how many serve the measurement, in two halves."""

    groups: int = 4
    measured: tuple[int, ...] = (0, 1, 2, 4)
    images: int = 32
    batch: int = 16
    temperature: float = 2.0
    prior: GradientShare = field(default_factory=GradientShare)

    def passes(self, layers: int) -> int:
        """One pass a layer, group and width (over `images` of them), and the prior's."""
        return self.prior.passes(layers) + layers * self.groups * len(self.measured)

    def costs(self, probe: Probe, images: Tensor) -> dict[str, FloatArray]:
        """(Cout, widths) of every layer."""
        prior = self.prior.costs(probe, images)
        probe.place(None)
        probe.correct()
        half = max(1, min(self.images, len(images)) // 2)
        halves = [Alone(probe, part, self.batch, self.temperature) for part in (images[:half], images[half : 2 * half])]
        members = {name: cut(cost, self.groups) for name, cost in prior.items()}
        result = {name: cost.copy() for name, cost in prior.items()}
        for width in self.measured:
            column = probe.widths.index(width)
            logs: dict[str, FloatArray] = {}
            for name, group in members.items():
                bits = np.full(len(group), width, np.int8)
                expected = np.bincount(group, prior[name][:, column], int(group.max()) + 1)
                found = np.array([[half.of(name, bits, group == i) for i in range(len(expected))] for half in halves])
                floor = 1e-3 * max(float(found.mean()), 1e-12)
                logs[name] = np.log(np.maximum(found, floor)) - np.log(
                    np.maximum(expected, 1e-12 + 1e-3 * expected.mean())
                )
            for name, factor in ratios(logs).items():
                near = [i for i, b in enumerate(probe.widths) if _nearest(b, self.measured) == width]
                result[name][:, near] = prior[name][:, near] * factor[members[name]][:, None]
        return result


def cut(cost: FloatArray, groups: int) -> npt.NDArray[np.int64]:
    """Group of every channel (Cout,): in the order of the geometric mean of its costs, equal counts."""
    channels = len(cost)
    rank = np.empty(channels, np.int64)
    rank[np.argsort(np.log(cost + 1e-300).sum(axis=1), kind="stable")] = np.arange(channels)
    return rank * min(groups, channels) // channels


def ratios(logs: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """logs: log(truth/prior) of two halves, (2, groups), by layer. The factor of every group, (groups,).

    Random effects in two levels: group within layer, layer within network; each mean is drawn to the level above by
    spread / (spread + noise).
    """
    means = {name: values.mean(axis=0) for name, values in logs.items()}
    noise = float(np.mean(np.concatenate([(v[0] - v[1]) ** 2 / 4 for v in logs.values()])))
    within = float(np.mean([m.var(ddof=1) if len(m) > 1 else 0.0 for m in means.values()]))
    spread = max(within - noise, 0.0)
    trust = spread / (spread + noise) if spread + noise > 0 else 1.0
    centres = np.array([m.mean() for m in means.values()])
    total = float(centres.mean())
    noise_layer = float(np.mean([(spread + noise) / len(m) for m in means.values()]))
    spread_layer = max(float(centres.var()) - noise_layer, 0.0)
    trust_layer = spread_layer / (spread_layer + noise_layer) if spread_layer + noise_layer > 0 else 1.0
    answer = {}
    for (name, mean), centre in zip(means.items(), centres, strict=True):
        level = total + trust_layer * (centre - total)
        answer[name] = np.asarray(np.exp(level + trust * (mean - centre)))
    return answer


def _nearest(bits: int, measured: tuple[int, ...]) -> int:
    return min(measured, key=lambda m: abs(m - bits))
