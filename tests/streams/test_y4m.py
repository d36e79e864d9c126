"""Frames through a pipe, as other programs read them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from edgerestore.errors import SinkClosedError, SinkError
from edgerestore.streams.media.frames import ColorTags, Frame, VideoInfo
from edgerestore.streams.options import InputKind
from edgerestore.streams.session import Session
from edgerestore.streams.sinks.y4m import Y4mSink
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.testing.sinks import SinkTests

from .tools import read_video

CLOCK = Fraction(1, 25)


class TestY4mSink(SinkTests):
    tolerance = 3.0

    @pytest.fixture
    def make(self):
        self.stream = io.BytesIO()
        return lambda: Y4mSink(self.stream)

    def arrived(self, sink, tmp_path):
        # The reader takes the stream's rate; without info it is the first frame's.
        return read_video(io.BytesIO(self.stream.getvalue()))


def piped(frames, **options):
    """Return what a reader is given: the header, and the whole stream to be read again."""
    stream = io.BytesIO()
    sink = Y4mSink(stream, **options)
    for frame in frames:
        sink.write(frame)
    sink.close()
    assert not stream.closed
    data = stream.getvalue()
    return data.partition(b"\n")[0].decode(), io.BytesIO(data)


def info(**known: Any):
    size_and_rate: dict[str, Any] = {"width": 96, "height": 64, "rate": Fraction(25)}
    return VideoInfo(time_base=CLOCK, **(size_and_rate | known))


@pytest.mark.parametrize("full", [None, False, True])
def test_444_comes_back_within_rounding(picture_at, full):
    image = picture_at(3, 64, 96)
    stated = info(color=ColorTags(full_range=full))
    header, stream = piped([Frame(image, 0, CLOCK, info=stated)], pix_fmt="yuv444p")
    assert f"XCOLORRANGE={'FULL' if full else 'LIMITED'}" in header
    with av.open(stream) as container:
        frame = next(container.decode(video=0))
        assert frame.format.name in ("yuv444p", "yuvj444p")
        assert frame.color_range == (2 if full else 1)
        back = frame.to_ndarray(format="rgb24", src_colorspace=5, dst_color_range=2)
    assert np.abs(back.astype(int) - image).max() <= 3


@pytest.mark.parametrize(
    ("shape", "dtype", "bits", "pix_fmt"),
    [
        ((64, 96, 3), np.uint8, 8, "yuv420p"),
        ((63, 95, 3), np.uint8, 8, "yuv420p"),
        ((64, 96, 3), np.uint16, 10, "yuv420p10le"),
        ((64, 96, 3), np.uint16, 12, "yuv420p12le"),
        ((64, 96, 3), np.uint16, 16, "yuv420p16le"),
        ((64, 96), np.uint8, 8, "gray"),
        ((64, 96, 1), np.uint8, 8, "gray"),
        ((64, 96), np.uint16, 12, "gray12le"),
        ((64, 96), np.uint16, 16, "gray16le"),
    ],
)
def test_depth_and_channels_are_kept(shape, dtype, bits, pix_fmt):
    peak = np.iinfo(dtype).max
    image = np.broadcast_to(np.linspace(0, peak, shape[1]).astype(dtype), shape[:2])
    if len(shape) == 3:
        image = np.repeat(image[:, :, None], shape[2], 2)
    stated = info(width=shape[1], height=shape[0], bits=bits)
    _, stream = piped([Frame(np.ascontiguousarray(image), 0, CLOCK, info=stated)])
    with av.open(stream) as container:
        frame = next(container.decode(video=0))
        assert (frame.format.name, frame.width, frame.height) == (pix_fmt, shape[1], shape[0])
        plane = frame.planes[0]
        rows = np.frombuffer(bytes(plane), dtype).reshape(plane.height, -1)[:, : shape[1]]
    scale = 2 ** (bits if dtype == np.uint16 else 8) - 1
    full = pix_fmt.startswith("gray")
    low, high = (0, scale) if full else (16 * (scale + 1) // 256, 235 * (scale + 1) // 256)
    assert abs(int(rows[0, 0]) - low) <= 1
    assert abs(int(rows[0, -1]) - high) <= scale // 200


def test_the_header_says_rate_and_aspect():
    stated = info(rate=Fraction(30000, 1001), sample_aspect_ratio=Fraction(64, 45))
    black = np.zeros((64, 96, 3), np.uint8)
    header, stream = piped([Frame(black, pts, CLOCK, info=stated) for pts in range(3)])
    assert header.split()[:6] == ["YUV4MPEG2", "W96", "H64", "F30000:1001", "Ip", "A64:45"]
    with av.open(stream) as container:
        assert container.streams.video[0].guessed_rate == Fraction(30000, 1001)
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
        assert len(list(container.decode(video=0))) == 3


def test_a_turned_stream_is_piped_upright(picture_at):
    image = picture_at(0, 64, 96)
    turned = info(display_matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))
    header, _ = piped([Frame(image, 0, CLOCK, info=turned)])
    assert header.split()[1:3] == ["W64", "H96"]


def test_a_file_is_piped_as_it_is_shown(clip, tmp_path, notices):
    quarter = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    film = clip(tmp_path / "in.mp4", matrix=quarter, aspect=Fraction(4, 3), tags=(1, 1, 1, 2))
    source = VideoFileSource(film)
    header, _ = piped(source)
    source.close()
    assert " W64 H96 " in header
    assert " A3:4 " in header
    assert header.endswith("XCOLORRANGE=FULL")


def test_another_size_is_scaled_with_one_notice(picture_at, notices):
    first = picture_at(0, 64, 96)
    shapes = [(64, 96), (32, 48), (128, 192), (64, 32)]
    frames = [Frame(picture_at(0, *shape), index, CLOCK) for index, shape in enumerate(shapes)]
    _, stream = piped(frames)
    pictures = read_video(stream)
    assert [image.shape for _, image in pictures] == [first.shape] * 4
    assert pictures[-1][1][:, :30].max() < 24, "black beside what is narrower"
    assert len(notices) == 1
    assert "scaled to 96x64" in notices[0]


def test_depth_may_change_too(notices):
    images: list[NDArray[Any]] = [
        np.full((64, 96, 3), 99, np.uint8),
        np.full((64, 96, 3), 99 * 257, np.uint16),
        np.full((64, 96), 99, np.uint8),
        np.full((64, 96, 4), 99, np.uint8),
    ]
    frames = [Frame(image, index, CLOCK) for index, image in enumerate(images)]
    _, stream = piped(frames)
    assert {int(image[5, 5, 0]) // 2 for _, image in read_video(stream)} == {49}


def test_an_unknown_format_is_refused():
    with pytest.raises(SinkError, match="does not hold --pix-fmt nv12"):
        Y4mSink(io.BytesIO(), pix_fmt="nv12")


def test_the_reader_goes_away():
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "wb", buffering=0)
    sink = Y4mSink(stream)
    frame = Frame(np.zeros((640, 960, 3), np.uint8), 0, CLOCK)
    reader = threading.Thread(target=lambda: (os.read(reading, 1000), os.close(reading)))
    reader.start()
    with pytest.raises(SinkClosedError, match="nobody reads") as caught:
        sink.write(frame)
    reader.join()
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    sink.abort()
    stream.close()


PIPE = """
from fractions import Fraction
import numpy as np
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sinks.y4m import Y4mSink
from edgerestore.errors import SinkClosedError
sink = Y4mSink()
try:
    for index in range(500):
        sink.write(Frame(np.zeros((64, 96, 3), np.uint8), index, Fraction(1, 25)))
    raise SystemExit(3)
