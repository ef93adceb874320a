"""Networks, calibration images and measuring images of the accuracy benchmark, and what every allocation shares.

Calibration images are split in three: rounding (also activation ranges and bias correction), sensitivities, and choice
between settings (a baseline's smallest width). Validation and test images are only measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import journey
import numpy as np
import torch
from torch import Tensor

from bitloom import zoo
from bitloom.allocate.estimators.fisher import ChannelFisher
from bitloom.allocate.hbp import LayerCosts, binary_only_in
from bitloom.allocate.probe import Probe
from bitloom.allocate.sensitivity import layer_costs
from bitloom.baselines.hawq import mean_traces
from bitloom.baselines.ompq import orthogonality
from bitloom.data.cifar import load_jpeg, load_lossless
from bitloom.data.images import ImageSet, Preprocess, Views, load_images
from bitloom.flow import CompileOptions
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import WIDTHS
from bitloom.graph.execute import execute
from bitloom.graph.ir import Graph
from bitloom.journal import Journal
from bitloom.program.binary import binary_layers
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.rounding import RoundedLayer, RoundingOptions, round_layer
from bitloom.quantize.statistics import StatisticsOptions, round_network
from bitloom.target.arch import named_arch


@dataclass(frozen=True)
class Source:
    """weights: file below the data folder, or one that `make train-cifar` makes; images: of the calibration, imagenet,
    lossless or jpeg. rounding, sensitivity, choice: how many of them serve what; measures: measuring sets, most telling
    first. views: of every picture in rounding. rows: samples of a layer there. everywhere: gradients of the images of
    rounding count too."""

    weights: str
    images: str
    rounding: int
    sensitivity: int
    choice: int
    measures: tuple[str, ...]
    views: int = 1
    rows: int = 16384
    everywhere: bool = False

    def file(self, data: Path) -> Path:
        """Where the weights are."""
        return data / self.weights if "/" in self.weights else journey.CIFAR_WEIGHTS / self.weights


_CIFAR = ("cifar10_test_lossless", "cifar10_test_jpeg")
NETWORKS: dict[str, Source] = {
    "resnet18": Source(
        "imagenet/weights/resnet18_hybrid.npz", "imagenet", 320, 80, 100, ("val", "val227"), 5, 65536, True
    ),
    "resnet20": Source("cifar10/weights/resnet20-12fca82f.th", "lossless", 1024, 512, 1000, _CIFAR),
    "resnet56": Source("cifar10/weights/resnet56-4bfd9763.th", "lossless", 1024, 512, 1000, _CIFAR),
    "vgg16_cifar": Source("vgg16_cifar.pt", "jpeg", 1024, 512, 500, ("cifar10_test_jpeg",)),
    "resnet34_cifar": Source("resnet34_cifar.pt", "jpeg", 1024, 512, 250, ("cifar10_test_jpeg",)),
    "resnet50": Source(
        "imagenet/weights/resnet50_pqf.npz", "imagenet", 320, 80, 100, ("val", "val227"), 5, 65536, True
    ),
}


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the allocations of one network share.

    binary: layers that may have 1 bit on the device's own build. tables: rounded rows by rounding; costs: shared by HBP
    and the baselines with our sensitivities; samples, seen: of the rounding; measuring, choice, spare: calibration
    images that the rounding has not seen, those of the costs, those that choose, and what is left; journal and key:
    where the baselines' measurements are kept.
    """

    graph: Graph
    calibration: Calibration
    binary: frozenset[str]
    tables: Mapping[str, Mapping[str, RoundedLayer]]
    costs: Mapping[str, LayerCosts]
    samples: StatisticsOptions
    measuring: Tensor
    choice: Tensor
    spare: Tensor
    seen: Callable[[], Tensor]
    journal: Journal
    key: str

    @property
    def measure(self) -> str:
        """Of rounding errors in the table `gptq`, as in `candidates.py`."""
        return "coherent" if self.samples.coherent else "plain"

    def table(self, rounding: str) -> Mapping[str, RoundedLayer]:
        """Rounded rows: gptq, nearest, or plain: GPTQ as published, symmetric codes without search or descent."""
        if rounding != "plain":
            return self.tables[rounding]
        options, samples = RoundingOptions(search=False, sweeps=0, turned=False), replace(self.samples, coherent=0)
        work = lambda: round_network(self.calibration, rounding=options, statistics=samples, images=self.seen())  # noqa: E731
        return self.journal.step("plain", self.key, work)

    def naive(self) -> dict[str, LayerCosts]:
        """Fisher information of every channel and width at temperature 1, on images that the rounding has seen."""
        images = self.calibration.images[: max(320, len(self.measuring))]
        estimator = ChannelFisher(temperature=1.0, together=2)
        table = self.tables["gptq"]
        work = lambda: layer_costs(self.calibration, table, images, estimator)  # noqa: E731
        return binary_only_in(self.journal.step("naive", self.key, work), WIDTHS, self.binary)

    def traces(self) -> dict[str, float]:
        """HAWQ's mean Hessian traces; the float network's own top-1 stands for labels, which these images lack."""
        images = self.measuring[:32] if self.measuring.shape[2] > 64 else self.measuring[:256]
        labels = execute(self.graph, images)[self.graph.output].flatten(1).argmax(1).numpy()
        probe = Probe(self.calibration, self.tables["gptq"])
        return self.journal.step("traces", self.key, lambda: mean_traces(probe, images, labels, draws=2))

    def orm(self) -> np.ndarray:
        """OMPQ's orthogonality of layers."""
        probe = Probe(self.calibration, self.tables["gptq"])
        return self.journal.step("orm", self.key, lambda: orthogonality(probe, self.measuring[:64]))

    @property
    def channels(self) -> dict[str, int]:
        """Output channels by layer."""
        return {name: len(layer.cost) for name, layer in self.costs.items()}

    @property
    def weights(self) -> dict[str, int]:
        """Weights of one output channel by layer."""
        return {name: layer.weights for name, layer in self.costs.items()}

    @property
    def total(self) -> int:
        """Weights of the network."""
        return sum(self.channels[n] * self.weights[n] for n in self.costs)


