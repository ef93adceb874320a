"""Classes of tensors that must share something (a scale, layout, channel order, factors): a union-find over names."""

from __future__ import annotations

from collections.abc import Iterable


class Classes:
    """Every name begins alone."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for the class of `name`."""
        while self._parent.setdefault(name, name) != name:
            name = self._parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        """a and b share it from now on; what stands for a stands for both."""
        self._parent[self.find(b)] = self.find(a)


class Ties:
    """Classes of given names, some of which must stay as they are."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._classes = Classes()
        self._fixed: set[str] = set()

    def tie(self, a: str, b: str) -> None:
        """a and b share it from now on; what stands for b stands for both."""
        self._classes.join(b, a)

    def fix(self, *names: str) -> None:
        """These, and all that are tied to them, must stay as they are."""
        self._fixed.update(names)

    def classes(self) -> dict[str, str | None]:
        """Name -> a name that stands for its class; None: it must stay."""
        find = self._classes.find
        kept = {find(name) for name in self._fixed}
        return {name: None if (root := find(name)) in kept else root for name in self._names}
