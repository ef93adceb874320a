"""The command line: a thin layer over the Python API. Results on stdout, progress and errors on stderr.

Longer than the house wishes: a line an option, and typer reads the options of `compile`, `finetune` and `compare`, most
of them the same, from the signature of each.
"""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from functools import wraps
from math import prod
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer
from rich.console import Console
from torch import Tensor

from bitloom.allocate.budget import parse_budget, parse_mean_bits
from bitloom.compare.compare import AGAINST, CompareOptions, compare
from bitloom.compare.methods import NAMES
from bitloom.data.images import ImageSet, Preprocess, Views, load_images
from bitloom.data.preprocess import parse_shape, preprocess_for
from bitloom.errors import BitloomError, BudgetError
from bitloom.evaluate import Evaluation
from bitloom.explore.explorer import explore, explore_all
from bitloom.explore.resources import check_fit, misfit
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.findings import Severity, format_findings
from bitloom.frontends.load import check_model, load_model, read_model
from bitloom.graph.allocation import WIDTHS, uniform
from bitloom.graph.ir import Graph
from bitloom.graph.ir import Shape as GraphShape
from bitloom.graph.printer import format_graph
from bitloom.graph.shapes import class_count, shapes
from bitloom.program.container import load
from bitloom.program.disassemble import disassemble
from bitloom.quantize.augment import Augment
from bitloom.quantize.finetune import FinetuneOptions, steps_of
from bitloom.quantize.parallel import leads
from bitloom.quantize.refine import Refinement
from bitloom.report.comparison import print_comparison, write_comparison
from bitloom.report.terminal import print_explorations
from bitloom.retrain import Training
from bitloom.target.arch import ArchConfig, named_arch
from bitloom.target.device import Device, load_device

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Per-channel mixed precision, from CNN to FPGA.")

_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  #: what a folder lacks that cannot be written

P = ParamSpec("P")
R = TypeVar("R")


