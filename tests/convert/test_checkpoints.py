"""Reading weights out of whatever a trainer saved, and never running what it saved."""

from __future__ import annotations

import argparse
import io
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgerestore.convert.checkpoint.files import (
    SourceKind,
    load_folder,
    load_state,
    recognise,
    unwrap,
)
from edgerestore.convert.graph.export import export_program
from edgerestore.errors import CheckpointError

WEIGHTS = {"first.weight": torch.ones(2, 2), "first.bias": torch.zeros(2)}
OTHER = {name: value + 1 for name, value in WEIGHTS.items()}


class Trap:
    """Unpickled by an unsafe reader, this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.system, (f"touch {self.path}",)


def same(state: dict[str, Tensor], wanted: dict[str, Tensor] = WEIGHTS) -> bool:
    return state.keys() == wanted.keys() and all(torch.equal(state[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize(
    "wrapped",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3},
        {"params": OTHER, "params_ema": WEIGHTS},
        {"params": WEIGHTS},
        {"model_state_dict": WEIGHTS, "optimizer_state_dict": {"state": {0: {"m": torch.ones(1)}}}},
        {"model": WEIGHTS, "args": {"width": 3}},
        {"model": {"state_dict": WEIGHTS}},
        {"net": WEIGHTS},
        {"generator": WEIGHTS, "discriminator": OTHER},
        {"my_name_for_it": WEIGHTS, "epoch": 1},
        {"state_dict": {f"module.{name}": value for name, value in WEIGHTS.items()}},
        {f"_orig_mod.module.{name}": value for name, value in WEIGHTS.items()},
        {
            "network": OTHER,
            "average": {
                "n_averaged": torch.tensor(4),
                **{f"module.{name}": value for name, value in WEIGHTS.items()},
            },
        },
    ],
)
def test_wrappings_are_taken_off(wrapped: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    torch.save(wrapped, path)
    assert recognise(path) is SourceKind.STATE_DICT
    assert same(load_state(path))


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("wrapped", "said"),
    [
        ({"params": OTHER, "params_ema": WEIGHTS}, "params_ema"),
        ({"state_dict": prefixed("net", OTHER) | prefixed("net_ema", WEIGHTS)}, "net_ema, not net"),
        (
            {
                **prefixed("online_model", OTHER),
                **prefixed("ema_model", WEIGHTS),
                "initted": torch.tensor(True),
                "step": torch.tensor(7),
            },
            "ema_model, not online_model",
        ),
        (
            # Buffers whose names may hold no dots.
            {
                **prefixed("model", OTHER),
                **{f"model_ema.{k.replace('.', '')}": v for k, v in WEIGHTS.items()},
                "model_ema.decay": torch.tensor(0.999),
            },
            "model_ema, not model",
        ),
        ({"net_g_ema": WEIGHTS, "net_g": OTHER}, "net_g_ema"),
    ],
)
def test_averaged_weights_are_preferred_and_said(
    wrapped: dict[str, Any], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "weights.ckpt"
    torch.save(wrapped, path)
    with caplog.at_level(logging.INFO):
        assert same(load_state(path))
    assert f"the averaged weights are taken: {said}" in caplog.text


def test_a_part_that_is_only_called_ema_is_no_average() -> None:
    state = prefixed("ema", WEIGHTS) | prefixed("head", {"weight": torch.ones(1)})
    assert same(unwrap(state), state)


def test_arguments_that_lightning_keeps_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    arguments = argparse.Namespace(width=8, inner=argparse.Namespace(depth=2))
    torch.save({"state_dict": WEIGHTS, "hyper_parameters": arguments}, path)
    assert same(load_state(path))


def test_several_unnamed_sets_of_weights_are_not_guessed_between() -> None:
    with pytest.raises(CheckpointError, match=r"several sets of weights \(left, right\)"):
        unwrap({"left": WEIGHTS, "right": OTHER})


def test_kind_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    save_file(WEIGHTS, path)
    assert recognise(path) is SourceKind.SAFETENSORS
    assert same(load_state(path))
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert recognise(path) is SourceKind.STATE_DICT
    assert same(load_state(path))


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_never_run(zipped: bool, tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "trap.pth"
    torch.save({"state_dict": Trap(sprung)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="never executed; save the weights alone") as caught:
        load_state(path)
    assert "\n" not in str(caught.value)
    assert not sprung.exists()


def test_plain_pickle_is_refused_and_never_run(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "trap.pt"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(CheckpointError, match="never executed"):
        load_state(path)
    assert not sprung.exists()


def test_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(nn.Conv2d(1, 1, 1), path)
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.conv\.Conv2d"):
        load_state(path)


def test_code_hidden_in_an_exported_program_is_never_run(tmp_path: Path) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "program.pt2"
    program = torch.export.export(nn.Conv2d(1, 1, 1), (torch.rand(1, 1, 8, 8),))
    plain = io.BytesIO()
    torch.export.save(program, plain)
    trap = io.BytesIO()
    torch.save(Trap(sprung), trap)
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(path, "w") as write:
        for name in read.namelist():
            content = read.read(name)
            if "/weights/weight_" in name or name.endswith("sample_inputs/model.pt"):
                content = trap.getvalue()
            if name.endswith("model_weights_config.json"):
                content = content.replace(b'"use_pickle": false', b'"use_pickle": true')
            write.writestr(name, content)
    assert recognise(path) is SourceKind.EXPORTED
    with pytest.raises(CheckpointError):
        export_program(path)
    assert not sprung.exists()


def test_bad_files_say_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with pytest.raises(CheckpointError, match="No such file"):
        recognise(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="empty"):
        recognise(path)
    path.write_text("hello, these are no weights at all")
    with pytest.raises(CheckpointError, match="is no PyTorch checkpoint"):
        recognise(path)
    assert recognise(tmp_path) is SourceKind.FOLDER
    with pytest.raises(CheckpointError, match="holds no state dict"):
        load_folder(tmp_path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_truncated_files_are_told(form: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if form == "safetensors":
        save_file({"weight": torch.ones(64, 64)}, path)
    else:
        torch.save(
            {"weight": torch.ones(64, 64)}, path, _use_new_zipfile_serialization=form == "zip"
        )
    whole = path.read_bytes()
    for share in (0.02, 0.6):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CheckpointError, match="truncated|damaged") as caught:
            load_state(path)
        assert "\n" not in str(caught.value)


def test_no_weights_at_all(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 4}, path)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_state(path)


UNFIT = {
    "NaN": (torch.tensor([1.0, float("nan")]), "holds NaN or infinity"),
    "infinity": (torch.tensor([float("inf"), 0.0]), "holds NaN or infinity"),
    "meta": (torch.empty(3, 3, device="meta"), "has a shape and no numbers"),
    "sparse": (torch.eye(3).to_sparse(), "is sparse_coo; save it dense"),
    "stride 0": (torch.zeros(1).expand(1 << 20, 1 << 20), r"claims 4.4e\+03 GB"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_weights_that_are_no_numbers_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    value, told = UNFIT[kind]
    path = tmp_path / "model.pth"
    torch.save({**WEIGHTS, "second.weight": value}, path)
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match=rf"model.pth: second.weight {told}"):
        load_state(path)


def test_an_archive_that_grows_is_refused_before_it_is_read(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.pth", tmp_path / "model.pth"
    torch.save({"first.weight": torch.zeros(1 << 24)}, plain)
    with (
        zipfile.ZipFile(plain) as stored,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    assert path.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match=r"model.pth: is compressed and would grow to 0.0671"):
        load_state(path)
