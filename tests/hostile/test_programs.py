"""Models that bring code: it writes nothing, ends, and what it says is one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from edgerestore.cli.app import run_command_line
from edgerestore.convert.checkpoint import confined_model as module
from edgerestore.convert.checkpoint.confined_model import confined_model
from edgerestore.convert.checkpoint.loaded_model import load_model
from edgerestore.convert.confinement import can_confine
from edgerestore.convert.verify import ort_network
from edgerestore.errors import CheckpointError, ConversionError, EdgerestoreError

from .programs import OWN, write_script

pytestmark = pytest.mark.skipif(not can_confine(), reason="no Landlock here")

KEPT = b"kept as it was\n!"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.write_bytes(KEPT)
    return path


def read_confined(path: Path, architecture: str | None = None, **arguments: object) -> None:
    with confined_model(path, architecture, arguments, None, None) as loaded:
        loaded.network(torch.zeros(1, 3, 8, 8).numpy())


def write_own(folder: Path) -> tuple[Path, str]:
    torch.save(
        {f"convolution.{k}": v for k, v in nn.Conv2d(3, 3, 1).state_dict().items()},
        folder / "own.pth",
    )
    (folder / "own.py").write_text(OWN)
    return folder / "own.pth", f"{folder / 'own.py'}:Own"


# What a confined process may do: cheap, since it imports nothing


ATTEMPTS = {
    "write": "open(target, 'w')",
    "append": "open(target, 'a')",
    "truncate": "os.truncate(target, 0)",
    "remove": "os.unlink(target)",
    "rename": "os.rename(target, target + '2')",
    "take": "os.rename(target, os.path.join(own, 'x'))",
    "replace": "(open(os.path.join(own, 'y'), 'w'), os.rename(os.path.join(own, 'y'), target))",
    "link": "os.link(target, os.path.join(own, 'z'))",
    "symlink": "os.symlink(target, os.path.join(own, 'z'))",
    "pipe": "os.mkfifo(os.path.join(own, 'pipe'))",
    "make": "open(target + '2', 'w')",
    "folder": "os.mkdir(target + '2')",
    "shell": "subprocess.run(['cp', '/bin/sh', target], check=True, stderr=-3)",
    "memory of the parent": "open(f'/proc/{os.getppid()}/mem', 'wb')",
    "privileges": "open('/proc/self/oom_score_adj', 'w')",
    "fill": "bytearray(1 << 46)",
    "fill the disk": "open(os.path.join(own, 'x'), 'wb').truncate(1 << 40)",
}


def attempt(code: str, target: Path, own: Path, *more: str) -> subprocess.CompletedProcess[str]:
    start = (
        "import os, signal, socket, subprocess, sys\n"
        "from edgerestore.convert.confinement import confine\n"
        "target, own = sys.argv[1:3]\n"
        "confine(own)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"{code}\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start, str(target), str(own), *more],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("name", ATTEMPTS)
def test_a_confined_process_changes_nothing_outside(
    name: str, target: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    before = sorted(tmp_path.iterdir())
    done = attempt(ATTEMPTS[name], target, own)
    assert done.returncode == 1
    assert "Error" in done.stderr
    assert target.read_bytes() == KEPT
    assert sorted(tmp_path.iterdir()) == before


def test_a_confined_process_writes_in_its_own_folder_and_reads(
    target: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    code = (
        "path = os.path.join(own, 'a')\n"
        "open(path, 'w').write(open(target).read()); os.rename(path, path + 'b')\n"
        "os.mkdir(path); os.rmdir(path); open(os.devnull, 'w').write('x')"
    )
    assert attempt(code, target, own).returncode == 0
    assert (own / "ab").read_bytes() == KEPT


def test_a_confined_process_opens_no_connection(target: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        code = "socket.create_connection(('127.0.0.1', int(sys.argv[3])))"
        done = attempt(code, target, tmp_path, port)
    if tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 7):
        assert "PermissionError" in done.stderr


# TorchScript


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Overwrites", "Saves"])
def test_torchscript_writes_no_file(kind: str, target: Path, tmp_path: Path) -> None:
    path = write_script(kind, tmp_path / "model.pt", target)
    target.write_bytes(KEPT)  # it is loaded once while it is written
    with suppress(EdgerestoreError):  # one line, or what it wrote went nowhere
        read_confined(path)
    assert target.read_bytes() == KEPT
    load_model(path, None, {}, None, None)  # as --trust does it
    assert target.read_bytes() != KEPT, "the program is harmless, so this test shows nothing"


@pytest.mark.slow
def test_torchscript_that_never_returns_is_ended(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 5.0)
    path = write_script("Loops", tmp_path / "model.pt", target)
    with pytest.raises(ConversionError, match=r"gave no answer in 5 s and was ended; --trust"):
        read_confined(path)


@pytest.mark.slow
def test_torchscript_that_fills_the_memory_is_one_line(target: Path, tmp_path: Path) -> None:
    path = write_script("Fills", tmp_path / "model.pt", target)
    with pytest.raises(ConversionError, match=r"model\.pt: ") as caught:
        read_confined(path)
    assert "\n" not in str(caught.value)


def test_torchscript_needs_trust_where_nothing_confines_it(
    target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_script("Halves", tmp_path / "model.pt", target)
    monkeypatch.setattr(module, "can_confine", lambda: False)
    assert run_command_line(["convert", str(path), "-o", str(tmp_path / "b")]) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "is a program, and this system cannot confine it" in told
    assert "add --trust" in told
    assert not (tmp_path / "b").exists()


@pytest.mark.slow
def test_a_confined_program_is_the_same_model(target: Path, tmp_path: Path) -> None:
    path = write_script("Halves", tmp_path / "model.pt", target)
    image = np.random.default_rng(0).random((1, 3, 20, 12), np.float32)
    trusted = load_model(path, None, {}, None, None)
    with confined_model(path, None, {}, None, None) as confined:
        np.testing.assert_array_equal(confined.network(image), trusted.network(image))
        np.testing.assert_array_equal(ort_network(confined.core)(image), image / 2)
        for name in ("kind", "channels", "architecture", "arguments", "declared", "output_kind"):
            assert getattr(confined, name) == getattr(trusted, name)


# Networks of one's own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("write", "PermissionError"),
        ("exit", "its process ended before it answered (exit code 3)"),
        ("crash", "its process was ended by SIGSEGV"),
        ("steer", "ValueError"),
    ],
)
def test_a_network_of_ones_own_is_confined(
    does: str, said: str, target: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights, own = write_own(tmp_path)
    arguments = ["--arch", own, "--arch-arg", f"does={does}", "--arch-arg", f"target={target}"]
    code = run_command_line(["convert", str(weights), "-o", str(tmp_path / "b"), *arguments])
    told = capfd.readouterr().err
    assert code == 1
    assert said in told
    assert all(line.isprintable() for line in told.splitlines())
    assert target.read_bytes() == KEPT
    assert not (tmp_path / "b").exists()


ANSWERS: dict[str, object] = {
    "nothing": b"",
    "no message": b"\xc1",
    "a number": 7,
    "an error of no class": {"type": "_Failed", "kind": "counted", "message": "x"},
    "an error of another class": {"type": "_Failed", "kind": "SystemExit", "message": "x"},
    "an outcome in place of a model": {"type": "_Made", "shape": [1], "values": b"abcd"},
    "channels of text": {"type": "_Read", "channels": "3"},
    "no graph": {
        "type": "_Read", "channels": 3, "core_residual": False, "network_residual": False,
        "output_kind": "image", "pair_px": None, "declared": {},
    },
    "a side of 0": {
        "type": "_Read", "channels": 3, "core_residual": False, "network_residual": False,
        "output_kind": "image", "pair_px": None, "declared": {"multiple_of": 0},
    },
}  # fmt: skip

_PUPPET = (
    "import sys; from multiprocessing.connection import Connection\n"
    "connection = Connection(int(sys.argv[1])); connection.recv_bytes()\n"
    "connection.send_bytes(bytes.fromhex('{}'))"
)


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_confined_process_says_is_not_trusted(
    name: str, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_script("Halves", tmp_path / "model.pt", target)
    answer = ANSWERS[name]
    text = answer if isinstance(answer, bytes) else msgspec.msgpack.encode(answer)
    monkeypatch.setattr(module, "_START", _PUPPET.format(text.hex()))
    with pytest.raises((ConversionError, CheckpointError)) as caught:
        read_confined(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "declared",
    [{"multiple_of": 0}, {"value_range": 0}, {"value_range": "x"}, {"black": float("nan")},
     {"color": "cmyk"}, {"window_px": -1}, {"minimum_px": 1 << 40}],
)  # fmt: skip
def test_what_a_network_declares_is_checked(declared: dict[str, Any], tmp_path: Path) -> None:
    weights, own = write_own(tmp_path)
    with pytest.raises(ConversionError, match=f"declares what is none: .*{next(iter(declared))}"):
        load_model(weights, own, declared, None, None)


def test_arguments_that_cannot_be_given_are_told(tmp_path: Path) -> None:
    weights, own = write_own(tmp_path)
    with pytest.raises(EdgerestoreError, match="cannot be given to a confined process"):
        read_confined(weights, own, does=lambda: None)
