"""What ONNX operators that work on every value alone mean: clamps, sums, constants a channel, the last softmax."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bitloom.frontends.advice import explain
from bitloom.frontends.draft import Affine, Probabilities
from bitloom.frontends.onnx_reader import Reader, behind
from bitloom.graph.fold import Float64Array
from bitloom.graph.ir import Add, Relu


def _clip(r: Reader) -> str:
    if (r.given(1) and r.constant(1) is None) or (r.given(2) and r.constant(2) is None):
        return r.unsupported("its limits are computed from the image", "use constant limits")
    low = r.scalar(1) if r.given(1) else float(r.attribute("min", -np.inf))
    high = r.scalar(2) if r.given(2) else float(r.attribute("max", np.inf))
    if low is None or high is None:
        return r.unsupported("has limits of more than one value", "use the same limits for all channels")
    return _clamp(r, low, high)


def _clamp(r: Reader, low: float, high: float) -> str:
    """A clamp of the one tensor: from 0, or of what a ReLU has clamped from 0 already."""
    high = np.inf if high > 3e38 else high
    if high <= 0 or low > 0 or (low < 0 and not r.draft.is_relu(r.names[0])):
        return r.unsupported(f"clamps to {low:g}..{high:g}", "use ReLU or a clamp from 0 to a positive limit")
    return r.draft.clamp(r.name, r.names[0], None if high == np.inf else high)


def _max(r: Reader) -> str:
    low = _other_scalar(r)
    if low != 0:
        return r.unsupported("takes the larger of two values", "only max(x, 0), a ReLU, can be expressed")
    return _clamp(r, low, np.inf)


def _min(r: Reader) -> str:
    high = _other_scalar(r)
    if high is None or not r.draft.is_relu(r.names[0]):
        return r.unsupported("takes the smaller of two values", "only min(relu(x), limit), a ReLU6, can be expressed")
    return _clamp(r, 0.0, high)


def _other_scalar(r: Reader) -> float | None:
    """The one constant value beside one tensor; None where it is something else."""
    if len(r.names) != 1 or len(r.node.input) != 2:
        return None
    return r.scalar(0 if r.constant(0) is not None else 1)


def _add(r: Reader) -> str:
    if len(r.node.input) != 2:
        return r.unsupported(f"adds {len(r.node.input)} tensors", "add two at a time")
    if len(r.names) == 2:
        shapes = [r.draft.shapes[x] for x in r.names]
        if None not in shapes and shapes[0] != shapes[1]:
            return r.unsupported(f"broadcasts {shapes[0]} and {shapes[1]}", "add equal shapes")
        return r.add(Add())
    return _affine(r, lambda c: (np.ones_like(c), c), "adds", "add one value per channel, as a bias")


def _affine(r: Reader, of: Callable[[Float64Array], tuple[Float64Array, Float64Array]], verb: str, advice: str) -> str:
    """A constant per channel beside one tensor; `of` makes scale and shift of it."""
    value, shape = r.weight(0 if r.constant(0) is not None else 1, "constant"), r.shape
    if value is None or shape is None:
        return behind(r)
    full = (1,) * (1 + len(shape) - value.ndim) + value.shape
    if full not in ((1, shape[0], *[1] * (len(shape) - 1)), (1,) * (1 + len(shape))):
        return r.unsupported(f"{verb} a constant of shape {value.shape}", advice)
    return r.add(Affine(*of(np.broadcast_to(value.astype(np.float64).reshape(-1), (shape[0],)).copy())))


def _mul(r: Reader) -> str:
    if len(r.names) != 1 or len(r.node.input) != 2:
        return r.unsupported(*explain("mul"))
    return _affine(r, lambda c: (c, np.zeros_like(c)), "multiplies by", "multiply by one value per channel")


def _div(r: Reader) -> str:
    divisor = r.constant(1)
    if divisor is None or len(r.names) != 1:
        return r.unsupported(*explain("div"))
    if not np.all(divisor):
        return r.unsupported("divides by zero", "export the model again")
    return _affine(r, lambda c: (1 / c, np.zeros_like(c)), "divides by", "divide by one value per channel")


def _sub(r: Reader) -> str:
    if len(r.names) != 1:
        return r.unsupported(*explain("sub"))
    sign = 1.0 if r.constant(1) is not None else -1.0
    return _affine(r, lambda c: (np.full_like(c, sign), -sign * c), "subtracts", "subtract one value per channel")


def _neg(r: Reader) -> str:
    shape = r.shape
    return behind(r) if shape is None else r.add(Affine(-np.ones(shape[0]), np.zeros(shape[0])))


def _softmax(r: Reader) -> str:
    shape = r.shape
    if shape is None:
        return behind(r)
    if len(shape) != 1 or int(r.attribute("axis", -1)) % 2 != 1:
        return r.unsupported(*explain(r.node.op_type))
    return r.add(Probabilities(r.node.op_type))


POINTWISE: dict[str, Callable[[Reader], str]] = {
    "Relu": lambda r: r.add(Relu()),
    "Clip": _clip,
    "Max": _max,
    "Min": _min,
    "Add": _add,
    "Sum": _add,
    "Mul": _mul,
    "Div": _div,
    "Sub": _sub,
    "Neg": _neg,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
}
