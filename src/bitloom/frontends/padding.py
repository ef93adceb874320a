"""Paddings in the one order of the graph: top, bottom, left, right."""

from __future__ import annotations

from bitloom.graph.ir import Pads


def window_pads(padding: tuple[int, int]) -> Pads:
    """(rows, columns) on both sides."""
    return (padding[0], padding[0], padding[1], padding[1])


def same_pads(kernel: tuple[int, int], upper: bool = True) -> Pads:
    """Padding that keeps the size at stride 1; the odd pixel goes to the end (upper) or to the beginning."""
    return strided_same_pads((1, 1), kernel, (1, 1), upper)


def strided_same_pads(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], upper: bool = True
) -> Pads:
    """Padding with which ceil(size / stride) windows fit, as ONNX's SAME_UPPER and SAME_LOWER."""
    pads: list[int] = []
    for n, k, s in zip(size, kernel, stride, strict=True):
        total = max(0, (-(-n // s) - 1) * s + k - n)
        small = total // 2
        pads += [small, total - small] if upper else [total - small, small]
    return (pads[0], pads[1], pads[2], pads[3])
