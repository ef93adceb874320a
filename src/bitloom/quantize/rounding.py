"""Weight rounding of one layer at every width at once: nearest or GPTQ, per-row scales, and the error of every choice.

GPTQ is run at more than one scale where few levels make the scale matter, and its codes are then improved by coordinate
descent; both lower the output error on images that the rounding has not seen too (docs/quantization.md).

Rows (output channels) are independent, so any allocation is a pick of rows. The measure is the output error
(w - v) C (w - v)^T, C the covariance of the layer's inputs: bias correction removes the constant part of the error.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitloom.errors import WeightsError
from bitloom.graph.allocation import WIDTHS
from bitloom.graph.qgraph import Int8Array
from bitloom.quantize.code_range import CodeRange, code_range
from bitloom.quantize.descent import descend
from bitloom.quantize.gptq import Feedback, feedback, gptq_codes
from bitloom.quantize.row_scale import code_scale, gain_scale, output_error, weight_scale

PIECE = 1 << 24  #: weights that are rounded at once where rows share no factor: bounds the memory of very wide layers
#: GPTQ is tried at these multiples of the nearest rounding's best scale: error feedback wants larger steps.
SCALE_SEARCH = {
    1: (0.7, 0.85, 1.15, 1.35, 1.6, 1.9),
    2: (0.85, 1.15, 1.35, 1.6),
    3: (0.9, 1.12, 1.25, 1.4),
    4: (0.9, 1.1, 1.2),
}


class Rounding(Enum):
    """How weights are rounded: each to its nearest code, or in sequence with error feedback (GPTQ).

    To nearest only symmetric codes are used: clipping one end of a row sooner than the other shifts its mean, and
    nothing corrects that.
    """

    NEAREST = "nearest"
    GPTQ = "gptq"


@dataclass(frozen=True)
class RoundingOptions:
    """candidates: clipping factors tried per row; damping: of the covariance, relative to its mean diagonal.

    block: columns updated lazily together; act_order: round inputs of large variance first. search: try further scales
    at 1 to 4 bits. sweeps: of coordinate descent, at widths up to `descent_width`. turned: rows are turned to use all
    codes of 2 to 4 bits; else codes are symmetric. largest: scale of a row, as the layer's multipliers can hold it
    (`Calibration.largest_scale`); a row that wants more is clipped.
    """

    candidates: int = 24
    damping: float = 0.01
    block: int = 128
    act_order: bool = True
    search: bool = True
    sweeps: int = 4
    descent_width: int = 5
    turned: bool = True
    largest: float = float("inf")


@dataclass(frozen=True, eq=False)
class RoundedLayer:
    """codes[b] int8 (Cout, K) within `code_range`; scale[b] float64 (Cout,), below 0 where a
    row is turned; error float64 (Cout, len(widths))."""

    widths: tuple[int, ...]
    codes: dict[int, Int8Array]
    scale: dict[int, npt.NDArray[np.float64]]
    error: npt.NDArray[np.float64]

    def pick(self, bits: Int8Array) -> tuple[Int8Array, npt.NDArray[np.float64]]:
        """codes (Cout, K) and scale (Cout,) of one allocation; bits (Cout,) must be among `widths`."""
        missing = sorted(set(bits.tolist()) - set(self.widths))
        if missing:
            raise WeightsError(f"width {missing[0]} was not rounded; have {self.widths}")
        first = self.codes[self.widths[0]]
        codes, scale = np.empty_like(first), np.empty(first.shape[0], dtype=np.float64)
        for b in set(bits.tolist()):
            codes[bits == b], scale[bits == b] = self.codes[b][bits == b], self.scale[b][bits == b]
        return codes, scale


def round_layer(
    weight: npt.NDArray[np.float32],
    covariance: npt.NDArray[np.float32] | None,
    widths: tuple[int, ...] = WIDTHS,
    method: Rounding = Rounding.NEAREST,
    options: RoundingOptions | None = None,
    signal: npt.NDArray[np.float32] | None = None,
) -> RoundedLayer:
    """Rounds weight (Cout, K) to every width.

    covariance: (K, K), or its diagonal (K,), or None (identity): the measure of errors. GPTQ needs (K, K); with less it
    rounds to nearest. (groups, K, K): one for each group of Cout / groups rows in turn. signal: of the same shape, the
    measure of a row's gain where it is another one.
    Raises WeightsError on NaN or infinite weights or covariance.
    """
    opts = options or RoundingOptions()
    if not np.isfinite(weight).all():
        raise WeightsError(f"weights of shape {weight.shape} hold NaN or infinite values")
    if covariance is not None and not np.isfinite(covariance).all():
        raise WeightsError(f"covariance of shape {covariance.shape} holds NaN or infinite values; check the images")
    rows, inputs = weight.shape
    piece = max(1, PIECE // inputs)
    if rows > piece and (covariance is None or covariance.ndim == 1):
        starts = range(0, rows, piece)
        return _stacked(
            [round_layer(weight[at : at + piece], covariance, widths, method, opts, signal) for at in starts]
        )
    full = torch.from_numpy(np.ascontiguousarray(weight, dtype=np.float32))
    measure = np.ones(inputs) if covariance is None else covariance
    cov = torch.from_numpy(np.ascontiguousarray(measure, dtype=np.float32))
    own = cov if signal is None else torch.from_numpy(np.ascontiguousarray(signal, dtype=np.float32))
    if cov.dim() == 3:
        full = full.reshape(len(cov), -1, inputs)
    live, count = tuple(b for b in widths if b), full.shape[-2]
    each = torch.tensor(live).repeat_interleave(count)
    given = (full.repeat(*[1] * (full.dim() - 2), len(live), 1), cov, each, method, opts, own)
    codes, scale = _round_groups(*given) if cov.dim() == 3 else _round(*given)
    result_codes = {b: np.zeros((rows, inputs), dtype=np.int8) for b in widths if b == 0}
    result_scale = {b: np.ones(rows) for b in widths if b == 0}
    error = np.empty((rows, len(widths)))
    for i, b in enumerate(widths):
        if b == 0:
            error[:, i] = output_error(full, cov).flatten().numpy()
            continue
        part = slice(live.index(b) * count, (live.index(b) + 1) * count)
        q, s = codes[..., part, :], scale[..., part]
        result_codes[b] = np.asarray(q.reshape(rows, inputs).to(torch.int8).numpy())
        result_scale[b] = s.flatten().double().numpy()
        error[:, i] = output_error(full - q * s[..., None], cov).flatten().numpy()
    return RoundedLayer(tuple(widths), result_codes, result_scale, error)


def _stacked(parts: list[RoundedLayer]) -> RoundedLayer:
    """The rows of all parts below each other."""
    widths = parts[0].widths
    return RoundedLayer(
        widths,
        {b: np.concatenate([p.codes[b] for p in parts]) for b in widths},
        {b: np.concatenate([p.scale[b] for p in parts]) for b in widths},
        np.concatenate([p.error for p in parts]),
    )


def round_rows(
    weight: Tensor, cov: Tensor, bits: Tensor, options: RoundingOptions | None = None
) -> tuple[Tensor, Tensor]:
    """GPTQ with search and descent of rows that have one width each: codes (rows, K) and scale (rows,).

    weight (rows, K), cov (K, K), bits (rows,) integers in 0..8. Scales keep the rows' gain, as in `round_layer`.
    Pruned rows get codes 0 and scale 1; scales are below 0 where a row is turned.
    """
    codes, scale = torch.zeros_like(weight), torch.ones(weight.shape[0])
    live = bits > 0
    opts = options or RoundingOptions()
    codes[live], scale[live] = _round(weight[live], cov, bits[live], Rounding.GPTQ, opts, cov)
    return codes, scale


def _round_groups(
    weight: Tensor, cov: Tensor, bits: Tensor, method: Rounding, opts: RoundingOptions, signal: Tensor
) -> tuple[Tensor, Tensor]:
    """`_round` of every group: weight (groups, rows, K), cov and signal (groups, K, K), bits (rows,) of each group."""
    parts = [feedback(c, opts.damping, opts.act_order, opts.block) for c in cov]

    def one(weight: Tensor, cov: Tensor, signal: Tensor, order: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        return _round(weight, cov, bits, method, opts, signal, Feedback(order, factor, opts.block))

    every = (torch.stack([p.order for p in parts]), torch.stack([p.factor for p in parts]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")  # a loop over groups inside one operation
        result: tuple[Tensor, Tensor] = torch.vmap(one)(weight, cov, signal, *every)
    return result


def _round(
    weight: Tensor,
    cov: Tensor,
    bits: Tensor,
    method: Rounding,
    opts: RoundingOptions,
    signal: Tensor,
    parts: Feedback | None = None,
) -> tuple[Tensor, Tensor]:
    """Codes (rows, K) and scale (rows,) of rows (rows, K) of one width each, none pruned.

    cov, signal: (K, K) or (K,), what errors and what gains are measured by. parts: of cov, where they are known.
    """
    if not len(weight):
        return weight, torch.empty(0)
    importance = (cov if cov.dim() == 1 else cov.diagonal()).clamp(min=0)
    importance = importance + 1e-6 * importance.mean() + 1e-30
    sequential = method is Rounding.GPTQ and cov.dim() == 2
    all_codes = sequential and opts.turned
    turned = _turned(weight, importance, bits) if all_codes else torch.ones(len(weight))
    weight, scale = weight * turned[:, None], torch.empty_like(weight[:, 0])
    for b in sorted(set(bits.tolist())):
        best = weight_scale(weight[bits == b], importance, b, opts.candidates, all_codes)
        scale[bits == b] = best.clamp(max=opts.largest)
    if sequential:
        known = feedback(cov, opts.damping, opts.act_order, opts.block) if parts is None else parts
        codes, scale = _sequential(weight, cov, scale, bits, opts, known)
    else:
        codes = code_range(bits, symmetric=True).columns().nearest(weight / scale[:, None])
    codes = torch.where(weight.any(dim=1, keepdim=True), codes, 0.0)  # a binary row of zeros is pruned
    return codes, turned * gain_scale(weight, codes, signal, scale).clamp(max=opts.largest)


def _turned(weight: Tensor, importance: Tensor, bits: Tensor) -> Tensor:
    """-1 for rows (of (rows, K)) whose heavier tail is above zero, else 1; 1 where codes are symmetric.

    Turned, the tail meets the one code more below zero.

    Without it all rows clip the same side of their weights sooner. Each has a smaller error then, but the errors of
    all rows go with the inputs' common part, and the next layer adds them up: a ResNet-18 at 2 bits gets three times
    the divergence instead of half.
    """
    heavy, legal = (weight**3) @ importance > 0, code_range(bits)
    return torch.where(heavy & (legal.low != -legal.top), -1.0, 1.0)


def _sequential(
    weight: Tensor, cov: Tensor, scale: Tensor, bits: Tensor, opts: RoundingOptions, parts: Feedback
) -> tuple[Tensor, Tensor]:
    """GPTQ, further scales, coordinate descent: codes (rows, K) and the scales (rows,) that they were made for."""
    legal = code_range(bits, symmetric=not opts.turned)
    codes, scale = gptq_codes(weight, scale, legal, parts), scale.clone()
    for width, factors in SCALE_SEARCH.items() if opts.search else ():
        rows = bits == width
        if bool(rows.any()):
            given = (weight[rows], codes[rows], cov, scale[rows], legal[rows])
            codes[rows], scale[rows] = _best_scale(*given, factors, parts, opts.largest)
    rows = bits <= opts.descent_width
    if bool(rows.any()):
        part, q, s = weight[rows], codes[rows], scale[rows]
        for _ in range(opts.sweeps):
            s = code_scale(part, q, cov, s).clamp(max=opts.largest)
            q = descend(part, q, cov, s, legal[rows], opts.damping)
        codes[rows], scale[rows] = q, s
    return codes, scale


def _best_scale(
    weight: Tensor,
    codes: Tensor,
    cov: Tensor,
    scale: Tensor,
    legal: CodeRange,
    factors: tuple[float, ...],
    parts: Feedback,
    largest: float,
) -> tuple[Tensor, Tensor]:
    """Per row the codes and scale of least error among those given and GPTQ at `factors` of the scale."""

    def judge(q: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        fitted = code_scale(weight, q, cov, s).clamp(max=largest)
        return fitted, output_error(weight - q * fitted[:, None], cov)

    best, least = judge(codes, scale)
    for factor in factors:
        tried = (scale * factor).clamp(max=largest)
        q = gptq_codes(weight, tried, legal, parts)
        s, error = judge(q, tried)
        better = error < least
        codes = torch.where(better[:, None], q, codes)
        best, least = torch.where(better, s, best), torch.where(better, error, least)
    return codes, best
