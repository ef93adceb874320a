"""Classes of tensors that must share something, a channel order or factors: a union-find over names."""

from __future__ import annotations

from collections.abc import Iterable


class Ties:
    """Begins with every name alone."""

    def __init__(self, names: Iterable[str]) -> None:
        self._parent = {name: name for name in names}
        self._fixed: set[str] = set()

    def tie(self, a: str, b: str) -> None:
        """a and b share it from now on; b's root stands for both."""
        self._parent[self._find(a)] = self._find(b)

    def fix(self, *names: str) -> None:
        """These, and all that are tied to them, must stay as they are."""
        self._fixed.update(names)

    def classes(self) -> dict[str, str | None]:
        """Name -> a name that stands for its class; None: it must stay."""
        kept = {self._find(name) for name in self._fixed}
        return {name: None if (root := self._find(name)) in kept else root for name in self._parent}

    def _find(self, name: str) -> str:
        while self._parent[name] != name:
            name = self._parent[name]
        return name
