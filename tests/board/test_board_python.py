"""Pictures through the network's table, and the binding for Python, both on the simulated accelerator."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from bitloom.board.network import network_facts, write_network
from bitloom.data.images import Preprocess, load_images
from bitloom.program.commands import COUNTERS
from bitloom.program.container import save
from bitloom.reference.fast import quantize_input, run_fast
from board.conftest import DRIVER, Board, Case, case, make

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    make(folder, "libbitloom.so", "-O2")
    return folder / "libbitloom.so"


@pytest.fixture(scope="module")
def binding() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bitloom_board", DRIVER / "bitloom_board.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bitloom_board"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def preprocess_of(what: Case) -> Preprocess:
    shape = what.graph.tensors[what.graph.input].shape
    return Preprocess(shape, MEAN[: shape[0]], STD[: shape[0]], min(shape[1:]))


@pytest.mark.parametrize("seed", [38, 34])
def test_a_picture_file_becomes_the_codes_of_the_compiler(board: Board, seed: int, tmp_path: Path) -> None:
    """Three channels (PPM) and one (PGM): bitloom_run gives what load_images and the integer reference give."""
    what = case(seed)
    channels, height, width = what.graph.tensors[what.graph.input].shape
    assert channels == (3 if seed == 38 else 1)
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    Image.fromarray(pixels if channels == 3 else pixels[:, :, 0]).save(tmp_path / "image.png")
    head = f"P{6 if channels == 3 else 5}\n# a comment\n{width} {height}\n255\n"
    picture = tmp_path / "image.ppm"
    picture.write_bytes(head.encode() + pixels.tobytes())
    loaded = load_images(tmp_path, preprocess_of(what)).images
    expected = run_fast(what.graph, quantize_input(what.graph, loaded))[what.graph.output]
    facts = network_facts(what.graph, what.program, loaded, preprocess_of(what))
    write_network(facts, tmp_path)
    assert (tmp_path / "sample.result").read_bytes() == expected.tobytes()
    program = tmp_path / "program.bitloom"
    save(what.program, program)
    network, sample = str(tmp_path / "network.json"), str(tmp_path / "sample.result")
    with board.powered() as where:
        arguments = ("--network", network, "--expect", sample, str(program), str(picture))
        outcome = board.run("--where", where, *arguments)
    assert outcome.code == 0 and f"equal to {sample}: {expected.size} codes" in outcome.out, outcome.err
    output = what.graph.tensors[what.graph.output]
    best = int(expected.argmax())
    value = (int(expected.ravel()[best]) - output.zero_point) * output.scale
    assert f"  class {best}  code {expected.ravel()[best]}  value {value:.6g}\n" in outcome.out
    picture.write_bytes(head.encode() + pixels.tobytes()[:-1])
    (tmp_path / "sample.result").write_bytes(b"\x7f" * expected.size)
    wrong_size = tmp_path / "wide.ppm"
    wrong_size.write_bytes(head.replace(str(width), str(width + 1)).encode() + pixels.tobytes())
    codes = str(tmp_path / "sample0.codes")
    for arguments, text in (
        (("--network", network, str(program), str(picture)), "is truncated"),
        (("--network", network, str(program), str(wrong_size)), f"channels of {width + 1} x {height}"),
        (("--expect", sample, str(program), codes), f"of {expected.size} codes differ from"),
    ):
        with board.powered() as where:
            outcome = board.run("--where", where, *arguments)
        assert outcome.code == 1 and text in outcome.err


def test_a_table_of_another_network(board: Board, tmp_path: Path) -> None:
    what, other = case(34), case(38)
    write_network(network_facts(other.graph, other.program, torch.zeros(1, 3, 8, 12), preprocess_of(other)), tmp_path)
    program, images = board.write(what)
    for text, change in (("belongs to another network", ""), ("is not a network.json", "[]")):
        if change:
            (tmp_path / "network.json").write_text(change)
        with board.powered() as where:
            outcome = board.run("--where", where, "--network", str(tmp_path / "network.json"), program, *images)
        assert outcome.code == 1 and text in outcome.err


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Case, Path, Path]]:
    what = case(36, batch=3)
    save(what.program, tmp_path / "program.bitloom")
    write_network(network_facts(what.graph, what.program, torch.zeros(2, 4, 11, 7), None), tmp_path)
    yield what, tmp_path / "program.bitloom", tmp_path / "network.json"


def test_python_runs_a_batch(board: Board, library: Path, binding: ModuleType, files: tuple[Case, Path, Path]) -> None:
    what, program, network = files
    assert len(list(program.parent.glob("sample?.codes"))) == 3
    with (
        board.powered(0.1) as where,
        binding.Accelerator(program, network=network, where=where, library=library) as accelerator,
    ):
        assert accelerator.input_shape == what.images.shape and accelerator.output_shape == what.expected.shape
        for _ in range(2):
            result = accelerator.run(what.images)
            assert (result.codes == what.expected).all()
        record = json.loads(network.read_text())
        values = (what.expected - float(record["output_zero_point"])) * record["output_scale"]
        assert (result.values == values).all() and tuple(result.counters) == COUNTERS
        with pytest.raises(ValueError, match=r"images: int8 \(1, 4, 11, 7\); must be int8 \(3, 4, 11, 7\)"):
            accelerator.run(what.images[:1])
        with pytest.raises(ValueError, match="how pixels become codes is not known"):
            accelerator.codes(np.zeros((11, 7, 4), np.uint8))


def test_after_an_error_the_next_run_is_exact(
    board: Board, library: Path, binding: ModuleType, files: tuple[Case, Path, Path]
) -> None:
    what, program, _ = files
    with (
        board.powered(fault=("response", "w0", "20", "0")) as where,
        binding.Accelerator(program, where=where, library=library) as accelerator,
    ):
        with pytest.raises(binding.BoardError, match=r"error 4 \(AXI_WEIGHTS\) in layer") as caught:
            accelerator.run(what.images)
        assert (caught.value.status, caught.value.hardware) == (6, 4)
        assert (accelerator.run(what.images).codes == what.expected).all()


def test_python_says_what_is_wrong(
    board: Board, library: Path, binding: ModuleType, files: tuple[Case, Path, Path], tmp_path: Path
) -> None:
    _, program, _ = files
    with pytest.raises(binding.BoardError, match="run `make` in the driver's folder"):
        binding.Accelerator(program, library=tmp_path / "none.so")
    with pytest.raises(binding.BoardError, match="cannot read"):
        binding.Accelerator(tmp_path / "none.bitloom", library=library)


def test_pixels_through_the_table_in_python(board: Board, library: Path, binding: ModuleType, tmp_path: Path) -> None:
    what = case(38)
    save(what.program, tmp_path / "p")
    write_network(network_facts(what.graph, what.program, torch.zeros(1, 3, 8, 12), preprocess_of(what)), tmp_path)
    pixels = np.random.default_rng(1).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    normal = (pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    expected = quantize_input(what.graph, torch.from_numpy(normal.astype(np.float32)).permute(2, 0, 1)[None])
    network = tmp_path / "network.json"
    with (
        board.powered() as where,
        binding.Accelerator(tmp_path / "p", network=network, where=where, library=library) as accelerator,
    ):
        assert (accelerator.codes(pixels) == expected[0]).all()
        with pytest.raises(ValueError, match=r"must be uint8 \(8, 12, 3\): resize them"):
            accelerator.codes(pixels[:4])
