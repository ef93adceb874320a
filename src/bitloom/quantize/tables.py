"""Rounded rows of a whole network at every width: the tables from which allocations pick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.allocation import WIDTHS
from bitloom.quantize.observe import Calibration
from bitloom.quantize.rounding import RoundedLayer, Rounding, RoundingOptions, round_layer
from bitloom.quantize.statistics import StatisticsOptions, layer_statistics


def round_network(
    calibration: Calibration,
    method: Rounding = Rounding.GPTQ,
    widths: tuple[int, ...] = WIDTHS,
    statistics: StatisticsOptions | None = None,
    rounding: RoundingOptions | None = None,
    images: Tensor | None = None,
) -> dict[str, RoundedLayer]:
    """Every layer rounded at every width, by layer name: the table from which allocations pick rows.

    images: whose inputs count, as in `layer_statistics`; several views of each picture are worth their time.
    Memory: one int8 copy of the weights per width, beside the pass of `layer_statistics`. Raises DataError, naming the
    layer, where squares of its inputs overflow.
    """
    steps = {s.name: s for s in calibration.lowered.convs}
    result = {}
    for stats in layer_statistics(calibration, statistics, images):
        if not (np.isfinite(stats.felt).all() and np.isfinite(stats.covariance).all()):
            raise DataError(
                f"'{stats.name}': its inputs, {float(np.abs(stats.mean).max()):.1e} in the mean of a channel, are so "
                "large that their squares overflow; scale down the images, or the weights of the layers before it"
            )
        step = steps[stats.name]
        flat = step.weight.reshape(len(step.weight), -1)
        options = replace(rounding or RoundingOptions(), largest=calibration.largest_scale(step))
        result[stats.name] = round_layer(flat, stats.felt, widths, method, options, stats.covariance)
    return result


def nearest_table(calibration: Calibration, widths: tuple[int, ...] = WIDTHS) -> dict[str, RoundedLayer]:
    """Every layer rounded to nearest, by layer name."""
    table = {}
    for step in calibration.lowered.convs:
        options = RoundingOptions(largest=calibration.largest_scale(step))
        table[step.name] = round_layer(step.weight.reshape(len(step.weight), -1), None, widths, options=options)
    return table
