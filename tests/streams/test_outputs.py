"""What a person writes as OUTPUT, and lengths of time."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from edgerestore.cli.values import parse_duration
from edgerestore.errors import ArgumentError, SinkError
from edgerestore.streams.media.encoding import VideoOptions
from edgerestore.streams.media.frames import Frame, VideoInfo
from edgerestore.streams.options import SinkOptions
from edgerestore.streams.sinks.fan_out import FanOutSink
from edgerestore.streams.sinks.files import VideoFileSink
from edgerestore.streams.sinks.push import PushSink
from edgerestore.streams.sinks.recording import RecordingSink
from edgerestore.streams.sinks.registry import is_path, open_sink, open_sinks
from edgerestore.streams.sinks.y4m import Y4mSink


@pytest.fixture
def settings():
    return SinkOptions()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("cam.mp4", RecordingSink),
        ("window.mkv", RecordingSink),
        ("-", Y4mSink),
        ("rtsp://host/cam", PushSink),
        ("RTSPS://u:p@host:322/cam", PushSink),
        ("rtmp://host/live/cam", PushSink),
        ("udp://239.0.0.1:5000", PushSink),
        ("tcp://host:5000", PushSink),
    ],
)
def test_outputs_of_a_live_stream(settings, tmp_path, monkeypatch, text, kind):
    monkeypatch.chdir(tmp_path)
    sink = open_sink(text, settings)
    assert type(sink) is kind
    sink.abort()
    assert is_path(text) == (kind is RecordingSink)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_file_is_one_whole_file(tmp_path):
    settings = SinkOptions(
        video=VideoOptions(crf=30),
        info=VideoInfo(96, 64, Fraction(1, 25), Fraction(25)),
    )
    sink = open_sink(str(tmp_path / "out.mp4"), settings)
    assert type(sink) is VideoFileSink
    sink.abort()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("out.png", "holds one image, not a stream; use .mp4 or .mkv"),
        ("out.docx", "names no video format"),
        ("out", "names no video format"),
        ("gopher://admin:pw@host/x", r"^gopher://\*\*\*@host/x: cannot be sent to; known are rtsp"),
        ("none/out.mp4", "the folder none is not there"),
    ],
)
def test_what_is_refused(settings, tmp_path, monkeypatch, text, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SinkError, match=says) as caught:
        open_sink(text, settings)
    assert "\n" not in str(caught.value)


def test_several_outputs(settings, tmp_path, read):
    texts = [str(tmp_path / "one.mp4"), str(tmp_path / "two.mkv")]
    assert type(open_sinks(texts[:1], settings)) is RecordingSink
    sink = open_sinks(texts, settings)
    assert type(sink) is FanOutSink
    for index in range(10):
        sink.write(Frame(np.zeros((64, 96, 3), np.uint8), index, Fraction(1, 25)))
    sink.close()
    assert [len(read(text).pts) for text in texts] == [10, 10]
    with pytest.raises(SinkError, match=r"one\.mp4: exists"):
        open_sinks([str(tmp_path / "three.mp4"), texts[0]], settings)
    assert not (tmp_path / "three.mp4").exists()
    with pytest.raises(SinkError, match="is named twice"):
        open_sinks(["-", "-"], settings)
    with pytest.raises(SinkError, match="there is no output"):
        open_sinks([], settings)


def test_nothing_is_imported_for_an_output_that_is_not_asked_for():
    code = (
        "import sys; from edgerestore.streams.sinks.registry import open_sink;"
        "print([m for m in sys.modules if m.startswith('edgerestore.streams.sinks.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.strip(" '").rpartition(".")[2] for name in done.stdout[1:-2].split(",")}
    assert loaded == {"registry"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h", 3600),
        ("1h30m", 5400),
        ("1h30m15s", 5415),
        ("2.5h", 9000),
        ("45", 45),
        ("1.5", 1.5),
        (" 1M ", 60),
        ("1m30", 90),
        ("1", 1),
    ],
)
def test_lengths_of_time(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "0",
        "0.5s",
        "-5m",
        "10 m",
        "m",
        "5d",
        "1m1h",
        "1m2m",
        "nan",
        "inf",
        "1e3",
        "9" * 400,
    ],
)
def test_no_lengths_of_time(text):
    with pytest.raises(ArgumentError) as caught:
        parse_duration(text)
    assert "\n" not in str(caught.value)
