"""How good the three models are on images that nothing was fitted to: float, fake-quantized, integer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bitloom.errors import DataError
from bitloom.graph.execute import execute
from bitloom.graph.ir import Graph
from bitloom.graph.qgraph import QuantGraph
from bitloom.quantize.fake import FakeQuantized
from bitloom.reference.fast import quantize_input, run_fast

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Images that are only measured on: float (N, C, H, W); labels integers (N,), None where they are not known.

    calibrated: the images are those of the calibration, so that figures on them flatter; the report says so. Raises
    DataError: no images, labels that are no integers or not one an image.
    """

    images: Tensor
    labels: Labels | None
    calibrated: bool = False

    def __post_init__(self) -> None:
        if not len(self.images):
            raise DataError("no images to evaluate on; give at least one")
        if self.labels is not None:
            check_labels(self.labels)
        if self.labels is not None and len(self.labels) != len(self.images):
            raise DataError(
                f"{len(self.labels)} labels for {len(self.images)} images; give one label an image, or none at all"
            )

    def key(self) -> str:
        """Identity of the images, the labels and whose they are."""
        digest = hashlib.sha256(self.images.contiguous().numpy().tobytes())
        digest.update(b"" if self.labels is None else self.labels.tobytes())
        return f"{digest.hexdigest()} {self.calibrated}"


def check_labels(labels: Labels) -> None:
    """DataError unless labels are an array of integers, one class an image (N,)."""
    kind = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, np.ndarray) else f"a {type(labels).__name__}"
    if not isinstance(labels, np.ndarray) or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"labels are {kind}, must be a numpy array of integers, the class of every image (N,): "
            "np.asarray(labels, np.int64)"
        )


def evaluate(graph: Graph, qgraph: QuantGraph, evaluation: Evaluation, batch: int = 16) -> dict[str, Any]:
    """Percent of the images whose top class is the label, for `float`, `fake_quantized` and `integer`.

    Without labels (`labelled` False) the float model's class takes their place. `fake_integer_agreement`: percent of
    images that the last two put into the same class. `batch`: images a forward pass.
    """
    fake = FakeQuantized(qgraph)
    hits, agree = np.zeros(3, np.int64), 0
    for at in range(0, len(evaluation.images), batch):
        images = evaluation.images[at : at + batch]
        tops = [
            execute(graph, images)[graph.output].flatten(1).argmax(1).numpy(),
            fake(images).argmax(1).numpy(),
            run_fast(qgraph, quantize_input(qgraph, images))[qgraph.output].reshape(len(images), -1).argmax(1),
        ]
        labels = tops[0] if evaluation.labels is None else evaluation.labels[at : at + batch]
        hits += np.array([(top == labels).sum() for top in tops])
        agree += int((tops[1] == tops[2]).sum())
    n = len(evaluation.images)
    percent = 100.0 * hits / n
    return {
        "images": n,
        "labelled": evaluation.labels is not None,
        "calibrated": evaluation.calibrated,
        "float": float(percent[0]),
        "fake_quantized": float(percent[1]),
        "integer": float(percent[2]),
        "fake_integer_agreement": 100.0 * agree / n,
    }
