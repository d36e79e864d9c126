"""The door where engines' errors become ours, and what a run says while it runs."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from edgerestore.errors import ArgumentError, SinkError, SourceError
from edgerestore.imaging.error_translation import ROWS, translate, translated
from edgerestore.streams.media.frames import Frame, VideoInfo
from edgerestore.streams.options import SinkOptions
from edgerestore.streams.progress import (
    BarState,
    CountedBar,
    Progress,
    TerminalBar,
    run_state,
    summary_line,
    tell,
)
from edgerestore.streams.session import restore_path
from edgerestore.streams.sinks.files import VideoFileSink
from edgerestore.streams.sources.producer import ProducerSource
from edgerestore.streams.telemetry import Snapshot, Telemetry

from ..checked import not_none

BLACK = np.zeros((8, 8, 3), np.uint8)


def expecting(frames):
    return ProducerSource([BLACK] * frames)


def all_classes(root):
    for one in root.__subclasses__():
        yield one
        yield from all_classes(one)


@pytest.mark.parametrize(
    "error", sorted(set(all_classes(av.error.FFmpegError)), key=repr), ids=lambda e: e.__name__
)
@pytest.mark.parametrize("kind", [SourceError, SinkError])
def test_every_error_of_the_engine_has_a_row(error, kind):
    raised = error(1, "what FFmpeg said", "file.mp4")
    ours = translate(raised, kind, "file.mp4")
    assert type(ours) is kind
    assert str(ours).startswith("file.mp4: ")
    assert "\n" not in str(ours)


def test_no_row_is_hidden_by_an_earlier_one():
    rows = list(ROWS)
    for index, error in enumerate(rows):
        assert not issubclass(error, tuple(rows[:index])), error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "x"), "the disk is full"),
        (av.error.OSError(errno.ENOSPC, "x"), "the disk is full"),
        (PermissionError(errno.EACCES, "x"), "permissions"),
        (cv2.error("x"), "OpenCV"),
        (MemoryError(), "memory"),
    ],
)
def test_the_cause_is_told(error, message):
    with pytest.raises(SinkError, match=message) as caught, translated(SinkError, "out.mp4"):
        raise error
    assert caught.value.__cause__ is error


def test_our_own_mistakes_are_not_dressed_up():
    with pytest.raises(ZeroDivisionError), translated(SinkError, "out.mp4"):
        raise ZeroDivisionError


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells and limits memory")
def test_no_memory_for_an_encoder_is_no_wrong_setting(tmp_path):
    """x264 says no more than that it failed; so may an encoder that refuses a setting."""
    import resource

    info = VideoInfo(7680, 4320, Fraction(1, 25), Fraction(25))
    frame = Frame(np.zeros((4320, 7680, 3), np.uint8), 0, info.time_base, 1, info=info)
    sink = VideoFileSink(tmp_path / "out.mp4", info, SinkOptions(info=info))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + 60 * 2**20
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        with pytest.raises(SinkError, match="does not fit into memory; use a smaller picture"):
            sink.write(frame)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        sink.abort()


FULL_DISK = """
import resource, sys
from concurrent.futures import Future
from pathlib import Path
from edgerestore.streams.session import restore_path
from edgerestore.errors import SinkError

class Echo:
    depth = 2
    def submit(self, image):
        done = Future()
        done.set_result(image)
        return done

limit = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    restore_path(Echo(), sys.argv[1], Path(sys.argv[2]), progress="none")
except SinkError as error:
    print(error)
    raise SystemExit(error.exit_code)
