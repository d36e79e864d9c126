"""A run over images that is stopped: what is done stays, a large image is left out."""

import signal
import threading

import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore.cli.app import run_command_line
from edgerestore.streams.options import InputKind, LiveOptions
from edgerestore.streams.progress import run_state
from edgerestore.streams.session import Session
from edgerestore.streams.telemetry import Snapshot, Telemetry


@pytest.fixture(scope="module")
def tiled():
    with edgerestore.load("denoise-gray", precision="fp32", tile=144) as opened:
        yield opened


@pytest.fixture
def large(tmp_path, picture):
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), picture(180, 200, 1))
    return path


def stopped_run(restorer, source, output, kind):
    """Run until the third tile of an image is done, and stop there."""
    stop = threading.Event()
    with Session(restorer, str(source), [output], LiveOptions(), kind=kind) as session:
        tell, told = session.telemetry.tile_restored, []

        def tile_restored(done, total):
            tell(done, total)
            told.append(session.snapshot().tiles)
            if (done, total > 1) == (3, True):
                stop.set()

        session.telemetry.tile_restored = tile_restored  # type: ignore[method-assign]
        return session.run(stop), told


def test_an_image_is_left_out(tiled, large, tmp_path):
    summary, told = stopped_run(tiled, large, tmp_path / "out.png", InputKind.IMAGE)
    assert summary.interrupted
    assert summary.exit_code == 130
    assert (summary.frames_in, summary.frames_out, summary.frames_dropped) == (1, 0, {"ended": 1})
    assert [done for done, _ in told] == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.png"]


def test_what_is_done_of_a_folder_stays(tiled, large, tmp_path, picture):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), picture(64, 64, 1))
    large.rename(folder / "b.png")
    for name in "cdefgh":
        cv2.imwrite(str(folder / f"{name}.png"), picture(64, 64, 1))
    summary, _ = stopped_run(tiled, folder, out, InputKind.FOLDER)
    assert summary.interrupted
    assert summary.frames_in == 1 + summary.frames_dropped["ended"]
    assert [path.name for path in out.iterdir()] == ["a.png"]


def test_ctrl_c_on_the_command_line(large, tmp_path, monkeypatch, capfd, notices):
    def interrupt(self, done, total):
        if done == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Telemetry, "tile_restored", interrupt)
    options = ["--model", "denoise-gray", "--precision", "fp32", "--tile", "144"]
    code = run_command_line(["run", str(large), "-o", str(tmp_path / "out.png"), *options])
    said = capfd.readouterr().err
    assert code == 130, said
    assert "stopping, a large image in the making is left out" in said
    assert "interrupted" in said.splitlines()[-1]
    assert any("denoise-gray on CPU" in line for line in notices)
    assert [path.name for path in tmp_path.iterdir()] == ["large.png"]


def test_the_bar_counts_tiles():
    def snapshot(expected, done=0, tiles=(30, 120)):
        return Snapshot(1, done, {}, expected, 10.0, 0.0, {}, tiles=tiles)

    assert run_state(snapshot(1)) == (30, 120, ("30/120 tiles", "0:30 left"))
    assert run_state(snapshot(9, done=2)) == (2, 9, ("2/9 frames", "30/120 tiles"))
    assert run_state(snapshot(1, tiles=None)) == (0, None, ("preparing",))


def test_an_image_in_one_tile_shows_none(tiled, tmp_path):
    path = tmp_path / "small.png"
    cv2.imwrite(str(path), np.zeros((32, 32), np.uint8))
    _, told = stopped_run(tiled, path, tmp_path / "out.png", InputKind.IMAGE)
    assert told == [None]
