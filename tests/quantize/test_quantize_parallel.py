"""What a training loop knows about the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from bitloom.quantize import finetune as module
from bitloom.quantize.finetune import FinetuneOptions, finetune
from bitloom.quantize.parallel import has_bfloat16
from quantize.small_networks import images, start


def test_bfloat16_where_it_is_no_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_bfloat16("cuda:1")
    for found in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: {"avx512_bf16": found})
        assert has_bfloat16("cpu") is found


def test_a_processor_that_would_emulate_bfloat16_trains_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, calibration, begin = start()
    options = FinetuneOptions(steps=3, batch=8)

    def losses(mixed: bool, native: bool) -> tuple[float, ...]:
        monkeypatch.setattr(module, "has_bfloat16", lambda device: native)
        run = finetune(graph, calibration.lowered, begin, images(16), None, replace(options, mixed=mixed))
        return run.losses

    assert losses(True, native=False) == losses(False, native=False)
    assert losses(True, native=True) != losses(False, native=True)