def prepare(network: str, data: Path, out: Path, views: int | None = None, coherent: int = 0) -> Prepared:
    """Loads, calibrates, rounds and measures, each step resumed from `out` when it has finished before.

    views: other than those of `NETWORKS`, to see what they bring; coherent: of `StatisticsOptions`, likewise.
    """
    source = NETWORKS[network] if views is None else replace(NETWORKS[network], views=views)
    n_round, n_measure, n_choice = source.rounding, source.sensitivity, source.choice
    graph = load_model(network, str(source.file(data)))
    images = _calibration_images(network, source, data)
    plain, used = images[0].clone(), n_round + n_measure + n_choice  # the other views are let go after rounding
    first, second, third, spare = torch.tensor_split(plain, [n_round, n_round + n_measure, used])
    seen = _seen(images, source)
    weights = hashlib.sha256(source.file(data).read_bytes()).hexdigest()[:16]
    settings = f"{source.views} {source.rows} {source.everywhere}" + (f" coherent {coherent}" if coherent else "")
    journal, key = Journal(out / "steps"), f"{network} {weights} {n_round} {n_measure} {n_choice} {settings}"
    calibration: Calibration = journal.step("calibrate", key, lambda: calibrate(graph, first))
    samples = StatisticsOptions(rows=source.rows, rows_per_input=0, coherent=coherent)
    gptq: dict[str, RoundedLayer] = journal.step(
        "gptq", key, lambda: round_network(calibration, statistics=samples, images=seen)
    )
    nearest: dict[str, RoundedLayer] = {
        s.name: round_layer(s.weight.reshape(len(s.weight), -1), None) for s in calibration.lowered.convs
    }
    measuring = torch.cat([second, first]) if source.everywhere else second  # output errors are of the first 64
    costs: dict[str, LayerCosts] = journal.step("costs", key, lambda: layer_costs(calibration, gptq, measuring))
    binary = journal.step("binary", key, lambda: binary_layers(graph, named_arch("full")))

    def all_views() -> Tensor:
        return _seen(_calibration_images(network, source, data), source)

    tables = {"gptq": gptq, "nearest": nearest}
    legal = binary_only_in(costs, WIDTHS, binary)
    return Prepared(graph, calibration, binary, tables, legal, samples, second, third, spare, all_views, journal, key)


def prepare_measures(network: str, data: Path, out: Path, names: Collection[str]) -> list[Prepared]:
    """The network rounded with each measure of rounding errors that `bitloom compile` chooses from and `names` has."""
    counts = {"plain": 0, "coherent": CompileOptions().coherent}
    return [prepare(network, data, out, coherent=count) for name, count in counts.items() if name in names]


def _seen(images: Tensor, source: Source) -> Tensor:
    """Of (views, N, C, H, W) all that rounding sees, view by view."""
    return images[:, : source.rounding].flatten(0, 1)


def rounding_images(network: str, data: Path) -> Tensor:
    """All views of the pictures that rounding sees, picture by picture: (N, C, H, W)."""
    source = NETWORKS[network]
    return _calibration_images(network, source, data)[:, : source.rounding].transpose(0, 1).flatten(0, 1)


def unseen_views(network: str, data: Path, views: int) -> Tensor:
    """Views of all pictures that rounding does not see, (views, N, C, H, W); the first is the plain one."""
    source = replace(NETWORKS[network], views=views)
    return _calibration_images(network, source, data)[:, source.rounding :].clone()


def measured(network: str, name: str, data: Path, limit: int | None = None) -> ImageSet:
    """The images of a measuring set, with labels; limit: so many, spread evenly over the set."""
    if name == "cifar10_test_lossless":
        return load_lossless(data / "cifar10", test=True, limit=limit)
    if name == "cifar10_test_jpeg":
        return load_jpeg(data / "cifar10" / "cifar10_jpeg.tar.gz", test=True, limit=limit)
    info = zoo.info(network)
    return load_images(data / "imagenet" / name, Preprocess(info.image_shape, info.mean, info.std), limit)


def _calibration_images(network: str, source: Source, data: Path) -> Tensor:
    """(views, N, C, H, W) in an order drawn once, so that the three parts are alike."""
    info = zoo.info(network)
    match source.images:
        case "lossless":
            images = load_lossless(data / "cifar10", test=False).images
        case "jpeg":
            needed = source.rounding + source.sensitivity + source.choice
            images = load_jpeg(data / "cifar10" / "cifar10_jpeg.tar.gz", test=False, limit=needed).images
        case _:
            preprocess = Preprocess(info.image_shape, info.mean, info.std, 256)
            images = load_images(data / "imagenet" / "calibration", preprocess, None, Views(source.views)).images
    images = images.reshape(source.views, -1, *images.shape[1:])
    return images[:, torch.randperm(images.shape[1], generator=torch.Generator().manual_seed(0))]
