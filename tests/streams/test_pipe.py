"""Video on standard input."""

from __future__ import annotations

import io
import os
import select
import subprocess
import sys
import threading
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from edgerestore.errors import ArgumentError, SourceError
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import RawFormat
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.streams.sources.pipe import open_pipe

from .servers import picture, wait_for
from .tools import Taker, encoded, y4m


def read(data, raw=None):
    source = open_pipe(io.BytesIO(data), raw)
    frames = list(source)
    source.close()
    return frames, source


def test_raw_frames_are_what_went_in():
    images = [picture(index, (64, 48)) for index in range(5)]
    data = b"".join(image.tobytes() for image in images)
    frames, _ = read(data, RawFormat("rgb24", 64, 48, Fraction(30_000, 1001)))
    for frame, image in zip(frames, images, strict=True):
        np.testing.assert_array_equal(frame.image, image)
    assert frames[0].info.rate == Fraction(30_000, 1001)
    assert [frame.pts * frame.time_base for frame in frames] == [
        index * Fraction(1001, 30_000) for index in range(5)
    ]


def test_raw_sixteen_bit_grey_is_what_went_in():
    image = np.arange(64 * 48, dtype="<u2").reshape(48, 64) * 20
    frames, _ = read(image.tobytes() * 2, RawFormat("gray16le", 64, 48))
    assert len(frames) == 2
    np.testing.assert_array_equal(frames[0].image, image)


@pytest.mark.parametrize("missing", [1, 1000, 4607])
def test_a_last_frame_cut_off_is_lost_and_no_error(missing):
    frames, source = read(y4m(5)[:-missing])
    assert len(frames) == 4
    assert source.lost == {"cut off": 1}


def test_a_last_raw_frame_cut_off_is_lost_and_no_error():
    data = b"".join(picture(index, (64, 48)).tobytes() for index in range(3))
    frames, source = read(data[:-100], RawFormat("rgb24", 64, 48))
    assert len(frames) == 2
    assert sum(source.lost.values()) == 1


def test_a_container_cut_off_gives_what_there_is():
    data = encoded("matroska", 30)
    frames, _ = read(data[: len(data) // 2])
    assert 5 < len(frames) < 30


def test_the_rotation_for_display_is_known():
    quarter = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    buffer = io.BytesIO()
    streamed = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(buffer, "w", format="mp4", container_options=streamed) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height = 64, 48
        stream.set_display_matrix(quarter)
        for index in range(20):
            shown = av.VideoFrame.from_ndarray(picture(index, (64, 48)), format="rgb24")
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    frames, _ = read(buffer.getvalue())
    assert len(frames) == 20
    assert frames[0].info.display_matrix == quarter


def test_facts_of_y4m():
    frames, _ = read(y4m(2))
    info = frames[0].info
    assert (info.width, info.height, info.rate) == (64, 48, 25)
    assert info.pix_fmt == "yuv420p"


def test_sound_is_left_out_with_a_notice(clip, tmp_path, notices):
    data = clip(tmp_path / "in.mkv", frames=5, audio=True).read_bytes()
    frames, _ = read(data)
    assert len(frames) == 5
    assert all(isinstance(frame, Frame) for frame in frames)
    assert notices == ["-: its sound is left out"]


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "is empty; pipe a video in"), (b"hello\n" * 99, "is no video")]
)
def test_no_video_is_one_line(data, message):
    with pytest.raises(SourceError, match=message) as error:
        read(data)
    assert "\n" not in str(error.value)


def test_a_video_of_which_nothing_can_be_decoded():
    data = bytearray(encoded("matroska", 20))
    start = data.index(b"\x1f\x43\xb6\x75")
    data[start + 64 :] = bytes(len(data) - start - 64)
    with pytest.raises(SourceError, match="no frame of its video|is no video"):
        read(bytes(data))


def test_a_terminal_is_no_video():
    controller, terminal = os.openpty()
    with os.fdopen(terminal, "rb") as file, pytest.raises(SourceError, match="is a terminal"):
        open_pipe(file)
    os.close(controller)


def test_raw_formats_are_checked():
    with pytest.raises(ArgumentError, match="pixel format 'rgb25' is not known"):
        RawFormat("rgb25", 64, 48)
    with pytest.raises(ArgumentError, match="above 0"):
        RawFormat("rgb24", 0, 48)


def test_close_ends_the_wait_for_a_writer_that_is_silent():
    reading, writing = os.pipe()
    os.write(writing, y4m(3)[:-50])
    with os.fdopen(reading, "rb") as file:
        source = open_pipe(file, RawFormat("rgb24", 16, 16))
        taker = Taker(source)
        wait_for(lambda: len(taker.frames) == 18)
        began_s = time.perf_counter()
        source.close()
        taker.ended()
        assert time.perf_counter() - began_s < 0.5
        assert taker.error is None
    os.close(writing)


def test_close_ends_the_wait_for_the_beginning():
    reading, writing = os.pipe()
    os.write(writing, y4m(1)[:100])
    with os.fdopen(reading, "rb") as file:
        source = open_pipe(file)
        taker = Taker(source)
        wait_for(lambda: not select.select([reading], [], [], 0)[0])  # all was read
        source.close()
        taker.ended()
        assert taker.error is None
        assert taker.frames == []
    os.close(writing)


def test_a_slow_writer_is_waited_for():
    reading, writing = os.pipe()
    data = y4m(4)

    def write():
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for start in range(0, len(data), 3000):
                pipe.write(data[start : start + 3000])
                time.sleep(0.02)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as file:
        source = open_pipe(file)
        assert len(list(source)) == 4
        source.close()
    thread.join()


def test_standard_input_itself():
    program = (
        "from edgerestore.streams.sources.registry import open_source\n"
        "from edgerestore.streams.events import EventLog\n"
        "source = open_source('-', log=EventLog())\n"
        "print(len(list(source)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        input=y4m(6),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"6\n", b"")


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gray"])
def test_pictures_are_those_of_the_file(clip, tmp_path, pix_fmt):
    path = clip(tmp_path / "in.mkv", frames=8, pix_fmt=pix_fmt)
    frames, _ = read(path.read_bytes())
    file = VideoFileSource(path)
    for one, other in zip(frames, file, strict=True):
        assert isinstance(other, Frame)
        np.testing.assert_array_equal(one.image, other.image)
        assert one.pts * one.time_base == other.pts * other.time_base
    assert (frames[0].info.bits, frames[0].info.color) == (file.info.bits, file.info.color)
    file.close()
