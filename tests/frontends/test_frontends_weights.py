"""Weight files: every format, every way to be wrong, and no code that runs."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bitloom.errors import WeightsError
from bitloom.frontends.weights import load_into, load_state_dict

FORMATS = ["w.safetensors", "w.npz", "w.pth", "w.pt", "w.th"]


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    elif path.suffix == ".npz":
        np.savez(path, **{key: value.numpy() for key, value in tensors.items()})
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("meta", [False, True])
def test_every_format_loads_into_a_module(name: str, meta: bool, tmp_path: Path) -> None:
    source = net()
    path = write(tmp_path / name, source.state_dict())
    with torch.device("meta" if meta else "cpu"):
        target = net()
    load_into(target, path)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


def test_data_parallel_and_checkpoint_wrappings_are_removed(tmp_path: Path) -> None:
    state = {f"module.{key}": value for key, value in net().state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "best": 0.5}, tmp_path / "w.th")
    assert list(load_state_dict(tmp_path / "w.th")) == list(net().state_dict())
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "mixed.pt")
    assert set(load_state_dict(tmp_path / "mixed.pt")) == {"module.a", "b"}


def test_counters_may_be_missing_and_types_are_cast(tmp_path: Path) -> None:
    state = {key: value.half() for key, value in net().state_dict().items() if "num_batches" not in key}
    with torch.device("meta"):
        target = net()
    load_into(target, write(tmp_path / "w.npz", state))
    assert target[0].weight.dtype == torch.float32
    assert target[1].num_batches_tracked.item() == 0


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_files_are_refused(name: str, tmp_path: Path) -> None:
    whole = write(tmp_path / name, {"a": torch.randn(100, 100)}).read_bytes()
    for cut in (0, 5, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(WeightsError, match=rf"weights file '.*{name}' (cannot be read|was refused)"):
            load_state_dict(tmp_path / name)


def test_a_whole_module_is_refused_by_the_name_of_what_it_holds(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        load_state_dict(tmp_path / "w.pth")
    text = str(caught.value)
    assert text.endswith("save the state_dict alone, as .safetensors (it holds torch.nn.modules.linear.Linear)")


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("name", ["w.pth", "w.th", "legacy.pt", "w.npz"])
def test_code_in_a_file_never_runs(name: str, tmp_path: Path) -> None:
    path, fired = tmp_path / name, tmp_path / "fired"
    if name == "legacy.pt":
        path.write_bytes(pickle.dumps({"a": Bomb(fired)}))
    elif name == "w.npz":
        np.savez(path, a=np.array([Bomb(fired)], dtype=object), allow_pickle=True)
    else:
        torch.save({"a": Bomb(fired)}, path)
    with pytest.raises(WeightsError, match=r"was refused: .*save the state_dict alone|cannot be read"):
        load_state_dict(path)
    assert not fired.exists()


def test_files_that_hold_no_tensors_are_refused(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds list, must be a dict of tensors"):
        load_state_dict(tmp_path / "list.pt")
    torch.save({"a": 3}, tmp_path / "int.pt")
    with pytest.raises(WeightsError, match="'a' is a int, must be a tensor"):
        load_state_dict(tmp_path / "int.pt")
    with pytest.raises(WeightsError, match=r"does not exist; give a path ending in .safetensors, .npz"):
        load_state_dict(tmp_path / "none.pt")
    (tmp_path / "w.bin").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"ends in '.bin'; legal: .safetensors"):
        load_state_dict(tmp_path / "w.bin")


def _state(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = {**net().state_dict(), **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in state.items() if value is not None}


def test_a_missing_key_shows_both_shapes_and_the_nearest_key(tmp_path: Path) -> None:
    state = _state(**{"0__weight": None})
    state["0.weights"] = torch.zeros(3, 2, 5, 5)
    text = r"lacks '0.weight' \(3, 2, 3, 3\); nearest: '0.weights' \(3, 2, 5, 5\) \(1 keys missing, 1 unexpected\)"
    with pytest.raises(WeightsError, match=text):
        load_into(net(), write(tmp_path / "w.pt", state))


def test_an_unexpected_key_is_named(tmp_path: Path) -> None:
    state = {**net().state_dict(), "2.weight": torch.zeros(7)}
    with pytest.raises(WeightsError, match=r"has '2.weight' \(7,\), which the model lacks; nearest: '[01].weight'"):
        load_into(net(), write(tmp_path / "w.pt", state))


@pytest.mark.parametrize(
    ("shape", "hint"), [((4, 2, 3, 3), "is the number of classes right"), ((3, 2, 1, 1), "is it the same network")]
)
def test_a_wrong_shape_shows_both_shapes(shape: tuple[int, ...], hint: str, tmp_path: Path) -> None:
    state = _state(**{"0__weight": torch.zeros(shape)})
    text = rf"'0.weight' has shape \({', '.join(map(str, shape))}\), but the model needs \(3, 2, 3, 3\); {hint}"
    with pytest.raises(WeightsError, match=text):
        load_into(net(), write(tmp_path / "w.pt", state))


def test_values_that_are_not_finite_are_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    bad = torch.zeros(3, 2, 3, 3)
    bad[1, 1, 2, 0] = float("-inf")
    target = net()
    before = target[0].bias.clone()
    with pytest.raises(WeightsError, match=r"'0.weight': 1 of 54 values .* first at index \(1, 1, 2, 0\) \(-inf\)"):
        load_into(target, write(tmp_path / "w.pt", _state(**{"0__weight": bad})))
    assert torch.equal(before, target[0].bias)
