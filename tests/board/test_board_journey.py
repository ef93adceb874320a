"""A compile writes a board folder whose own self-test passes on the simulated accelerator."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import torch

from bitloom import zoo
from bitloom.data.images import Preprocess
from bitloom.evaluate import Evaluation
from bitloom.flow import CompileOptions, compile_model
from bitloom.frontends.torch_export import from_torch
from bitloom.program.container import load
from bitloom.target.device import load_device
from board.conftest import ARCH, HERE, SANITIZE, Board


def test_the_self_test_of_a_compile_passes(board: Board, tmp_path: Path) -> None:
    torch.manual_seed(1)
    graph = from_torch(zoo.build("digits"), (1, 8, 8), "digits")
    images = torch.rand(40, 1, 8, 8)
    options = CompileOptions(budget=3.0, simulated=0, preprocess=Preprocess((1, 8, 8), (0.0,), (1.0,)))
    device = load_device("xczu15eg")
    facts = compile_model(graph, images, Evaluation(images[:8], None), ARCH, device, tmp_path, options)
    folder = tmp_path / "board"
    assert facts["board"] == str(folder)
    assert load(folder / "program" / "program.bitloom").graph_hash == load(tmp_path / "program.bitloom").graph_hash
    assert len(json.loads((folder / "program" / "network.json").read_text())["pixel_codes"][0]) == 256
    with board.powered() as where:
        settings = (f"BACKEND={HERE / 'cpp' / 'bitloom_socket.c'}", f"CFLAGS={SANITIZE}", f"WHERE={where}")
        command = ["make", "-s", "-C", str(folder / "driver"), "selftest", *settings]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "equal to ../program/sample.result: 10 codes" in done.stdout, done.stderr


def test_no_board_folder_is_written_where_none_is_wanted_or_possible(tmp_path: Path) -> None:
    torch.manual_seed(1)
    graph = from_torch(zoo.build("digits"), (1, 8, 8), "digits")
    images = torch.rand(40, 1, 8, 8)
    for name, board in (("xczu15eg", False), ("xc7z020", True)):
        options = CompileOptions(simulated=0, board=board)
        out = tmp_path / name
        facts = compile_model(graph, images, Evaluation(images[:8], None), ARCH, load_device(name), out, options)
        assert facts["board"] is None and not (out / "board").exists()
