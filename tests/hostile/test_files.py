"""Files of weights and graphs that were made to do harm: one line, and nothing of them runs."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from edgerestore.cli.app import run_command_line
from edgerestore.convert.checkpoint.files import SourceKind, load_state, recognise
from edgerestore.convert.graph.export import export_program
from edgerestore.convert.graph.onnx_graphs import read_onnx
from edgerestore.errors import EdgerestoreError

from .fuzz import damaged, fuzz

STEERING = "\x1b]0;title\x07\x1b[2J\u202e\ud800"


class Runs:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def saved(content: object, *, archive: bool = True) -> bytes:
    written = io.BytesIO()
    torch.save(content, written, _use_new_zipfile_serialization=archive)
    return written.getvalue()


def bomb() -> bytes:
    """Pack a gigabyte of zeros into a megabyte."""
    written = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(saved({"a": torch.ones(2)}))) as plain,
        zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
        packed.writestr("archive/data/1", bytes(1 << 26))
    return written.getvalue()


def graph(name: str = "weights") -> bytes:
    value = helper.make_tensor_value_info
    sides: list[int | str | None] = [1, 3, "height", "width"]
    weights = numpy_helper.from_array(np.zeros((3, 3, 3, 3), np.float32), name)
    made = helper.make_graph(
        [helper.make_node("Conv", ["image", name], ["restored"], pads=[1] * 4)],
        "graph",
        [value("image", TensorProto.FLOAT, sides)],
        [value("restored", TensorProto.FLOAT, sides)],
        [weights],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def elsewhere(location: str) -> bytes:
    """Name weights that lie outside the folder."""
    model = onnx.load_from_string(graph())
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location
    return bytes(model.SerializeToString())


# Nothing of these is a model; each has its line.
FILES: dict[str, Callable[[Path], bytes]] = {
    "pickled code": lambda ran: pickle.dumps(Runs(ran), 2),
    "pickled code in an archive": lambda ran: saved({"weight": Runs(ran)}),
    "pickled code among weights": lambda ran: saved(
        {"a.weight": torch.ones(3), "b": [Runs(ran)]}, archive=False
    ),
    "a bomb": lambda _: bomb(),
    "weights without numbers": lambda _: saved({"a": torch.ones(4, device="meta"), "b": 1}),
    "weights of stride 0": lambda _: saved({"a": torch.ones(1).expand(1 << 40), "b": 1}),
    "sparse weights": lambda _: saved({"a": torch.eye(3).to_sparse(), "b": 1}),
    "weights of NaN": lambda _: saved({"a": torch.full((3,), torch.nan), "b": 1}),
    "names that steer a terminal": lambda _: saved({f"a{STEERING}": torch.ones(3)}),
    "deep": lambda _: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "names in no encoding": lambda _: graph("weights").replace(b"weights", b"\xff\xfe\x1b[2J!"),
    "weights elsewhere": lambda _: elsewhere("../../../etc/passwd"),
    "weights of a device": lambda _: elsewhere("/dev/zero"),
    "a long header": lambda _: (1 << 60).to_bytes(8, "little") + b'{"a":1}',
    "a deep header": lambda _: (100_000).to_bytes(8, "little") + b"{" + b'"a":{' * 19_999 + b"    ",
    "nothing": lambda _: b"",
    "a zip of nothing": lambda _: b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("name", FILES)
def test_it_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, ran = tmp_path / "model", tmp_path / "ran"
    path.write_bytes(FILES[name](ran))
    assert run_command_line(["convert", str(path), "-o", str(tmp_path / "bundle")]) == 1
    *progress, told = capsys.readouterr().err.splitlines()
    assert told.startswith("edgerestore: ")
    assert len(told) < 1000
    assert all(line.isprintable() for line in (*progress, told))
    assert not any("Traceback" in line for line in progress)
    assert list(tmp_path.iterdir()) == [path]


WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}


def read(path: Path) -> None:
    """Read a file as conversion does, as far as no program runs."""
    kind = recognise(path)
    if kind in (SourceKind.STATE_DICT, SourceKind.SAFETENSORS):
        load_state(path, kind)
    elif kind is SourceKind.ONNX:
        read_onnx(path)
    elif kind is SourceKind.EXPORTED:
        export_program(path)


def test_fuzz_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, ran = tmp_path / "model", tmp_path / "ran"
    whole = [
        saved(WEIGHTS),
        saved(WEIGHTS, archive=False),
        saved({"weight": Runs(ran)}),
        pickle.dumps(Runs(ran), 2),
        safetensors.torch.save(WEIGHTS),
        graph(),
    ]

    def target(content: bytes) -> None:
        path.write_bytes(content)
        with suppress(EdgerestoreError):
            read(path)
        assert list(tmp_path.iterdir()) == [path]

    fuzz(damaged(whole), target)
