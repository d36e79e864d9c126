"""Conformance of every source and every sink: one subclass each."""

from __future__ import annotations

import os
import threading
from fractions import Fraction

import cv2
import pytest

from edgerestore.errors import SinkError, SourceError
from edgerestore.imaging.image_files import decode_image
from edgerestore.streams.events import EventLog
from edgerestore.streams.media.frames import Frame, Passthrough, VideoInfo
from edgerestore.streams.options import RawFormat, SinkOptions, SourceOptions
from edgerestore.streams.sinks.files import ImageFileSink, ImageFolderSink, VideoFileSink
from edgerestore.streams.sources.camera import open_camera
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.streams.sources.images import ImageFilesSource
from edgerestore.streams.sources.live_source import LiveSource
from edgerestore.streams.sources.pipe import open_pipe
from edgerestore.streams.sources.producer import ProducerSource
from edgerestore.streams.sources.timeline import PacedSource
from edgerestore.testing.sinks import FileSinkTests
from edgerestore.testing.sources import SourceTests

from .servers import HttpServer, RtspServer, TsServer, UdpSender, picture
from .tools import (
    FakeCapture,
    FakeConnection,
    encoded,
    open_live,
    read_video,
    write_hls,
    y4m,
)


class TestVideoFileSource(SourceTests):
    @pytest.fixture
    def make(self, clip, tmp_path):
        def one(count):
            path = clip(tmp_path / "in.mp4", frames=count, audio=True)
            return VideoFileSource(path)

        return one

    def test_packets_come_between_the_frames(self, clip, tmp_path):
        source = VideoFileSource(clip(tmp_path / "in.mp4", frames=100, audio=True))
        kinds = [isinstance(item, Frame) for item in source]
        source.close()
        assert kinds.count(False) > 50
        assert kinds[: len(kinds) // 2].count(True) > 30

    def test_durations_reach_to_the_next_frame(self, clip, tmp_path):
        pts = [0, 3600, 5000, 9001, 20000]
        path = clip(tmp_path / "in.mp4", pts=pts, options={"bf": "0"})
        source = VideoFileSource(path)
        durations = [item.duration for item in source if isinstance(item, Frame)]
        assert durations == [3600, 1400, 4001, 10999, 3600]
        source.close()


class TestImageFilesSource(SourceTests):
    @pytest.fixture
    def make(self, picture_at, tmp_path):
        def one(count):
            paths = [tmp_path / f"{index}.png" for index in range(count)]
            for index, path in enumerate(paths):
                cv2.imwrite(str(path), picture_at(index, 12, 16))
            return ImageFilesSource(paths)

        return one

    def test_one_unreadable_image_alone_is_an_error(self, tmp_path):
        with pytest.raises(SourceError):
            list(ImageFilesSource([tmp_path / "none.png"]))


class TestVideoFileSink(FileSinkTests):
    def arrived(self, sink, tmp_path):
        return read_video(tmp_path / "out.mp4")

    @pytest.fixture
    def make(self, tmp_path):
        def one(**options):
            info = VideoInfo(96, 64, Fraction(1, 25), Fraction(25))
            return VideoFileSink(tmp_path / "out.mp4", info, SinkOptions(**options))

        return one

    def test_close_without_a_frame(self, make, tmp_path):
        sink = make()
        with pytest.raises(SinkError, match="got no frame"):
            sink.close()
        sink.abort()
        assert self.outputs(tmp_path) == []

    def test_packets_before_the_first_frame(self, clip, tmp_path, read):
        source = VideoFileSource(clip(tmp_path / "in.mp4", frames=9, audio=True))
        items = list(source)
        packets = [item for item in items if isinstance(item, Passthrough)]
        frames = [item for item in items if isinstance(item, Frame)]
        sink = VideoFileSink(tmp_path / "out.mp4", source.info, SinkOptions())
        for item in packets + frames:
            sink.write(item)
        sink.close()
        source.close()
        assert read(tmp_path / "out.mp4").packets == read(tmp_path / "in.mp4").packets


class TestImageFileSink(FileSinkTests):
    count = 1

    def arrived(self, sink, tmp_path):
        return [(None, decode_image(tmp_path / "out.png")[0])]

    @pytest.fixture
    def make(self, tmp_path):
        return lambda **options: ImageFileSink(tmp_path / "out.png", **options)

    def test_a_second_frame_is_refused(self, make, frames):
        sink = make()
        sink.write(frames[0])
        with pytest.raises(SinkError, match="name a folder"):
            sink.write(frames[0])
        sink.abort()


class TestImageFolderSink(FileSinkTests):
    stays = True

    def arrived(self, sink, tmp_path):
        paths = [tmp_path / "out" / f"{index}.png" for index in range(self.count)]
        return [(None, decode_image(path)[0]) for path in paths]

    @pytest.fixture
    def make(self, tmp_path):
        names = [f"{index}.png" for index in range(self.count)]
        return lambda **options: ImageFolderSink(tmp_path / "out", names, **options)


class LiveTests(SourceTests):
    ends = False
    counts = False
    live = True
    stamps = True


class ServerTests(LiveTests):
    """Subclass it, and give `server`."""

    server: type[HttpServer | TsServer | UdpSender | RtspServer] = HttpServer

    @pytest.fixture
    def make(self):
        with self.server() as server:
            yield lambda count: open_live(server.url)


class TestMjpegOverHttp(ServerTests):
    server = HttpServer


class TestMpegTsOverTcp(ServerTests):
    server = TsServer


class TestMpegTsOverUdp(ServerTests):
    server = UdpSender


class TestRtsp(ServerTests):
    server = RtspServer


class TestHls(LiveTests):
    ends = True

    @pytest.fixture
    def make(self, tmp_path):
        with HttpServer(folder=tmp_path) as server:

            def one(count):
                name = write_hls(tmp_path, count).name
                return open_live(f"http://127.0.0.1:{server.port}/{name}")

            yield one


class TestFileOverHttp(SourceTests):
    counts = False
    stamps = True

    @pytest.fixture
    def make(self, tmp_path, clip):
        with HttpServer(folder=tmp_path) as server:

            def one(count):
                clip(tmp_path / "in.mp4", frames=count)
                return open_live(f"http://127.0.0.1:{server.port}/in.mp4")

            yield one


class TestCamera(LiveTests):
    @pytest.fixture
    def make(self):
        def one(count):
            def open_connection():
                return open_camera(0, SourceOptions(), capture=lambda number: FakeCapture())

            return LiveSource(open_connection, "camera:0", EventLog())

        return one


class TestCameraOfOpenCv(LiveTests):
    """OpenCV itself, on a file that stands in for the camera."""

    ends = True

    @pytest.fixture
    def make(self, tmp_path, clip):
        def one(count):
            path = clip(tmp_path / "in.mp4", frames=count)

            def open_connection():
                capture = lambda number: cv2.VideoCapture(str(path))  # noqa: E731
                return open_camera(0, SourceOptions(640, 480, 25, "MJPG"), capture=capture)

            return LiveSource(open_connection, "camera:0", EventLog())

        return one


class PipeTests(SourceTests):
    """Subclass it, and give `data`."""

    counts = False
    stamps = True
    raw: RawFormat | None = None
    own_files = 1

    def data(self, count):
        raise pytest.UsageError("a subclass gives the bytes")

    @pytest.fixture
    def make(self):
        ends, threads = [], []

        def one(count):
            reading, writing = os.pipe()
            data = self.data(count)

            def write():
                with os.fdopen(writing, "wb") as pipe:
                    pipe.write(data)

            threads.append(threading.Thread(target=write))
            threads[-1].start()
            ends.append(os.fdopen(reading, "rb"))
            return open_pipe(ends[-1], self.raw)

        yield one
        for end in ends:
            end.close()
        for thread in threads:
            thread.join(5)


class TestY4mOnAPipe(PipeTests):
    def data(self, count):
        return y4m(count)


class TestMatroskaOnAPipe(PipeTests):
    def data(self, count):
        return encoded("matroska", count)


class TestMpegTsOnAPipe(PipeTests):
    def data(self, count):
        return encoded("mpegts", count)


class TestRawOnAPipe(PipeTests):
    raw = RawFormat("rgb24", 64, 48, Fraction(25))

    def data(self, count):
        return b"".join(picture(index, (64, 48)).tobytes() for index in range(count))


class TestProducer(SourceTests):
    stamps = True

    @pytest.fixture
    def make(self):
        # One array for all: whoever does not copy it fails.
        buffer = picture(0, (64, 48))

        class Images:
            def __init__(self, count):
                self.count = count

            def __len__(self):
                return self.count

            def __iter__(self):
                for index in range(self.count):
                    buffer[:] = index
                    yield buffer

        return lambda count: ProducerSource(Images(count))


class TestLiveProducer(LiveTests):
    @pytest.fixture
    def make(self):
        stop = threading.Event()

        def images():
            while not stop.wait(0.01):
                yield picture(0, (64, 48))

        yield lambda count: ProducerSource(images(), live=True, stall_s=5)
        stop.set()


class TestLiveSource(LiveTests):
    """Connections that end after three frames each."""

    @pytest.fixture
    def make(self):
        from edgerestore.streams.sources.reconnect import Backoff

        def one(count):
            where = "somewhere"
            return LiveSource(lambda: FakeConnection(3), where, EventLog(), backoff=Backoff(0.01))

        return one


class TestPaced(SourceTests):
    live = True
    stamps = True

    @pytest.fixture
    def make(self, clip, tmp_path):
        def one(count):
            path = clip(tmp_path / "in.mp4", frames=count)
            return PacedSource(VideoFileSource(path))

        return one