except SinkClosedError:
    sink.abort()
"""


@pytest.mark.parametrize("buffering", [[], ["-u"]])
def test_standard_output_is_left_without_a_trace(buffering):
    process = subprocess.Popen(
        [sys.executable, *buffering, "-c", PIPE], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.read(10) == b"YUV4MPEG2 "
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(20) == 0


def test_sound_that_does_not_go_along_is_told(tmp_path, clip, echo, notices, monkeypatch):
    out = tmp_path / "out.y4m"
    with out.open("wb") as stream:
        monkeypatch.setattr("sys.stdout", SimpleNamespace(buffer=stream))
        source = clip(tmp_path / "in.mp4", frames=3, audio=True)
        Session(echo(), str(source), ["-"], kind=InputKind.VIDEO).run()
    assert "-: pictures alone go there; 1 audio stream left out" in notices


def test_what_a_header_cannot_hold_is_told(notices):
    black = np.zeros((64, 96, 3), np.uint8)
    piped([Frame(black, 0, CLOCK, info=info(color=ColorTags(9, 16, 9, full_range=False)))])
    assert notices == ["-: a y4m header has no room for colour tags; left out"]


def test_a_varying_rate_is_told(notices):
    black = np.zeros((64, 96, 3), np.uint8)
    piped([Frame(black, pts, CLOCK, info=info()) for pts in (0, 1, 2, 10, 20)])
    assert notices == ["-: frames were moved by up to 640 ms; a y4m stream has one constant rate"]
