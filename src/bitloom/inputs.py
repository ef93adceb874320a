"""What a journey is given: refused in the user's words where no later step would say it, and its identity."""

from __future__ import annotations

import hashlib
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from bitloom.errors import DataError, GraphError, TargetError
from bitloom.evaluate import Evaluation
from bitloom.graph.execute import check_images
from bitloom.graph.ir import Conv, Graph, Linear
from bitloom.graph.shapes import class_count
from bitloom.target.arch import ArchConfig
from bitloom.target.device import Device


def check_build(arch: ArchConfig) -> None:
    """TargetError unless `arch` is the record of a build."""
    if not isinstance(arch, ArchConfig):
        raise TargetError(f"arch = {arch!r}; must be an ArchConfig, for example named_arch('small')")


def check_device(device: Device) -> None:
    """TargetError unless `device` is one."""
    if not isinstance(device, Device):
        raise TargetError(f"device = {device!r}; must be a Device, for example load_device('xczu15eg')")


def check_task(graph: Graph, evaluation: Evaluation) -> None:
    """GraphError: nothing to quantize, no classes; DataError: no Evaluation, a label that is no class of the graph."""
    if not isinstance(evaluation, Evaluation):
        raise DataError(f"evaluation is a {type(evaluation).__name__}; must be Evaluation(images, labels)")
    if not any(isinstance(node.op, Conv | Linear) for node in graph.nodes):
        raise GraphError(f"'{graph.name}' has no layer with weights; there is nothing to quantize")
    classes = class_count(graph)
    if classes < 2:
        raise GraphError(
            f"'{graph.name}' has one output, but widths are chosen by what they do to the classes of images; give it "
            "one logit a class (for yes or no: a second row of zeros in the last layer)"
        )
    labels = np.zeros(0, np.int64) if evaluation.labels is None else evaluation.labels
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        raise DataError(
            f"an image has label {wrong[0]}, but the classes of '{graph.name}' are 0 to {classes - 1}; correct "
            "labels.txt or the class folders, or give a flat folder without labels"
        )


def usable(graph: Graph, images: Tensor, what: str) -> Tensor:
    """The images as float32, contiguous, without a gradient. DataError that calls them `what`."""
    if not (isinstance(images, Tensor) and images.dim() == 4 and not len(images)):  # none: counted by `split_pictures`
        check_images(graph, images, what)
    return images.detach().to("cpu", torch.float32).contiguous()


def identity(graph: Graph, images: Tensor) -> str:
    """Of a graph, attributes and weights of its nodes included, and of a set of images: hexadecimal."""
    digest = hashlib.sha256(f"{graph.name} {graph.output} {tuple(images.shape)}".encode())
    for node in graph.nodes:
        digest.update(f"{node.name} {node.inputs} {type(node.op).__name__}".encode())
        for field in fields(node.op):
            value = getattr(node.op, field.name)
            if isinstance(value, np.ndarray):
                digest.update(f"{value.shape}".encode() + value.tobytes())
            else:
                digest.update(f"{field.name} {value}".encode())
    digest.update(images.contiguous().numpy().tobytes())
    return digest.hexdigest()
