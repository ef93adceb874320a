"""What ATen operations that work on every value alone mean: clamps, sums, constants a channel, the last softmax."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, fx

from bitloom.frontends.advice import explain
from bitloom.frontends.draft import Affine, Probabilities
from bitloom.frontends.torch_reader import Reader
from bitloom.graph.fold import Float64Array
from bitloom.graph.ir import Add, Relu, Shape
from bitloom.graph.verify import check_finite


def _relu(r: Reader) -> str:
    return r.add(Relu(6.0 if r.kind == "relu6" else None), r.tensor("self"))


def _clamp(r: Reader) -> str:
    names = {
        "hardtanh": ("min_val", "max_val"), "clamp": ("min", "max"), "clamp_min": ("min", ""), "clamp_max": ("", "max"),
    }[r.kind]  # fmt: skip
    low, high = (r.arg(name) if name else None for name in names)
    tensor = str(r.tensor("self"))
    behind_relu = r.draft.is_relu(tensor)
    if low is None and behind_relu:
        low = 0
    if low is None or isinstance(low, fx.Node) or isinstance(high, fx.Node):
        return r.unsupported(f"clamps to {low}..{high}", "use ReLU or a clamp from 0 to a positive limit")
    if low > 0 or (low < 0 and not behind_relu) or (high is not None and high <= 0):
        return r.unsupported(f"clamps to {low}..{high}", "use ReLU or a clamp from 0 to a positive limit")
    return r.draft.clamp(r.name, tensor, None if high is None or high == float("inf") else float(high))


def _threshold(r: Reader) -> str:
    if r.arg("threshold") != 0 or r.arg("value") != 0:
        return r.unsupported(f"replaces values up to {r.arg('threshold')} by {r.arg('value')}", "use ReLU")
    return r.add(Relu(), r.tensor("self"))


def _maximum(r: Reader) -> str:
    x, y = r.tensor("self"), r.tensor("other")
    name, constant = (x, y) if isinstance(x, str) else (y, x)
    if not isinstance(constant, Tensor) or bool(constant.any()):
        return r.unsupported("takes the larger of two values", "only max(x, 0), a ReLU, can be expressed")
    return r.add(Relu(), name)


def _add(r: Reader) -> str:
    if r.arg("alpha") != 1:
        return r.unsupported(
            f"scales the second input by alpha = {r.arg('alpha')}", "fold the factor into a convolution"
        )
    x, y, other = r.tensor("self"), r.tensor("other"), r.arg("other")
    if isinstance(x, str) and isinstance(y, str):
        if r.shape(r.arg("self")) != r.shape(other):
            return r.unsupported(f"broadcasts {r.shape(r.arg('self'))} and {r.shape(other)}", "add equal shapes")
        return r.add(Add(), x, y)
    return _affine(r, lambda c: (np.ones_like(c), c), "adds", "add one value per channel, as a bias")


def _affine(r: Reader, of: Callable[[Float64Array], tuple[Float64Array, Float64Array]], verb: str, advice: str) -> str:
    """A constant, or one value a channel of it, beside one tensor; `of` makes scale and shift of it."""
    x, y, other = r.tensor("self"), r.tensor("other"), r.arg("other")
    name, number = (x, y) if isinstance(x, str) else (y, x)
    constant = number if isinstance(number, Tensor) else torch.tensor(float(other))
    shape = r.shape(r.node)
    channels = shape[1]
    same = r.draft.shapes[str(name)] in (None, shape[1:])
    if not same or (constant.numel() > 1 and (constant.numel() != channels or not _per_channel(constant, shape))):
        return r.unsupported(f"{verb} a constant of shape {tuple(constant.shape)}", advice)
    values = np.broadcast_to(constant.double().numpy().reshape(-1), (channels,)).copy()
    check_finite(r.name, "constant", values)
    return r.add(Affine(*of(values)), name)


def _two_tensors(r: Reader) -> bool:
    return isinstance(r.tensor("self"), str) and isinstance(r.tensor("other"), str)


def _mul(r: Reader) -> str:
    if _two_tensors(r):
        return r.unsupported(*explain("mul"))
    return _affine(r, lambda c: (c, np.zeros_like(c)), "multiplies by", "multiply by one value per channel")


def _div(r: Reader) -> str:
    divisor = r.tensor("other") if isinstance(r.arg("other"), fx.Node) else torch.tensor(float(r.arg("other")))
    if not isinstance(divisor, Tensor):
        return r.unsupported(*explain("div"))
    if not bool(divisor.all()):
        return r.unsupported("divides by zero", "divide by one value other than 0 per channel")
    return _affine(r, lambda c: (1 / c, np.zeros_like(c)), "divides by", "divide by one value per channel")


def _sub(r: Reader) -> str:
    if _two_tensors(r) or r.arg("alpha") != 1:
        return r.unsupported(*explain("sub"))
    sign = 1.0 if isinstance(r.tensor("self"), str) else -1.0
    sign = -sign if r.kind == "rsub" else sign
    return _affine(r, lambda c: (np.full_like(c, sign), -sign * c), "subtracts", "subtract one value per channel")


def _neg(r: Reader) -> str:
    channels = r.shape(r.node)[1]
    return r.add(Affine(-np.ones(channels), np.zeros(channels)), r.tensor("self"))


def _softmax(r: Reader) -> str:
    shape = r.shape(r.node)
    if len(shape) != 2 or int(r.arg("dim")) % 2 != 1:
        return r.unsupported(*explain("softmax"))
    return r.add(Probabilities(r.kind), r.tensor("self"))


def _per_channel(constant: Tensor, shape: Shape) -> bool:
    full = (1,) * (len(shape) - constant.dim()) + tuple(constant.shape)
    return len(full) == len(shape) and full[1] == shape[1]


POINTWISE: dict[str, Callable[[Reader], str]] = {
    **dict.fromkeys(("relu", "relu6"), _relu),
    **dict.fromkeys(("hardtanh", "clamp", "clamp_min", "clamp_max"), _clamp),
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), _softmax),
    **dict.fromkeys(("sub", "rsub"), _sub),
    "threshold": _threshold,
    "maximum": _maximum,
    "add": _add,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
}
