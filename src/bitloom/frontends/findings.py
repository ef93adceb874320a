"""What a front end has to say about a layer, and how it is printed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from bitloom.errors import UnsupportedLayerError


class Severity(Enum):
    """UNSUPPORTED stops an import; WARNING costs speed or needs a larger build; INFO is a summary."""

    UNSUPPORTED = "unsupported"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True)
class Finding:
    """One remark: the layer's name and kind, why it is remarked, and what to do about it."""

    severity: Severity
    name: str
    kind: str
    reason: str
    advice: str

    def __str__(self) -> str:
        tail = f"; {self.advice}" if self.advice else ""
        return f"{self.severity.value}: '{self.name}' ({self.kind}): {self.reason}{tail}"


def format_findings(findings: Iterable[Finding]) -> str:
    """One line a finding, in the given order."""
    return "\n".join(str(finding) for finding in findings)


def raise_unsupported(model: str, findings: Iterable[Finding]) -> None:
    """UnsupportedLayerError with every finding of severity UNSUPPORTED in its text; returns when there is none."""
    bad = [finding for finding in findings if finding.severity is Severity.UNSUPPORTED]
    if bad:
        lines = "\n".join(f"  '{f.name}' ({f.kind}): {f.reason}{f'; {f.advice}' if f.advice else ''}" for f in bad)
        noun = "layer is" if len(bad) == 1 else "layers are"
        raise UnsupportedLayerError(f"model '{model}': {len(bad)} {noun} not supported\n{lines}")
