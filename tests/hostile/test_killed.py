"""Runs that are killed while they write: the next one clears what they left, or tells of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgerestore.bundle.bundle import new_bundle_folder
from edgerestore.streams.events import notices_to

from ..streams.conftest import write_clip

# Killed between the last byte of a file and its name.
RUN = """
import os, signal, sys
from concurrent.futures import Future
from pathlib import Path
from edgerestore.bundle.bundle import new_bundle_folder
from edgerestore.evaluation.report import reserved
from edgerestore.streams.options import InputKind, LiveOptions, VideoOptions
from edgerestore.streams.session import Session, restore_path

class Echo:
    depth = 2
    def submit(self, image):
        done = Future()
        done.set_result(image)
        return done

def run(kind, source, output):
    if kind == "bundle":
        with new_bundle_folder(output, overwrite=True) as folder:
            with (folder / "model.onnx").open("wb") as file:
                os.fsync(file.fileno())
    elif kind == "report":
        with reserved([output], inputs=[], overwrite=True) as write:
            write({output: "all of it"})
    elif kind == "segments":
        options = LiveOptions(segment_s=0.2, video=VideoOptions(codec="ffv1"))
        with Session(Echo(), str(source), [str(output)], options) as session:
            session.run()
    else:
        video = VideoOptions(codec="ffv1")
        restore_path(Echo(), str(source), output, overwrite=True, progress="none", video=video)
"""
KILLED = """
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
run(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.fixture
def lines() -> Iterator[list[str]]:
    told: list[str] = []
    with notices_to(told.append):
        yield told


def source_of(kind: str, folder: Path) -> Path:
    image = np.full((24, 32, 3), 99, np.uint8)
    if kind == "folder":
        (folder / "in").mkdir()
        for name in ("a.png", "b.png"):
            cv2.imwrite(str(folder / "in" / name), image)
        return folder / "in"
    if kind == "image":
        cv2.imwrite(str(folder / "in.png"), image)
        return folder / "in.png"
    return write_clip(folder / "in.mkv", frames=12, size=(32, 24))


def left_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".part-" in path.name]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("image", "out.png"),
        ("folder", "out"),
        ("video", "out.mkv"),
        ("segments", "out.mkv"),
        ("bundle", "out"),
        ("report", "out.html"),
    ],
)
def test_what_a_killed_run_left_is_cleared_and_told(
    kind: str, name: str, tmp_path: Path, lines: list[str]
) -> None:
    source, output = source_of(kind, tmp_path), tmp_path / name
    command = [sys.executable, "-c", RUN + KILLED, kind, str(source), str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    left = left_in(tmp_path)
    assert left, "it was killed too late"
    space: dict[str, object] = {}
    exec(RUN, space)
    run = space["run"]
    assert callable(run)
    run(kind, source, output)
    assert left_in(tmp_path) == []
    stem = left[0].name[1:].partition(".part-")[0]
    assert any(stem in line and ("removed" in line or "recovered" in line) for line in lines)


def test_a_whole_bundle_that_a_killed_run_left_is_kept_and_told(
    tmp_path: Path, lines: list[str]
) -> None:
    whole = tmp_path / ".out.part-0123abcd"
    whole.mkdir()
    (whole / "bundle.json").write_text("{}")
    with new_bundle_folder(tmp_path / "out") as folder:
        with new_bundle_folder(tmp_path / "out"):
            assert folder.is_dir(), "another process is still writing it"
        (tmp_path / "out").rmdir()
    assert whole.is_dir()
    assert lines == [f"{whole}: a whole bundle of a run that was killed; move or remove it"] * 2


def test_hidden_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in (
        ".out.original",
        ".out.part-0123abc",
        ".out.part-0123abcde",
        ".other.part-0123abcd",
    ):
        (tmp_path / name).mkdir()
    before = set(tmp_path.iterdir())
    with new_bundle_folder(tmp_path / "out"):
        pass
    assert set(tmp_path.iterdir()) == before | {tmp_path / "out"}
