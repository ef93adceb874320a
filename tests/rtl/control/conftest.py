"""The benches of control blocks share builders and memory model with those of the memory and compute blocks."""

from __future__ import annotations

import sys
from pathlib import Path

for folder in ("memory", "compute"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))
