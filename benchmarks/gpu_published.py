"""What GPUs are published to reach on ResNet-50 at batch 1, to stand beside the accelerator's estimate.

Logs of MLPerf Inference v3.1, closed division, edge, scenario SingleStream (one image after another, at least ten
minutes, INT8 by TensorRT, top-1 of 75.7 % or more): https://github.com/mlcommons/inference_results_v3.1, folder
closed/NVIDIA/results/SYSTEM/resnet50/SingleStream/performance/run_1. Latency is the mean of mlperf_log_summary.txt,
images a second those with the load generator's overhead. Power, where a meter was connected, is the mean of spl.txt
over two minutes in the middle of the run: of the whole developer kit, at the wall.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

METERED = "measured at the wall, whole kit (MLPerf power log)"


@dataclass(frozen=True)
class PublishedGpu:
    """mean latency in milliseconds; watts: see `power`."""

    name: str
    system: str
    milliseconds: float
    images_per_second: float
    watts: float
    power: str

    @property
    def images_per_joule(self) -> float:
        """Images a second over watts."""
        return self.images_per_second / self.watts


RESNET50 = (
    PublishedGpu("Jetson AGX Orin 64 GB, MaxQ", "Orin_TRT_MaxQ", 1.421, 694.8, 14.3, METERED),
    PublishedGpu("Jetson Orin NX, MaxQ", "Orin_NX_TRT_MaxQ", 1.420, 697.1, 13.5, METERED),
    PublishedGpu("L4", "L4x1_TRT", 0.346, 2861.3, 72.0, "data sheet: board power limit, without its host"),
)


def beside(accelerator: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a GPU, with the accelerator's speed (by latency) and images a joule over its own."""
    return [
        {
            **asdict(gpu),
            "network": "resnet50",
            "images_per_joule": gpu.images_per_joule,
            "speed_over_gpu": gpu.milliseconds / accelerator["milliseconds"],
            "images_per_joule_over_gpu": accelerator["images_per_joule"] / gpu.images_per_joule,
        }
        for gpu in RESNET50
    ]
