"""Networks, calibration images and measuring images of the accuracy benchmark, and what every allocation shares.

Calibration images are split in three: rounding (also activation ranges and bias correction), sensitivities, and choice
between settings (a baseline's smallest width). Validation and test images are only measured on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import journey
import torch
from torch import Tensor

from bitloom import zoo
from bitloom.allocate.hbp import LayerCosts, binary_only_in
from bitloom.allocate.sensitivity import layer_costs
from bitloom.candidates import price
from bitloom.compare.lineup import Lineup
from bitloom.data.cifar import load_jpeg, load_lossless
from bitloom.data.images import ImageSet, Preprocess, Views, load_images
from bitloom.flow import CompileOptions
from bitloom.frontends.load import load_model
from bitloom.graph.allocation import WIDTHS
from bitloom.journal import Journal
from bitloom.program.binary import binary_layers
from bitloom.quantize.observe import Calibration, calibrate
from bitloom.quantize.rounding import RoundedLayer
from bitloom.quantize.statistics import StatisticsOptions
from bitloom.quantize.tables import nearest_table, round_network
from bitloom.target.arch import named_arch


@dataclass(frozen=True)
class Source:
    """weights: file below the data folder, or one that `make train-cifar` makes; images: of the calibration, imagenet,
    lossless, jpeg, or like measured: lossless or jpeg as the measuring set is, for that is what the quantized network
    will see. rounding, sensitivity, choice: how many of them serve what; measures: measuring sets, most telling
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
    "resnet20": Source("cifar10/weights/resnet20-12fca82f.th", "like measured", 1024, 512, 1000, _CIFAR),
    "resnet32": Source("cifar10/weights/resnet32-d509ac18.th", "like measured", 1024, 512, 1000, _CIFAR),
    "resnet44": Source("cifar10/weights/resnet44-014dd654.th", "like measured", 1024, 512, 1000, _CIFAR),
    "resnet56": Source("cifar10/weights/resnet56-4bfd9763.th", "like measured", 1024, 512, 1000, _CIFAR),
    "vgg16_cifar": Source("vgg16_cifar.pt", "jpeg", 1024, 512, 500, ("cifar10_test_jpeg",)),
    "resnet34_cifar": Source("resnet34_cifar.pt", "jpeg", 1024, 512, 250, ("cifar10_test_jpeg",)),
    "resnet50": Source(
        "imagenet/weights/resnet50_pqf.npz", "imagenet", 320, 80, 100, ("val", "val227"), 5, 65536, True
    ),
}


@dataclass(frozen=True, eq=False)
class Prepared(Lineup):
    """spare: calibration images that serve nothing else."""

    spare: Tensor


def source_of(network: str, measuring: str | None = None) -> Source:
    """The record of a network, the kind of its calibration images settled by the measuring set (None: its first)."""
    source = NETWORKS[network]
    if source.images != "like measured":
        return source
    return replace(source, images=(measuring or source.measures[0]).rsplit("_", 1)[1])


def prepare(
    network: str, data: Path, out: Path, views: int | None = None, coherent: int = 0, measuring: str | None = None
) -> Prepared:
    """Loads, calibrates, rounds and measures, each step resumed from `out` when it has finished before.

    views: other than those of `NETWORKS`, to see what they bring; coherent: of `StatisticsOptions`, likewise;
    measuring: as in `source_of`.
    """
    source = source_of(network, measuring)
    source = source if views is None else replace(source, views=views)
    n_round, n_measure, n_choice = source.rounding, source.sensitivity, source.choice
    graph = load_model(network, str(source.file(data)))
    images = _calibration_images(network, source, data)
    plain, used = images[0].clone(), n_round + n_measure + n_choice  # the other views are let go after rounding
    first, second, third, spare = torch.tensor_split(plain, [n_round, n_round + n_measure, used])
    seen = _seen(images, source)
    weights = hashlib.sha256(source.file(data).read_bytes()).hexdigest()[:16]
    settings = f"{source.views} {source.rows} {source.everywhere} {source.images}" + (
        f" coherent {coherent}" if coherent else ""
    )
    journal, key = Journal(out / "steps"), f"{network} {weights} {n_round} {n_measure} {n_choice} {settings}"
    calibration: Calibration = journal.step("calibrate", key, lambda: calibrate(graph, first))
    samples = StatisticsOptions(rows=source.rows, rows_per_input=0, coherent=coherent)
    gptq: dict[str, RoundedLayer] = journal.step(
        "gptq", key, lambda: round_network(calibration, statistics=samples, images=seen)
    )
    estimate = price if source.everywhere else layer_costs
    costs: dict[str, LayerCosts] = journal.step("costs", key, lambda: estimate(calibration, gptq, second))
    binary = journal.step("binary", key, lambda: binary_layers(graph, named_arch("full")))

    def all_views() -> Tensor:
        return _seen(_calibration_images(network, source, data), source)

    return Prepared(
        graph=graph,
        calibration=calibration,
        binary=binary,
        tables={"gptq": gptq, "nearest": nearest_table(calibration)},
        costs=binary_only_in(costs, WIDTHS, binary),
        samples=samples,
        measuring=second,
        choice=third,
        seen=all_views,
        journal=journal,
        key=key,
        spare=spare,
    )


def prepare_measures(
    network: str, data: Path, out: Path, names: Collection[str], measuring: str | None = None
) -> list[Prepared]:
    """The network rounded with each measure of rounding errors that `bitloom compile` chooses from and `names` has.

    measuring: as in `source_of`.
    """
    counts = {"plain": 0, "coherent": CompileOptions().coherent}
    wanted = [count for name, count in counts.items() if name in names]
    return [prepare(network, data, out, coherent=count, measuring=measuring) for count in wanted]


def _seen(images: Tensor, source: Source) -> Tensor:
    """Of (views, N, C, H, W) all that rounding sees, view by view."""
    return images[:, : source.rounding].flatten(0, 1)


def rounding_images(network: str, data: Path) -> Tensor:
    """All views of the pictures that rounding sees, picture by picture: (N, C, H, W)."""
    source = source_of(network)
    return _calibration_images(network, source, data)[:, : source.rounding].transpose(0, 1).flatten(0, 1)


def unseen_views(network: str, data: Path, views: int) -> Tensor:
    """Views of all pictures that rounding does not see, (views, N, C, H, W); the first is the plain one."""
    source = replace(source_of(network), views=views)
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