"""


@pytest.mark.parametrize(("extension", "limit"), [("mp4", 20_000), ("mkv", 20_000), ("mp4", 0)])
def test_a_full_disk(clip, tmp_path, extension, limit):
    source = clip(tmp_path / "in.mp4", frames=30, size=(320, 240))
    output = tmp_path / f"out.{extension}"
    run = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(source), str(output), str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    assert (
        run.stdout
        == f"{output}: the file grew past the largest size allowed here; write elsewhere\n"
    )
    assert run.stderr == ""
    assert [one.name for one in tmp_path.iterdir()] == ["in.mp4"]


def test_ctrl_c_leaves_a_file_that_plays(clip, read, tmp_path):
    source = clip(tmp_path / "in.mp4", frames=300, size=(480, 272), audio=True)
    output = tmp_path / "out.mp4"
    command = [sys.executable, "-m", "edgerestore", "run", str(source), "-o", str(output)]
    process = subprocess.Popen(
        [*command, "--progress", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        # The first line comes after a second of work.
        assert json.loads(not_none(process.stdout).readline())["event"] == "progress"
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    last = json.loads(rest.splitlines()[-1])
    assert (last["event"], last["interrupted"]) == ("done", True)
    partial = tmp_path / "out.partial.mp4"  # it must not be taken for the whole
    assert len(read(partial).images) == last["frames_out"] == last["frames_in"]
    assert 1 < last["frames_out"] < 300
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        ".out.partial.mp4.json",  # the settings that --resume compares
        "in.mp4",
        "out.partial.mp4",
    ]
    assert f"{partial}: holds what was done" in said


class Terminal(io.StringIO):
    def isatty(self):
        return True


SOME = Snapshot(30, 25, {"broken packet": 2}, 100, 2.5, 10.0, {"p50": 40.0}, "CPU", "int8", "whole")


def test_what_the_bar_shows():
    assert run_state(SOME) == (25, 100, ("25/100 frames", "10.0 fps", "0:08 left"))
    unknown = Snapshot(30, 25, {}, None, 2.5, 10.0, {})
    assert run_state(unknown) == (25, None, ("25 frames", "10.0 fps"))
    live = Snapshot(
        30, 25, {}, None, 2.5, 10.0, {"p50": 40.4}, frames_dropped={"overrun": 2, "stale": 1},
        fps_now=12.34, state="RUNNING",
    )  # fmt: skip
    columns = ("running", "25 frames", "12.3 fps", "40 ms", "3 dropped")
    assert run_state(live) == (25, None, columns)
    long = Snapshot(1, 1, {}, 40_000, 1.0, 10.0, {})
    assert run_state(long).columns[-1] == "1:06:40 left"


def test_names_do_not_steer_the_terminal():
    told = io.StringIO()
    assert tell("a\x1b[2Jb\u202ec.mp4: 25 frames", told)
    assert told.getvalue() == "a [2Jb c.mp4: 25 frames\n"


def test_a_terminal_that_was_stopped_holds_nothing_up():
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal:
        termios.tcflow(theirs, termios.TCOOFF)  # Ctrl-S
        begun_s = time.monotonic()
        with TerminalBar(lambda: BarState(1, 2, ("1/2 frames",)), terminal):
            time.sleep(0.6)  # it is drawn four times a second
        assert time.monotonic() - begun_s < 5
        termios.tcflow(theirs, termios.TCOON)
    os.close(ours)


def test_an_expectation_that_proves_too_small_is_dropped():
    telemetry = Telemetry(source=expecting(2))
    for expected in (2, 2, None):
        telemetry.frame_read()
        assert telemetry.snapshot().frames_expected == expected


def test_one_frame_is_not_several():
    assert run_state(Snapshot(1, 1, {}, None, 1.0, 1.0, {})).columns[0] == "1 frame"


def test_the_last_line():
    assert summary_line(SOME, "out.mp4", True) == (
        "out.mp4: 25 frames in 2.5 s, 10.0 frames per second; CPU int8; whole;"
        " lost: 2 broken packet; interrupted"
    )


def run(mode, stdout, stderr, wait_s=0.0):
    telemetry = Telemetry(source=expecting(10))
    with Progress(mode, telemetry, "out.mp4", stdout=stdout, stderr=stderr) as progress:
        telemetry.frame_read()
        telemetry.frame_written(0.01)
        time.sleep(wait_s)
        telemetry.end()
        progress.done(interrupted=False)


def test_auto_away_from_a_terminal_is_one_line():
    out, err = io.StringIO(), io.StringIO()
    run("auto", out, err, 0.4)
    assert out.getvalue() == ""
    assert err.getvalue().count("\n") == 1
    assert err.getvalue().startswith("out.mp4: 1 frame in 0.")


def seen(terminal):
    """What was printed on a terminal, without its control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_auto_on_a_terminal_draws_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out, err = io.StringIO(), Terminal()
    run("auto", out, err, 0.4)
    assert re.search(r"━+ +10% +1/10 frames +[0-9.]+ fps +0:0\d left", seen(err))
    assert seen(err).splitlines()[-1].startswith("out.mp4: 1 frame in")


