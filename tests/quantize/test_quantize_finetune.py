"""Fine-tuning: the loss falls, an interrupted run continues bit for bit, several processes, and every refusal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bitloom.errors import DataError, TrainingError
from bitloom.graph.ir import Conv, Graph
from bitloom.graph.qgraph import QConv
from bitloom.quantize.augment import Augment, augmented
from bitloom.quantize.code_range import highest, lowest
from bitloom.quantize.finetune import FinetuneOptions, FinetuneResult, finetune
from quantize.small_networks import images, start

FAST = FinetuneOptions(steps=12, batch=16, latent_rate=0.02, scale_rate=0.005, augment=Augment(1), every=4, warmup=2)


def _same(a: FinetuneResult, b: FinetuneResult) -> bool:
    pairs = zip(a.qgraph.nodes, b.qgraph.nodes, strict=True)
    nodes = [(x, y) for x, y in pairs if isinstance(x, QConv) and isinstance(y, QConv)]
    return a.losses == b.losses and all(
        np.array_equal(x.weight, y.weight) and np.array_equal(x.bias, y.bias)
        and np.array_equal(x.requant.mult, y.requant.mult)
        for x, y in nodes
    )  # fmt: skip


def test_the_loss_falls_and_widths_hold() -> None:
    graph, calibration, first = start(choices=(0, 2, 2, 3))
    result = finetune(graph, calibration.lowered, first, images(64), options=replace(FAST, steps=60, every=20))
    assert len(result.losses) == 3 and result.losses[-1] < 0.8 * result.losses[0]
    for node in result.qgraph.nodes:
        if isinstance(node, QConv):
            flat = node.weight.reshape(len(node.bits), -1)
            assert (flat.max(axis=1) <= [highest(int(b)) for b in node.bits]).all()
            assert (flat.min(axis=1) >= [lowest(int(b)) for b in node.bits]).all()
            assert not flat[node.bits == 0].any()
    op, old = result.graph["c2"].op, graph["c2"].op
    assert isinstance(op, Conv) and isinstance(old, Conv) and op.weight.shape == old.weight.shape
    assert np.isfinite(op.weight).all() and not np.array_equal(op.weight, old.weight)


def test_an_interrupted_run_continues_bit_for_bit(tmp_path: Path) -> None:
    graph, calibration, first = start()
    whole = finetune(graph, calibration.lowered, first, images(40), options=FAST)

    class Stop(Exception):
        pass

    def interrupt(step: int, loss: float) -> None:
        if step == 8:
            raise Stop

    file = tmp_path / "run.pt"
    with pytest.raises(Stop):
        finetune(graph, calibration.lowered, first, images(40), options=FAST, checkpoint=file, report=interrupt)
    seen: list[int] = []
    continued = finetune(
        graph, calibration.lowered, first, images(40), options=FAST, checkpoint=file, report=lambda s, _: seen.append(s)
    )
    assert seen == [8, 12] and _same(whole, continued)
    with pytest.raises(DataError, match="a checkpoint of other options, images or another network"):
        finetune(graph, calibration.lowered, first, images(40), options=replace(FAST, seed=1), checkpoint=file)
    _, _, other = start(seed=1)
    with pytest.raises(DataError, match="another network"):
        finetune(graph, calibration.lowered, other, images(40), options=FAST, checkpoint=file)
    file.write_bytes(b"half a file")
    with pytest.raises(DataError, match="not a readable checkpoint"):
        finetune(graph, calibration.lowered, first, images(40), options=FAST, checkpoint=file)


def test_bad_input_is_refused() -> None:
    graph, calibration, first = start()

    def run(x: torch.Tensor, labels: np.ndarray | None = None, graph: Graph = graph, **changes: float) -> None:
        finetune(graph, calibration.lowered, first, x, labels, replace(FAST, **changes))

    with pytest.raises(DataError, match="10 images for batches of 16; give more images or a smaller batch"):
        run(images(10))
    with pytest.raises(DataError, match=r"label_weight = 0.5, but there are no labels"):
        run(images(20), label_weight=0.5)
    with pytest.raises(DataError, match=r"a training image has label 99, but the classes of '\w+' are 0 to \d"):
        finetune(graph, calibration.lowered, first, images(20), np.full(20, 99), replace(FAST, label_weight=0.5))
    with pytest.raises(DataError, match="3 labels for 20 images"):
        run(images(20), np.zeros(3, np.int64))
    broken = images(20)
    broken[7] = float("inf")
    with pytest.raises(DataError, match="fine-tuning images hold NaN or infinite pixels"):
        run(broken)
    with pytest.raises(TrainingError, match=r"step \d+: the loss is (nan|inf); lower the learning rates"):
        run(images(32), temperature=1e-39)


def test_labels_pull_towards_the_truth() -> None:
    graph, calibration, first = start(choices=(3, 4))
    x, labels = images(32), np.zeros(32, np.int64)
    result = finetune(
        graph, calibration.lowered, first, x, labels, replace(FAST, steps=60, every=20, label_weight=1.0, augment=None)
    )
    assert result.losses[-1] < 0.8 * result.losses[0]


def test_augmented_images_are_shifts_and_mirrors() -> None:
    x = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6)
    generator = torch.Generator().manual_seed(0)
    shifts = [torch.nn.functional.pad(x, (1, 1, 1, 1))[:, :, i : i + 6, j : j + 6] for i in range(3) for j in range(3)]
    legal = {t[n].numpy().tobytes() for t in shifts for n in (0, 1)}
    legal |= {t[n].flip(2).numpy().tobytes() for t in shifts for n in (0, 1)}
    seen = {augmented(x, Augment(1), generator)[n].contiguous().numpy().tobytes() for _ in range(50) for n in (0, 1)}
    assert seen <= legal and len(seen) > 20


SCRIPT = """
import os
from pathlib import Path
from quantize.small_networks import images, start
from bitloom.quantize.finetune import FinetuneOptions, finetune
graph, calibration, first = start()
options = FinetuneOptions(steps=4, batch=16, every=2, warmup=1)
result = finetune(graph, calibration.lowered, first, images(40), options=options)
name = "loss" + os.environ.get("RANK", "_alone")
(Path(__file__).parent / name).write_text(" ".join(f"{loss:.9f}" for loss in result.losses))
"""


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    here = Path(__file__).resolve().parents[1]
    env = {**os.environ, "PYTHONPATH": f"{here.parent / 'src'}:{here}", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for command in ([sys.executable], launch):
        done = subprocess.run(
            [*command, str(tmp_path / "run.py")], env=env, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, done.stderr
    alone, first, second = (
        np.array([float(v) for v in (tmp_path / f"loss{name}").read_text().split()]) for name in ("_alone", "0", "1")
    )
    assert np.array_equal(first, second)
    np.testing.assert_allclose(first, alone, rtol=0.05)
