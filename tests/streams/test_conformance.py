"""What every source and every sink must do; each has its subclass here."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import cv2
import numpy as np
import pytest

from edgerestore.engine.media.facts import VideoFacts
from edgerestore.engine.media.frames import Frame, Passthrough
from edgerestore.engine.media.options import VideoOptions
from edgerestore.engine.sinks.image_files import ImageFileSink, ImageFolderSink
from edgerestore.engine.sinks.video_file import VideoFileSink
from edgerestore.engine.sources.image_files import ImageFilesSource
from edgerestore.engine.sources.video_file import VideoFileSource
from edgerestore.errors import SinkError, SourceError
from edgerestore.pixels import check_image


class SourceContract:
    """Subclass it, and give `make`."""

    @pytest.fixture
    def make(self, tmp_path):
        """Return a function: count -> a source of that many frames."""
        raise pytest.UsageError("a subclass gives the source")

    def test_all_frames_in_order(self, make):
        source = make(7)
        frames = [item for item in source if isinstance(item, Frame)]
        assert len(frames) == 7
        assert source.expected_frames == 7
        assert source.lost == Counter()
        pts = [frame.pts for frame in frames]
        assert pts == sorted(set(pts))
        assert {type(frame.time_base) for frame in frames} == {Fraction}
        source.close()

    def test_frames_are_pictures_of_their_own(self, make):
        source = make(3)
        frames = [item for item in source if isinstance(item, Frame)]
        copies = [frame.image.copy() for frame in frames]
        source.close()
        for frame, copy in zip(frames, copies, strict=True):
            check_image(frame.image)
            assert frame.image.flags.c_contiguous
            np.testing.assert_array_equal(frame.image, copy)
        assert not np.shares_memory(frames[0].image, frames[1].image)

    def test_iterating_goes_on_where_it_stopped(self, make):
        source = make(5)
        first = next(item for item in source if isinstance(item, Frame))
        rest = [item for item in source if isinstance(item, Frame)]
        assert len(rest) == 4
        assert first.pts < rest[0].pts
        source.close()

    def test_close_may_come_early_and_often(self, make):
        source = make(5)
        next(iter(source))
        source.close()
        source.close()


class TestVideoFileSource(SourceContract):
    @pytest.fixture
    def make(self, clip, tmp_path):
        def one(count):
            path = clip(tmp_path / "in.mp4", frames=count, audio=True)
            return VideoFileSource(path, pytest.fail)

        return one

    def test_packets_come_between_the_frames(self, clip, tmp_path):
        source = VideoFileSource(clip(tmp_path / "in.mp4", frames=100, audio=True), pytest.fail)
        kinds = [isinstance(item, Frame) for item in source]
        source.close()
        assert kinds.count(False) > 50
        assert kinds[: len(kinds) // 2].count(True) > 30

    def test_durations_reach_to_the_next_frame(self, clip, tmp_path):
        pts = [0, 3600, 5000, 9001, 20000]
        path = clip(tmp_path / "in.mp4", pts=pts, options={"bf": "0"})
        source = VideoFileSource(path, pytest.fail)
        durations = [item.duration for item in source if isinstance(item, Frame)]
        assert durations == [3600, 1400, 4001, 10999, 3600]
        source.close()


class TestImageFilesSource(SourceContract):
    @pytest.fixture
    def make(self, picture_at, tmp_path):
        def one(count):
            paths = [tmp_path / f"{index}.png" for index in range(count)]
            for index, path in enumerate(paths):
                cv2.imwrite(str(path), picture_at(index, 12, 16))
            return ImageFilesSource(paths, pytest.fail)

        return one

    def test_one_unreadable_image_alone_is_an_error(self, tmp_path):
        with pytest.raises(SourceError):
            list(ImageFilesSource([tmp_path / "none.png"], pytest.fail))


class SinkContract:
    """Subclass it, and give `make`, `target` and `count`.

    Attributes
    ----------
    count : int
        How many frames a sink is given.
    stays : bool
        Whether what was finished stays when a later frame fails.
    """

    count = 4
    stays = False

    @pytest.fixture
    def make(self, tmp_path):
        """Return a function: keyword options -> a sink into the empty folder tmp_path."""
        raise pytest.UsageError("a subclass gives the source")

    def outputs(self, tmp_path):
        """Return what stands there, by name, hidden files too."""
        found = [path for path in tmp_path.rglob("*") if path.is_file()]
        return sorted(str(path.relative_to(tmp_path)) for path in found)

    @pytest.fixture
    def frames(self, picture_at):
        return [
            Frame(picture_at(index, 64, 96), index, Fraction(1, 25), 1, f"{index}.png")
            for index in range(self.count)
        ]

    def test_the_name_appears_with_close(self, make, frames, tmp_path):
        sink = make()
        for frame in frames:
            sink.write(frame)
        if not self.stays:
            assert all(name.startswith(".") for name in self.outputs(tmp_path))
        sink.close()
        names = self.outputs(tmp_path)
        assert names
        assert not any("part" in name for name in names)

    def test_abort_leaves_nothing(self, make, frames, tmp_path):
        sink = make()
        for frame in frames[: self.count - 1]:
            sink.write(frame)
        sink.abort()
        assert len(self.outputs(tmp_path)) == (self.count - 1 if self.stays else 0)

    def test_abort_before_the_first_frame(self, make, tmp_path):
        make().abort()
        assert self.outputs(tmp_path) == []

    def test_abort_after_a_failed_write(self, make, frames, tmp_path):
        sink = make()
        broken = Frame(np.zeros((64, 96, 3), np.float64), 0, Fraction(1, 25), 1, "0.png")
        with pytest.raises(SinkError):
            sink.write(broken)
        sink.abort()
        assert self.outputs(tmp_path) == []

    def test_images_are_only_read(self, make, frames, tmp_path):
        for frame in frames:
            frame.image.flags.writeable = False
        sink = make()
        for frame in frames:
            sink.write(frame)
        sink.close()

    def test_nothing_is_overwritten_unasked(self, make, frames, tmp_path):
        sink = make()
        for frame in frames:
            sink.write(frame)
        sink.close()
        before = {name: (tmp_path / name).read_bytes() for name in self.outputs(tmp_path)}
        with pytest.raises(SinkError, match="exists; add --overwrite"):
            make()
        assert {name: (tmp_path / name).read_bytes() for name in self.outputs(tmp_path)} == before
        make(overwrite=True).abort()
        assert {name: (tmp_path / name).read_bytes() for name in self.outputs(tmp_path)} == before


class TestVideoFileSink(SinkContract):
    @pytest.fixture
    def make(self, tmp_path):
        def one(**options):
            facts = VideoFacts(96, 64, Fraction(1, 25), Fraction(25))
            return VideoFileSink(
                tmp_path / "out.mp4", facts, VideoOptions(), notice=pytest.fail, **options
            )

        return one

    def test_close_without_a_frame(self, make, tmp_path):
        sink = make()
        with pytest.raises(SinkError, match="got no frame"):
            sink.close()
        sink.abort()
        assert self.outputs(tmp_path) == []

    def test_packets_before_the_first_frame(self, clip, tmp_path, read):
        source = VideoFileSource(clip(tmp_path / "in.mp4", frames=9, audio=True), pytest.fail)
        items = list(source)
        packets = [item for item in items if isinstance(item, Passthrough)]
        frames = [item for item in items if isinstance(item, Frame)]
        sink = VideoFileSink(tmp_path / "out.mp4", source.facts, VideoOptions(), notice=pytest.fail)
        for item in packets + frames:
            sink.write(item)
        sink.close()
        source.close()
        assert read(tmp_path / "out.mp4").packets == read(tmp_path / "in.mp4").packets


class TestImageFileSink(SinkContract):
    count = 1

    @pytest.fixture
    def make(self, tmp_path):
        return lambda **options: ImageFileSink(tmp_path / "out.png", **options)

    def test_a_second_frame_is_refused(self, make, frames):
        sink = make()
        sink.write(frames[0])
        with pytest.raises(SinkError, match="name a folder"):
            sink.write(frames[0])
        sink.abort()


class TestImageFolderSink(SinkContract):
    stays = True

    @pytest.fixture
    def make(self, tmp_path):
        names = [f"{index}.png" for index in range(self.count)]
        return lambda **options: ImageFolderSink(tmp_path / "out", names, **options)
