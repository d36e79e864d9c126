"""Compiled models between runs: shared by processes that start together, and never half of one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgerestore
from edgerestore.bundle.bundle import Bundle
from edgerestore.runtimes import compiled_models

from ..bundles import write_bundle

PROCESSES = 4
# Forked once everything is imported, so that they load the model at the same moment.
START = """
import os, sys, numpy as np, openvino, edgerestore
from edgerestore.engine.load import load

def start(path):
    restorer = load(path, precision="fp32")
    return int(restorer(np.full((48, 64, 3), 99, np.uint8)).sum())

def started_together(path, count):
    for _ in range(count):
        if not os.fork():
            os.write(1, f"{start(path)}\\n".encode())  # in one piece
            os._exit(0)
    return [os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(count)]
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGERESTORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def restore(bundle: Bundle, picture) -> Callable[[], np.ndarray]:
    """Load the model, which compiles it or finds it compiled, and restore a picture."""

    def one() -> np.ndarray:
        with edgerestore.load(bundle.folder, precision="fp32") as restorer:
            return restorer(picture(48, 64))

    return one


def run(code: str, bundle: Bundle, cache: Path, *more: str) -> list[str]:
    """Run code after `START` with a cache; return the lines that it prints."""
    env = {**os.environ, "EDGERESTORE_CACHE": str(cache.parent)}
    command = [sys.executable, "-c", START + code, str(bundle.folder), *more]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


def check_cold_starts(bundle: Bundle, cache: Path, rounds: int) -> None:
    code = """
for number in range(int(sys.argv[2])):
    os.environ["EDGERESTORE_CACHE"] = f"{sys.argv[3]}/{number}"
    print(started_together(sys.argv[1], int(sys.argv[4])), flush=True)
"""
    said = run(code, bundle, cache, str(rounds), str(cache), str(PROCESSES))
    assert said.count(str([0] * PROCESSES)) == rounds, said
    assert len(set(said)) == 2, "the processes restored different pixels"
    for number in range(rounds):
        (entry,) = (cache / str(number) / "openvino").iterdir()
        kinds = sorted(path.suffix for path in entry.iterdir())
        assert kinds == [".blob", ".json"], "they kept each their own, or left something"


def test_processes_that_start_together_share_one_compiled_model(bundle, cache):
    check_cold_starts(bundle, cache, 3)


@pytest.mark.soak
def test_two_hundred_cold_starts(bundle, cache):
    check_cold_starts(bundle, cache, 200)


def blob(cache: Path) -> Path:
    (found,) = cache.glob("*/*.blob")
    return found


def rewrite(path: Path, content: bytes) -> None:
    path.unlink()  # it is read-only
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_a_damaged_compiled_model_is_made_anew(cache, restore, caplog, damage):
    expected = restore()
    whole = blob(cache).read_bytes()
    changed = bytearray(whole)
    for at in range(len(changed) // 2, len(changed), 7):
        changed[at] ^= 0x55
    match damage:
        case "gone":
            blob(cache).unlink()
        case "flipped":
            rewrite(blob(cache), bytes(changed))
        case "cut":
            rewrite(blob(cache), whole[:-1])
        case "empty":
            rewrite(blob(cache), b"")
    np.testing.assert_array_equal(restore(), expected)
    assert "is damaged; the model is compiled anew" in caplog.text
    caplog.clear()
    np.testing.assert_array_equal(restore(), expected)
    assert not caplog.text


def test_a_compiled_model_is_found_again(cache, restore):
    restore()
    before = blob(cache).stat()
    restore()
    assert blob(cache).stat().st_mtime_ns == before.st_mtime_ns


def test_what_a_killed_process_left_is_removed(cache, restore):
    restore()
    left = blob(cache).parent / "part-killed"
    left.mkdir()
    (left / "half.blob").write_bytes(b"half")
    restore()
    assert not left.exists()


def test_a_process_that_keeps_the_lock_holds_nobody_up(cache, restore, monkeypatch):
    expected = restore()
    monkeypatch.setattr(compiled_models, "_PATIENCE_S", 0.05)
    lock = os.open(blob(cache).parent, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        np.testing.assert_array_equal(restore(), expected)
    finally:
        os.close(lock)


def test_a_file_system_without_links_is_no_failure(cache, restore, monkeypatch):
    expected = restore()

    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    np.testing.assert_array_equal(restore(), expected)


def test_a_full_disk_is_no_failure(bundle, cache):
    """Of a process that may write no file larger than a kilobyte."""
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
print(start(sys.argv[1]))
"""
    (said,) = run(code, bundle, cache)
    assert said.isdigit()
    assert not list(cache.glob("*/*"))
