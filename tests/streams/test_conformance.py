"""What every source and every sink must do; each has its subclass here."""

from __future__ import annotations

from fractions import Fraction

import cv2
import pytest

from edgerestore.errors import SinkError, SourceError
from edgerestore.imaging.image_files import decode_image
from edgerestore.streams.media.frames import Frame, Passthrough, VideoInfo
from edgerestore.streams.sinks.files import ImageFileSink, ImageFolderSink, VideoFileSink
from edgerestore.streams.sinks.registry import SinkOptions
from edgerestore.streams.sources.files import ImageFilesSource, VideoFileSource
from edgerestore.testing.sinks import FileSinkTests
from edgerestore.testing.sources import SourceTests

from .tools import read_video


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
