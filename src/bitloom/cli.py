"""The command line: a thin layer over the Python API. Results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from bitloom import zoo
from bitloom.allocate.allocation import uniform
from bitloom.data.images import ImageSet, Preprocess, load_images
from bitloom.errors import BitloomError, DataError
from bitloom.explore.explorer import explore
from bitloom.flow import CompileOptions, Evaluation, compile_model
from bitloom.frontends.findings import Severity, format_findings
from bitloom.frontends.load import check_model, load_model
from bitloom.graph.ir import Graph, Input
from bitloom.graph.printer import format_graph
from bitloom.program.container import load
from bitloom.program.disassemble import disassemble
from bitloom.target.arch import named_arch
from bitloom.target.device import load_device

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Per-channel mixed precision, from CNN to FPGA.")

P = ParamSpec("P")
R = TypeVar("R")


def _clear_errors(command: Callable[P, R]) -> Callable[P, R]:
    """A user's mistake is one line on stderr and exit code 2, not a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BitloomError as error:
            typer.echo(f"bitloom: {error}", err=True)
            raise typer.Exit(2) from None

    return wrapped


Model = Annotated[str, typer.Argument(help="zoo name, ONNX file, or package.module:callable")]
Weights = Annotated[str | None, typer.Option(help="safetensors, npz or pth file")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")]


@app.command("check")
@_clear_errors
def check_command(model: Model, weights: Weights = None) -> None:
    """Lists everything in MODEL that the accelerator cannot run, and why."""
    findings = check_model(model, weights)
    typer.echo(format_findings(findings))
    if any(f.severity is Severity.UNSUPPORTED for f in findings):
        raise typer.Exit(2)


@app.command("show")
@_clear_errors
def show_command(model: Model, weights: Weights = None) -> None:
    """Prints MODEL as Bitloom sees it: layers, shapes, weights and multiplications."""
    typer.echo(format_graph(load_model(model, weights)))


@app.command("compile")
@_clear_errors
def compile_command(
    model: Model,
    data: Annotated[Path, typer.Option(help="calibration images; labelled ones also measure accuracy")],
    weights: Weights = None,
    evaluate: Annotated[Path | None, typer.Option(help="labelled images for accuracy (default: --data)")] = None,
    target: Annotated[str, typer.Option(help="device")] = "xczu15eg",
    arch: Annotated[str, typer.Option(help="named build: tiny, small, mid, full")] = "full",
    budget: Annotated[float, typer.Option(help="mean bits per weight")] = 4.0,
    calibration: Annotated[int, typer.Option(help="calibration images")] = 200,
    simulate: Annotated[int, typer.Option(help="images simulated on RTL (0: none)")] = 1,
    out: Annotated[Path, typer.Option(help="output folder")] = Path("out"),
    as_json: Json = False,
) -> None:
    """Quantizes MODEL, compiles it, runs it on the simulated accelerator and writes a report."""
    device, build = load_device(target), named_arch(arch)
    graph = load_model(model, weights)
    preprocess = _preprocess(model, graph)
    images = load_images(data, preprocess, calibration)
    labelled = load_images(evaluate, preprocess) if evaluate else images
    options = CompileOptions(budget=budget, simulated=simulate)
    facts = compile_model(graph, images.images, _labelled(labelled), build, device, out, options)
    typer.echo(json.dumps(facts, indent=2) if as_json else facts["report"])


@app.command("explore")
@_clear_errors
def explore_command(
    model: Model,
    target: Annotated[str, typer.Option(help="device")] = "xczu15eg",
    bits: Annotated[int, typer.Option(help="uniform width that is assumed")] = 4,
) -> None:
    """Bounds before anything is built: the best architecture for MODEL on a device by the models, as JSON."""
    device = load_device(target)
    graph = load_model(model)
    typer.echo(json.dumps(explore(graph, device, uniform(graph, bits).bits).record(), indent=2))


@app.command("disassemble")
@_clear_errors
def disassemble_command(program: Annotated[Path, typer.Argument(help="program file")]) -> None:
    """Prints the commands of a program file."""
    typer.echo(disassemble(load(program)))


def _preprocess(model: str, graph: Graph) -> Preprocess:
    op = graph.input.op
    assert isinstance(op, Input)
    channels, height, width = op.shape
    if model in zoo.NAMES:
        info = zoo.info(model)
        return Preprocess((channels, height, width), info.mean, info.std, 256 if height == 224 else 0)
    return Preprocess((channels, height, width), (0.5,) * channels, (0.5,) * channels)


def _labelled(images: ImageSet) -> Evaluation:
    if images.labels is None:
        raise DataError("the images have no labels; give --evaluate a folder with labels.txt or one folder a class")
    return Evaluation(images.images, images.labels)
