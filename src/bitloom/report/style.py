"""Matplotlib's own settings for the pictures of a report: a user's dark background or fonts do not reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from matplotlib import style

#: Names inside an SVG follow from its content alone: the same facts give the same page.
_OWN = {"svg.hashsalt": "bitloom"}
_DRAWING = RLock()  # settings are the process's: two that lend them at once would give back each other's


@contextmanager
def plain_style() -> Iterator[None]:
    """The defaults of matplotlib and _OWN inside, the settings of before afterwards; as a decorator, for every call.

    A picture is made and saved inside, since matplotlib reads settings at both. Threads draw one after another.
    """
    with _DRAWING, style.context(["default", _OWN]):
        yield