def _clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """A user's mistake, a closed path or a full disk is one line on stderr and code 2, an interruption one and 130."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BitloomError as error:
            typer.echo(f"bitloom: {error}", err=True)
            raise typer.Exit(2) from None
        except OSError as error:
            if isinstance(error, PermissionError):
                advice = "give a path that this user may use"
            elif error.errno in _NO_PLACE:
                advice = (
                    "free space, or choose other folders by --out, BITLOOM_CACHE and TMPDIR; what has finished is kept"
                )
            else:
                raise
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"bitloom: {where}{error.strerror}; {advice}", err=True)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            typer.echo("bitloom: interrupted; what has finished is kept: run the same command again to go on", err=True)
            raise typer.Exit(130) from None

    return wrapped


Model = Annotated[str, typer.Argument(help="zoo name, ONNX file, or package.module:callable")]
Weights = Annotated[str | None, typer.Option(help="safetensors, npz or pth file")]
ImageShape = Annotated[str | None, typer.Option("--shape", help="image shape of a callable, as 3x224x224")]
Target = Annotated[str, typer.Option(help="device")]
Arch = Annotated[str | None, typer.Option(help="named build (tiny, small, mid, full); default: the device's best")]
Data = Annotated[Path, typer.Option(help="folder of calibration images")]
Mean = Annotated[str | None, typer.Option(help="mean of pixels in [0, 1], one figure a channel")]
Std = Annotated[str | None, typer.Option(help="standard deviation, likewise")]
Resize = Annotated[int | None, typer.Option(min=0, help="shorter side before the centre crop (0: none)")]
Evaluate = Annotated[Path | None, typer.Option(help="folder of images to measure on (default: --data)")]
BudgetText = Annotated[str, typer.Option(help="mean bits per weight (4.0) or size of the weights (5.8MB, 5800kB)")]
Latency = Annotated[str | None, typer.Option(help="bound of the modelled time of an image (0.6ms)")]
Cycles = Annotated[int | None, typer.Option(help="bound of the modelled cycles of an image")]
MinBits = Annotated[int, typer.Option(help="smallest width of a channel (0: channels may be pruned)")]
Tolerance = Annotated[
    float,
    typer.Option(min=0, max=100, help="per cent of the estimated loss given up for fewer cycles where none are bound"),
]
Rounding = Annotated[
    Refinement, typer.Option(help="after the widths are chosen: GPTQ alone, compensated, learned, or both (minutes)")
]
Equalize = Annotated[
    float,
    typer.Option(
        min=0, max=1, help="scale channels by this power of their size first (0: not; 0.5 for uneven channels)"
    ),
]
CalibrationCount = Annotated[int, typer.Option(min=1, help="calibration images")]
ViewCount = Annotated[
    int, typer.Option(min=1, help="random crops of each calibration image for rounding, the plain one first")
]
Coherent = Annotated[
    int,
    typer.Option(
        min=0, help="images that say how much a map's mean error counts in a second rounding to choose from (0: none)"
    ),
]
Simulate = Annotated[int, typer.Option(min=0, help="images simulated on RTL (0: none)")]
Batch = Annotated[int, typer.Option(min=1, help="images that share a run and every pass over its weights (throughput)")]
Cluster = Annotated[str | None, typer.Option(help="address of a dask scheduler whose workers simulate (host:port)")]
Board = Annotated[bool, typer.Option(help="write OUT/board: sources, IP, project and driver (Zynq MPSoC)")]
Out = Annotated[Path, typer.Option(help="output folder")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")]


@app.command("check")
@_clear_errors
def check_command(model: Model, weights: Weights = None, shape: ImageShape = None) -> None:
    """Lists everything in MODEL that the accelerator cannot run, and why."""
    findings = check_model(model, weights, _shape(shape))
    typer.echo(format_findings(findings))
    if any(f.severity is Severity.UNSUPPORTED for f in findings):
        raise typer.Exit(2)


@app.command("show")
@_clear_errors
def show_command(model: Model, weights: Weights = None, shape: ImageShape = None) -> None:
    """Prints MODEL as Bitloom sees it: layers, shapes, weights and multiplications."""
    typer.echo(format_graph(load_model(model, weights, _shape(shape))))


@app.command("compile")
@_clear_errors
def compile_command(
    model: Model,
    data: Data,
    weights: Weights = None,
    shape: ImageShape = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    evaluate: Evaluate = None,
    target: Target = "xczu15eg",
    arch: Arch = None,
    budget: BudgetText = "4",
    latency: Latency = None,
    cycles: Cycles = None,
    min_bits: MinBits = 0,
    tolerance: Tolerance = 5.0,
    rounding: Rounding = Refinement.GPTQ,
    equalize: Equalize = 0.0,
    calibration: CalibrationCount = 200,
    views: ViewCount = 4,
    coherent: Coherent = 64,
    simulate: Simulate = 1,
    batch: Batch = 1,
    cluster: Cluster = None,
    board: Board = True,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Quantizes MODEL, compiles it, runs it on the simulated accelerator and writes a report."""
    asked = parse_budget(budget, latency, cycles, min_bits, tolerance / 100)
    graph = _load(model, weights, shape)
    preprocess = preprocess_for(model, graph, mean, std, resize)
    options = CompileOptions(
        budget=asked,
        simulated=simulate,
        batch=batch,
        cluster=cluster,
        rounding=rounding,
        views=views,
        coherent=coherent,
        equalize=equalize,
        board=board,
        preprocess=preprocess,
    )
    _compile(graph, preprocess, data, calibration, evaluate, target, arch, out, options, as_json)


