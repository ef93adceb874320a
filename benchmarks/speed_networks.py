"""The four integer networks that `bench_speed.py` runs, each made once and kept in the output folder until removed.

ResNet-18 and ResNet-50 come with real weights: their widths are Hierarchical Bit Programming on calibration images,
under a bound of the modelled cycles. ResNet-34 and VGG-16 have He-initialised weights of the right shape, and widths
drawn from what HBP gave ResNet-18, those of one digit pass.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from real_costs import WEIGHTS, real_costs
from torch import Tensor

from bitloom import zoo
from bitloom.allocate.latency import LatencyAllocator
from bitloom.data.images import Preprocess, load_images
from bitloom.explore.pricing import NetworkCycles
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import WIDTHS, BitAllocation
from bitloom.graph.execute import execute
from bitloom.graph.ir import Conv, Graph, Linear
from bitloom.graph.qgraph import QuantGraph
from bitloom.numerics.packing import TWO_PASS_BITS
from bitloom.quantize.observe import CalibrationOptions, calibrate
from bitloom.quantize.quantize import QuantizeOptions, quantize
from bitloom.quantize.rounding import RoundedLayer, round_layer
from bitloom.reference.fast import quantize_input, run_fast
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

NETWORKS = ("resnet18", "resnet34", "resnet50", "vgg16")
BUDGET = 4.0  #: mean bits per weight
#: Bound of the modelled cycles of one image on the build `full`.
CYCLES = {"resnet18": 177_500, "resnet50": 415_000}
FC_BITS = 3  #: of VGG-16's fully connected layers: 103 M weights that DDR has to deliver
SEED = 20261124

Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Prepared:
    """An integer network, its allocation, and where both come from."""

    qgraph: QuantGraph
    allocation: BitAllocation
    origin: str


def prepare(name: str, data: Path, folder: Path) -> Prepared:
    """The integer network `name`, from `folder` when it has been made before. data: .../imagenet."""
    path = folder / f"{name}.pickle"
    if path.is_file():
        with path.open("rb") as file:
            loaded: Prepared = pickle.load(file)
        return loaded
    made = _with_hbp(name) if name in WEIGHTS else _same_mix(name, data, prepare("resnet18", data, folder))
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        pickle.dump(made, file, protocol=pickle.HIGHEST_PROTOCOL)
    part.replace(path)
    return made


def accuracy(name: str, data: Path, folder: Path, count: int) -> dict[str, float]:
    """Top-1 in percent on `count` images of `val`, of the float and of the integer network (real weights only)."""
    if name not in WEIGHTS:
        raise ValueError(f"{name}: random weights have no accuracy; networks with weights: {', '.join(WEIGHTS)}")
    info = zoo.info(name)
    images = load_images(data / "val", Preprocess(info.image_shape, info.mean, info.std), count)
    if images.labels is None:
        raise ValueError(f"{data / 'val'}: no labels.txt")
    graph, qgraph = load_model(name, str(data / "weights" / WEIGHTS[name])), prepare(name, data, folder).qgraph
    hits = np.zeros(2, np.int64)
    for at in range(0, len(images.images), 8):
        batch, labels = images.images[at : at + 8], images.labels[at : at + 8]
        real = execute(graph, batch)[graph.output].flatten(1).argmax(1).numpy()
        integer = run_fast(qgraph, quantize_input(qgraph, batch))[qgraph.output].reshape(len(batch), -1).argmax(1)
        hits += np.array([(real == labels).sum(), (integer == labels).sum()])
    top1 = 100.0 * hits / len(images.images)
    return {"images": len(images.images), "float": round(float(top1[0]), 2), "integer": round(float(top1[1]), 2)}


def images_of(name: str, data: Path, count: int, part: str = "calibration") -> Tensor:
    """`count` images of a part of the data, preprocessed for `name`."""
    info = zoo.info(name)
    resize = 256 if part == "calibration" else 0
    return load_images(data / part, Preprocess(info.image_shape, info.mean, info.std, resize), count).images


def _with_hbp(name: str) -> Prepared:
    real = real_costs(name)
    model = NetworkCycles(real.graph, named_arch("full"), load_device("xczu15eg"))
    solution = LatencyAllocator(real.costs, WIDTHS, model).allocate(int(BUDGET * real.weights), CYCLES[name])
    qgraph = quantize(real.graph, solution.allocation, real.calibration, rounded=real.rounded)
    return Prepared(qgraph, solution.allocation, f"HBP on real weights, at most {CYCLES[name]} modelled cycles")


def _same_mix(name: str, data: Path, model: Prepared) -> Prepared:
    graph = load_model(name)
    calibration = calibrate(graph, images_of(name, data, 4), CalibrationOptions(bias_images=4))
    allocation = _draw(graph, model.allocation)
    rounded = {s.name: _nearest(s.weight, allocation.bits[s.name]) for s in calibration.lowered.convs}
    qgraph = quantize(graph, allocation, calibration, QuantizeOptions(bias_correction=False), rounded)
    origin = "widths drawn from ResNet-18's HBP result, random weights"
    if name == "vgg16":
        origin += f", fully connected layers at {FC_BITS} bits"
    return Prepared(qgraph, allocation, origin)


def _nearest(weight: npt.NDArray[np.float32], bits: Int8Array) -> RoundedLayer:
    """Weights rounded to nearest at the widths that the layer has."""
    return round_layer(weight.reshape(len(weight), -1), None, tuple(sorted(set(bits.tolist()))))


def _draw(graph: Graph, model: BitAllocation) -> BitAllocation:
    """Widths below 6 drawn channel by channel, as often as the model's weights have them; then one bit more or less
    here and there until the mean is BUDGET. VGG-16's fully connected layers have FC_BITS everywhere."""
    rng = np.random.default_rng(SEED)
    narrow = {b: n for b, n in model.histogram.items() if b < TWO_PASS_BITS}
    values, share = np.array(list(narrow)), np.array(list(narrow.values()), dtype=np.float64)
    layers = {n.name: n.op for n in graph.nodes if isinstance(n.op, Conv | Linear)}
    inputs = {name: int(np.prod(op.weight.shape[1:])) for name, op in layers.items()}
    dense = {name for name, op in layers.items() if isinstance(op, Linear)} if len(layers) == 16 else set[str]()
    bits: dict[str, Int8Array] = {}
    for name, op in layers.items():
        channels = op.weight.shape[0]
        drawn = rng.choice(values, channels, p=share / share.sum())
        bits[name] = np.full(channels, FC_BITS, np.int8) if name in dense else drawn.astype(np.int8)
    free = [(name, c) for name in layers if name not in dense for c in range(layers[name].weight.shape[0])]
    _level(bits, inputs, (free[i] for i in rng.permutation(len(free))))
    return BitAllocation(bits, inputs)


def _level(bits: dict[str, Int8Array], inputs: dict[str, int], order: Iterable[tuple[str, int]]) -> None:
    """One bit more or less here and there, in widths of 2 to 5, until the mean is BUDGET and not above it."""
    over = sum(int(b.sum(dtype=np.int64)) * inputs[n] for n, b in bits.items())
    over -= int(BUDGET * sum(b.size * inputs[n] for n, b in bits.items()))
    step = 1 if over <= 0 else -1
    for name, channel in order:
        if 2 <= bits[name][channel] + step < TWO_PASS_BITS and (over > 0 or over + inputs[name] <= 0):
            bits[name][channel] += step
            over += step * inputs[name]
        if step < 0 and over <= 0:
            return
