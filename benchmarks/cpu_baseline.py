"""Latency of a network on this machine's CPU by several runtimes; its power, measured or from a data sheet."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bitloom import zoo

RAPL = Path("/sys/class/powercap")
SECONDS = 4.0  #: of measurement for each figure, after warming up
#: Where RAPL cannot be read and the hypervisor hides the model: watts of one core at work. AMD's data sheet of the EPYC
#: 9655 (Zen 5, 96 cores, 2.6 GHz base): default TDP 400 W.
DATASHEET_WATTS_PER_CORE = 400 / 96
DATASHEET = (
    "data sheet figure, not measured: 400 W TDP of an EPYC 9655 over its 96 cores (an assumption about the model)"
)


@dataclass(frozen=True)
class Latency:
    """One runtime at one number of threads; milliseconds an image, batch 1. watts: None where they cannot be read."""

    runtime: str
    precision: str
    threads: int
    best_ms: float
    median_ms: float
    runs: int
    watts: float | None


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Sixteen random images for the ranges: speed does not depend on them."""

    def __init__(self, name: str) -> None:
        rng = np.random.default_rng(1)
        self._rows = iter([{name: rng.standard_normal((1, 3, 224, 224)).astype(np.float32)} for _ in range(16)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._rows, None)


@contextmanager
def exported(name: str) -> Iterator[tuple[torch.nn.Module, Path, Path]]:
    """(module, float ONNX file, int8 ONNX file) of a network of the zoo with random weights."""
    torch.manual_seed(1)
    module = zoo.build(name).eval()
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, integer = (Path(folder) / f"{kind}.onnx" for kind in ("fp32", "prepared", "int8"))
        torch.onnx.export(module, (torch.zeros(1, 3, 224, 224),), str(plain), input_names=["image"], dynamo=False)
        quant_pre_process(str(plain), str(prepared))
        quantize_static(
            str(prepared), str(integer), _Images("image"), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
        yield module, plain, integer


def latencies(name: str, threads: int) -> list[Latency]:
    """Every runtime that is installed here."""
    image = np.random.default_rng(2).standard_normal((1, 3, 224, 224)).astype(np.float32)
    found = []
    with exported(name) as (module, plain, integer):
        for precision, path in (("fp32", plain), ("int8", integer)):
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads
            session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            found.append(_measure("ONNX Runtime", precision, threads, partial(session.run, None, {"image": image})))
            if (run := _openvino(path, threads, image)) is not None:
                found.append(_measure("OpenVINO", precision, threads, run))
        torch.set_num_threads(threads)
        compiled, tensor = torch.compile(module), torch.from_numpy(image)
        with torch.inference_mode():
            found.append(_measure("torch.compile", "fp32", threads, lambda: compiled(tensor)))
        torch.compiler.reset()
    return found


def _openvino(path: Path, threads: int, image: np.ndarray) -> Callable[[], object] | None:
    """A run of the model, None where OpenVINO is not installed."""
    try:
        import openvino
    except ImportError:
        return None
    hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", hints)
    request = model.create_infer_request()
    return lambda: request.infer([image])


def _measure(runtime: str, precision: str, threads: int, run: Callable[[], object]) -> Latency:
    for _ in range(3):
        run()
    times: list[float] = []
    joules, start = _rapl_joules(), time.perf_counter()
    while time.perf_counter() - start < SECONDS or len(times) < 5:
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    spent, after = time.perf_counter() - start, _rapl_joules()
    watts = None if joules is None or after is None or after < joules else (after - joules) / spent
    return Latency(runtime, precision, threads, min(times), statistics.median(times), len(times), watts)


def _rapl_joules() -> float | None:
    """Energy counters of all packages, joules; None where they cannot be read."""
    total, seen = 0.0, False
    for package in sorted(RAPL.glob("intel-rapl:[0-9]*")) if RAPL.is_dir() else ():
        if package.name.count(":") == 1:
            try:
                total += int((package / "energy_uj").read_text()) * 1e-6
            except (OSError, ValueError):
                return None
            seen = True
    return total if seen else None
