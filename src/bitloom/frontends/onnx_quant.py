"""Networks that were trained with fake quantization: QONNX's Quant nodes (as Brevitas exports them) and QDQ pairs.

A quantizer of constants is computed, so that the weights are those the network was trained to. A quantizer of
activations leaves what it clips: an unsigned one without zero point is a ReLU up to its largest value. Its rounding is
left out, since activations get 8 bits here, calibrated for each tensor; a remark says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto

from bitloom.errors import GraphError
from bitloom.frontends.findings import Finding, Severity
from bitloom.frontends.onnx_reader import Array, Reader

Floats = npt.NDArray[np.float64]

_DOMAINS = ("qonnx.custom_op.general", "finn.custom_op.general", "onnx.brevitas")

_ROUNDING: dict[str, Callable[[Floats], Floats]] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "CEIL": np.ceil,
    "FLOOR": np.floor,
    "UP": lambda x: np.sign(x) * np.ceil(np.abs(x)),
    "DOWN": np.trunc,
    "HALF_UP": lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5),
    "HALF_DOWN": lambda x: np.sign(x) * np.ceil(np.abs(x) - 0.5),
}


def is_qonnx(node: NodeProto) -> bool:
    """Whether a node is one of QONNX's operators."""
    return node.domain in _DOMAINS


def quantized_constant(node: NodeProto, name: str, constants: dict[str, Array]) -> npt.NDArray[np.float32]:
    """What a Quant or BipolarQuant node makes of constants. GraphError, by `name`, where it cannot be computed."""
    try:
        values = [constants[x].astype(np.float64) for x in node.input]
        if node.op_type == "BipolarQuant" and len(values) == 2:
            return np.where(values[0] >= 0, values[1], -values[1]).astype(np.float32)
        if node.op_type in ("Quant", "IntQuant") and len(values) == 4:
            return _quantized(name, values, _settings(node, name)).astype(np.float32)
    except ValueError as error:  # shapes that numpy does not broadcast
        raise GraphError(f"'{name}' ({node.op_type}) cannot be computed: {error}; export the model again") from error
    raise GraphError(
        f"'{name}' ({node.op_type} with {len(node.input)} inputs) quantizes constants; only Quant of value, scale, "
        "zero point and bits, and BipolarQuant of value and scale, can be read; export weights with one of them"
    )


@dataclass(frozen=True)
class _Settings:
    """Attributes of a Quant node."""

    mode: str
    signed: bool
    narrow: bool


def _settings(node: NodeProto, name: str) -> _Settings:
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    text = given.get("rounding_mode", b"ROUND")
    mode = (text.decode() if isinstance(text, bytes) else str(text)).upper()
    if mode not in _ROUNDING:
        raise GraphError(f"'{name}' ({node.op_type}): rounding_mode '{mode}'; legal: {', '.join(_ROUNDING)}")
    flags = {key: int(given.get(key, 1 if key == "signed" else 0)) for key in ("signed", "narrow")}
    for key, value in flags.items():
        if value not in (0, 1):
            raise GraphError(f"'{name}' ({node.op_type}): {key} = {value}; must be 0 or 1")
    return _Settings(mode, bool(flags["signed"]), bool(flags["narrow"]))


def _quantized(name: str, values: list[Floats], settings: _Settings) -> Floats:
    x, scale, zero, bits = values
    low, high = _range(name, scale, bits, settings)
    codes = x / scale + zero
    rounded = _ROUNDING[settings.mode](np.clip(codes, low, high))
    if settings.signed:
        rounded = np.where(bits == 1, np.where(codes >= 0, 1.0, -1.0), rounded)
    result: Floats = (rounded - zero) * scale
    if result.shape != x.shape:
        raise ValueError(f"scale, zero point or bits make {result.shape} of {x.shape}")
    return result


def _range(name: str, scale: Floats, bits: Floats, settings: _Settings) -> tuple[Floats, Floats]:
    """Smallest and largest code; GraphError on a scale or width that is no scale or width."""
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        raise GraphError(f"'{name}' has the scale {float(np.min(scale)):g}, must be positive; export the model again")
    if np.any(bits != np.floor(bits)) or np.any(bits < 1):
        raise GraphError(f"'{name}' quantizes to {float(np.min(bits)):g} bits, must be a whole number from 1")
    half = 2.0 ** (bits - 1)
    return (-half + settings.narrow, half - 1) if settings.signed else (0.0 * bits, 2 * half - 1 - settings.narrow)


def _quant(r: Reader) -> str:
    settings, constants = _settings(r.node, r.name), [r.constant(i) for i in (1, 2, 3)]
    if any(value is None for value in constants):
        return r.unsupported("has scale, zero point or bits that are not constant", "export constants")
    scale, zero, bits = (np.asarray(value, np.float64) for value in constants)
    _, high = _range(r.name, scale, bits, settings)
    if settings.signed and np.any(bits == 1):
        return _bipolar(r)
    r.draft.rounded.append((r.name, float(bits.min())))
    return r.names[0] if settings.signed or np.any(zero) else _unsigned(r, (scale * high).reshape(-1))


def _unsigned(r: Reader, largest: Floats) -> str:
    """Clipped from 0 to one limit; where every channel has its own, from 0 alone."""
    limit = float(largest[0]) if np.all(largest == largest[0]) else None
    return r.draft.clamp(r.name, r.names[0], limit)


def _bipolar(r: Reader) -> str:
    return r.unsupported("rounds activations to -1 and 1, their sign", "quantize activations to 2 bits or more")


def _trunc(r: Reader) -> str:
    bits = r.scalar(len(r.node.input) - 1)
    r.draft.rounded.append((r.name, 8.0 if bits is None else bits))
    return r.names[0]


def _quantize_linear(r: Reader) -> str:
    scale, zero = r.constant(1), r.constant(2) if r.given(2) else np.zeros(1, np.uint8)
    if scale is None or zero is None:
        return r.unsupported("has a scale or zero point that is not constant", "export constants")
    if zero.dtype not in (np.uint8, np.int8, np.uint16, np.int16, np.int32):
        return r.unsupported(f"quantizes to {zero.dtype}", "quantize activations to 8-bit integers")
    info = np.iinfo(zero.dtype)
    r.draft.rounded.append((r.name, float(info.bits)))
    if np.all(zero.astype(np.int64) == info.min):
        return _unsigned(r, scale.astype(np.float64).reshape(-1) * (info.max - info.min))
    return r.names[0]


def rounding_remark(rounded: list[tuple[str, float]]) -> list[Finding]:
    """One remark for the quantizers of activations, given by name and bits; none where there are none."""
    if not rounded:
        return []
    name, bits = min(rounded, key=lambda one: one[1])
    reason = (
        f"{len(rounded)} quantizer{'s' if len(rounded) > 1 else ''} of activations, this one the narrowest with "
        f"{bits:g} bits: what they clip to below 0 and above a limit is kept, their rounding is not"
    )
    return [Finding(Severity.WARNING, name, "quantizer", reason, "activations get 8 bits here, calibrated on images")]


QUANTIZERS: dict[str, Callable[[Reader], str]] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar,
    "Trunc": _trunc,
}

QDQ: dict[str, Callable[[Reader], str]] = {
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": lambda r: r.names[0],
}