def test_lines_of_the_log_stand_above_the_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    telemetry = Telemetry(source=expecting(10))
    with Progress("auto", telemetry, "out.mp4", stdout=io.StringIO()):
        sys.stderr.write("edgerestore: a line\n")
        time.sleep(0.4)
    lines = [one.rstrip() for one in re.split(r"[\r\n]+", seen(terminal)) if one.strip()]
    assert "edgerestore: a line" in lines
    assert sum("0/10 frames" in one for one in lines) >= 2, lines


def test_a_bar_over_steps(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal, silent = Terminal(), io.StringIO()
    for stream in (terminal, silent):
        with CountedBar("pictures", stream) as bar:
            for done in range(1, 4):
                bar.tick(done, 4, "deblur fp32")
                time.sleep(0.02)
            time.sleep(0.4)
    assert re.search(
        r"━+ +75% +3/4 pictures +deblur fp32 +[0-9.]+ per second +0:00 left", seen(terminal)
    )
    assert silent.getvalue() == ""


def test_a_bar_counts_steps_and_not_calls(monkeypatch):
    """What an earlier run had done is not this one's pace."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with CountedBar("pairs", terminal) as bar:
        bar.tick(500, 600, "train")
        time.sleep(0.5)
        bar.tick(516, 600, "train")
        time.sleep(0.4)
    shown = r"516/600 pairs +train +([0-9.]+) per second +0:([0-9]+) left"
    rate, left_s = re.findall(shown, seen(terminal))[-1]
    assert 8 < float(rate) <= 32
    assert 2 < int(left_s) < 11


def test_json():
    out, err = io.StringIO(), Terminal()
    run("json", out, err, 1.2)
    assert err.getvalue() == ""
    lines = [json.loads(one) for one in out.getvalue().splitlines()]
    assert [one["event"] for one in lines] == ["progress", "done"]
    assert lines[-1]["frames_out"] == 1
    assert lines[-1]["latency_ms"]["p99"] == 10.0
    assert lines[-1]["interrupted"] is False
    assert {"fps", "frames_in", "frames_lost", "device", "precision", "plan"} <= set(lines[-1])


def test_none_is_silent():
    out, err = io.StringIO(), Terminal()
    run("none", out, err)
    assert out.getvalue() == err.getvalue() == ""


def test_an_unknown_mode():
    with pytest.raises(ArgumentError, match="use auto, json, none"):
        run("loud", io.StringIO(), io.StringIO())


def test_json_from_a_whole_job(clip, echo, tmp_path, capsys, notices):
    source = clip(tmp_path / "in.mp4", frames=5)
    restore_path(echo(), str(source), tmp_path / "o.mp4", progress="json")
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["frames_out"] == 5
    assert printed.err == ""


def test_the_room_is_light():
    code = (
        "import edgerestore.engine, edgerestore.streams.sources, edgerestore.streams.sinks, sys;"
        "print([name for name in ('av', 'cv2', 'torch', 'rich') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


def test_a_reader_that_stops_reading_holds_nothing_up_and_is_told_what_it_missed():
    read, write = os.pipe()
    telemetry = Telemetry()
    with os.fdopen(write, "w") as stream:
        progress = Progress("json", telemetry, "out.mp4", stdout=stream)
        long = {"event": "state", "message": "x" * 1000}
        began = time.monotonic()
        for _ in range(500):  # more than any pipe holds
            progress._print(long)
        assert time.monotonic() - began < 5
        held = os.read(read, 1 << 20)
        progress._print(long)
        held += os.read(read, 1 << 20)
    os.close(read)
    lines = [json.loads(line) for line in held.splitlines()]
    taken = sum(line["event"] == "state" for line in lines)
    (missed,) = (line for line in lines if line["event"] == "untold")
    assert 10 < taken < 500
    assert taken + missed["lines"] == 501


def test_a_line_to_a_reader_that_has_gone_is_left_out():
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    assert not tell("a line", stream)
    with suppress(BrokenPipeError):
        stream.close()
    assert tell("a line", io.StringIO())
    assert not tell("a line", stream)