@app.command("finetune")
@_clear_errors
def finetune_command(
    model: Model,
    data: Data,
    train: Annotated[Path, typer.Option(help="folder of training images")],
    weights: Weights = None,
    shape: ImageShape = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    evaluate: Evaluate = None,
    target: Target = "xczu15eg",
    arch: Arch = None,
    budget: BudgetText = "3",
    latency: Latency = None,
    cycles: Cycles = None,
    min_bits: MinBits = 0,
    tolerance: Tolerance = 5.0,
    epochs: Annotated[float, typer.Option(help="passes over the training images")] = 3.0,
    batch: Annotated[int, typer.Option(help="images of a step")] = 128,
    rate: Annotated[float, typer.Option(help="learning rate of the weights, in levels a step")] = 0.01,
    label_weight: Annotated[float, typer.Option(help="share of the labels in the loss; the rest follows MODEL")] = 0.0,
    shift: Annotated[int, typer.Option(min=0, help="training images are mirrored and moved by so many pixels")] = 4,
    resolve: Annotated[int, typer.Option(help="how often the widths are solved again on the way")] = 0,
    mixed: Annotated[bool, typer.Option(help="train in bfloat16, where it is not emulated")] = False,
    device: Annotated[str, typer.Option(help="cpu or cuda; several processes under torchrun")] = "cpu",
    seed: Annotated[int, typer.Option(help="of the training")] = 0,
    rounding: Rounding = Refinement.COMPENSATED,
    calibration: CalibrationCount = 200,
    views: ViewCount = 4,
    coherent: Coherent = 64,
    simulate: Simulate = 1,
    board: Board = True,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """As `compile`, with the integer network trained on images before it is compiled; run again, it continues."""
    asked = parse_budget(budget, latency, cycles, min_bits, tolerance / 100)
    graph = _load(model, weights, shape)
    preprocess = preprocess_for(model, graph, mean, std, resize)
    pictures = load_images(train, preprocess)
    _warn_of_folders(train, pictures, graph)
    settings = FinetuneOptions(
        steps=steps_of(epochs, len(pictures.images), batch),
        batch=batch,
        latent_rate=rate,
        label_weight=label_weight,
        augment=Augment(shift) if shift else None,
        mixed=mixed,
        device=device,
        seed=seed,
    )
    training = Training(pictures.images, pictures.labels, settings, resolve)
    options = CompileOptions(
        budget=asked,
        simulated=simulate,
        rounding=rounding,
        training=training,
        views=views,
        coherent=coherent,
        board=board,
        preprocess=preprocess,
    )
    _compile(graph, preprocess, data, calibration, evaluate, target, arch, out, options, as_json)


@app.command("compare")
@_clear_errors
def compare_command(
    model: Model,
    data: Data,
    weights: Weights = None,
    shape: ImageShape = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    evaluate: Evaluate = None,
    target: Target = "xczu15eg",
    arch: Arch = None,
    budgets: Annotated[str, typer.Option(help="mean bits per weight, with commas between")] = "2,3,4",
    against: Annotated[
        str, typer.Option(help=f"allocations beside HBP: {', '.join(n for n in NAMES if n != 'hbp')}")
    ] = ",".join(AGAINST),
    published: Annotated[bool, typer.Option(help="measure the related methods with their own rounding too")] = True,
    calibration: CalibrationCount = 200,
    views: ViewCount = 4,
    coherent: Coherent = 64,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Measures HBP beside other allocations of the same size on MODEL: top-1, KL to float, paired intervals."""
    others = tuple(name.strip() for name in against.split(",") if name.strip())
    options = CompareOptions(parse_mean_bits(budgets), others, published, views, coherent)
    graph = _load(model, weights, shape)
    preprocess = preprocess_for(model, graph, mean, std, resize)
    device = load_device(target)
    named = _named_build(arch, device)
    images, evaluation = _images(graph, preprocess, data, calibration, evaluate, views)
    rows = compare(graph, images, evaluation, named or _best_build(graph, device), out, options)
    if as_json:
        typer.echo(json.dumps({"rows": rows}, indent=2))
    else:
        print_comparison(rows, Console(width=None if sys.stdout.isatty() else 200))
        typer.echo(str(write_comparison(rows, out)))


@app.command("explore")
@_clear_errors
def explore_command(
    models: Annotated[list[str], typer.Argument(help="one or more: zoo name, ONNX file, or package.module:callable")],
    shape: ImageShape = None,
    target: Target = "xczu15eg",
    arch: Arch = None,
    bits: Annotated[int, typer.Option(help="uniform width that is assumed, 2 to 8")] = 4,
    layers: Annotated[bool, typer.Option(help="a row a layer for several models too")] = False,
    front: Annotated[bool, typer.Option(help="the whole Pareto front, not the optimum alone (slower)")] = False,
    as_json: Json = False,
) -> None:
    """Bounds before anything is built: the one best build for MODELS on a device, and what binds each layer."""
    device, build = load_device(target), named_arch(arch) if arch is not None else None
    if bits not in WIDTHS[2:]:
        raise BudgetError(
            f"--bits {bits}: the width that every channel is assumed to have must be 2 to {WIDTHS[-1]}; 0 leaves no "
            "network, and 1 is only legal where a layer's inputs fill the array"
        )
    graphs = [load_model(model, None, _shape(shape)) for model in models]
    found = explore_all(graphs, device, [uniform(graph, bits).bits for graph in graphs], build, front=front)
    if as_json:
        records = [one.record() for one in found]
        typer.echo(json.dumps(records[0] if len(records) == 1 else {"networks": records}, indent=2))
    else:
        print_explorations(found, Console(width=None if sys.stdout.isatty() else 200), layers or None)
    if found[0].over:
        typer.echo(f"bitloom: {misfit(found[0].arch, device, found[0].over)}", err=True)
        raise typer.Exit(1)


@app.command("disassemble")
@_clear_errors
def disassemble_command(program: Annotated[Path, typer.Argument(help="program file")]) -> None:
    """Prints the commands of a program file."""
    typer.echo(disassemble(load(program)))


def _compile(
    graph: Graph,
    preprocess: Preprocess,
    data: Path,
    calibration: int,
    evaluate: Path | None,
    target: str,
    arch: str | None,
    out: Path,
    options: CompileOptions,
    as_json: bool,
) -> None:
    """The journey, and its facts or the path of its report on stdout."""
    device = load_device(target)
    named = _named_build(arch, device)
    images, evaluation = _images(graph, preprocess, data, calibration, evaluate, options.views)
    build = named or _best_build(graph, device)
    facts = compile_model(graph, images, evaluation, build, device, out, options)
    if leads():
        if facts["board"]:
            typer.echo(f"for the board: {facts['board']}/README.md", err=True)
        elif options.board:
            typer.echo(f"no board files for '{device.name}': they are written for Zynq UltraScale+ MPSoC", err=True)
        typer.echo(json.dumps(facts, indent=2) if as_json else facts["report"])


def _images(
    graph: Graph, preprocess: Preprocess, data: Path, calibration: int, evaluate: Path | None, views: int
) -> tuple[Tensor, Evaluation]:
    """The images to calibrate on, in all views, and those to measure on."""
    images = load_images(data, preprocess, calibration, Views(views))
    measured = load_images(evaluate, preprocess) if evaluate else images.plain(views)
    _warn_of_folders(evaluate or data, measured, graph)
    return images.images, Evaluation(measured.images, measured.labels, calibrated=evaluate is None)


def _load(model: str, weights: str | None, shape: str | None) -> Graph:
    """The graph of a model; what `check` warns of, and a map for an output, goes to stderr."""
    graph, findings = read_model(model, weights, _shape(shape))
    for finding in findings:
        if finding.severity is Severity.WARNING:
            typer.echo(str(finding), err=True)
    result = shapes(graph)[graph.output]
    if prod(result[1:]) > 1:
        typer.echo(
            f"warning: '{graph.output}': the output is a map of {'x'.join(map(str, result))}, and each of its "
            f"{prod(result)} values is taken for a class, by which widths are chosen and accuracy is told; for classes "
            "of whole images pool it globally",
            err=True,
        )
    return graph


def _warn_of_folders(folder: Path, images: ImageSet, graph: Graph) -> None:
    """Says where class folders need not be the network's classes; calibration itself needs no labels."""
    doubt = images.doubt(class_count(graph))
    if doubt:
        typer.echo(f"warning: {folder}: {doubt}", err=True)


def _named_build(arch: str | None, device: Device) -> ArchConfig | None:
    """The build of that name, which must fit; None without a name: what is found takes a search, after all else."""
    if arch is None:
        return None
    build = named_arch(arch)
    check_fit(build, device)
    return build


def _best_build(graph: Graph, device: Device) -> ArchConfig:
    """The explorer's best build for a network at four bits."""
    typer.echo(f"searching the best build for '{device.name}' ...", err=True)
    best = explore(graph, device, uniform(graph, 4).bits, front=False).arch
    typer.echo(f"build {best.name}: {best.array_dsps} array DSPs", err=True)
    check_fit(best, device)
    return best


def _shape(text: str | None) -> GraphShape | None:
    return None if text is None else parse_shape(text)
