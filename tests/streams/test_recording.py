"""Recordings of live streams: whole files, cut where they should be."""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from edgerestore.errors import ArgumentError, SinkError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.media.encoding import VideoOptions
from edgerestore.streams.media.frames import ColorTags, Frame, Passthrough, VideoInfo
from edgerestore.streams.options import LiveOptions, SinkOptions
from edgerestore.streams.session import Session
from edgerestore.streams.sinks.partial_file import PartialFile
from edgerestore.streams.sinks.recording import RecordingSink
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.testing.sinks import FileSinkTests

from ..checked import not_none
from .tools import read_video

MILLISECOND = Fraction(1, 1000)
# Quick to encode; what is tested here is where the files end.
FAST = VideoOptions(preset="ultrafast")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class TestRecordingSink(FileSinkTests):
    kept = 1

    @pytest.fixture
    def make(self, tmp_path, notices):
        def one(**options):
            return RecordingSink(tmp_path / "out.mp4", SinkOptions(video=FAST, **options))

        return one

    def arrived(self, sink, tmp_path):
        return read_video(tmp_path / "out.mp4")

    def test_a_stream_without_a_frame_leaves_no_file(self, make, tmp_path):
        make().close()
        assert names(tmp_path) == []


class TestSegmentedRecordingSink(FileSinkTests):
    stays = True
    kept = 3
    refuses = False

    @pytest.fixture
    def make(self, tmp_path, notices):
        def one(**options):
            return RecordingSink(
                tmp_path / "out.mp4", SinkOptions(video=FAST, segment_s=1 / 25, **options)
            )

        return one

    def arrived(self, sink, tmp_path):
        files = [read_video(path) for path in sink.files]
        assert [len(frames) for frames in files] == [1] * self.count
        assert {frames[0][0] for frames in files} == {0}
        return [(None, frames[0][1]) for frames in files]


@pytest.fixture
def record(tmp_path, notices):
    """Record frames of given times (in ms); return the sink, closed."""

    def run(times, name="cam.mp4", size=lambda index: (64, 96), info=None, video=FAST, **options):
        sink = RecordingSink(tmp_path / name, SinkOptions(video=video, **options))
        for index, at in enumerate(times):
            image = np.full((*size(index), 3), index % 250, np.uint8)
            sink.write(Frame(image, at, MILLISECOND, info=info))
        sink.close()
        return sink

    return run


@pytest.mark.parametrize("video", [FAST, VideoOptions()], ids=["plain", "reordered"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
def test_segments_are_cut_at_their_bounds(record, read, tmp_path, suffix, video):
    if suffix == ".webm":
        video = VideoOptions()  # its encoder knows no presets
    times = [index * 40 + 7000 for index in range(130)]
    sink = record(times, f"cam{suffix}", video=video, segment_s=2)
    assert names(tmp_path) == [f"cam-{n:04}{suffix}" for n in (1, 2, 3)]
    assert [path.name for path in sink.files] == names(tmp_path)
    lengths = []
    for path in sink.files:
        video = read(path)
        assert video.pts[0] == 0
        assert {later - one for one, later in pairwise(video.pts)} == {Fraction(1, 25)}
        lengths.append(len(video.pts))
    assert lengths == [50, 50, 30]


def test_uneven_times_are_kept_and_bounds_do_not_drift(record, read):
    times = [0, 30, 999, 1001, 1500, 2100, 2990, 5500, 5540]
    sink = record(times, segment_s=1)
    found = [[int(one * 1000) for one in read(path).pts] for path in sink.files]
    assert found == [[0, 30, 999], [0, 499], [0, 890], [0, 40]]
    lengths = [duration_ms(path) for path in sink.files]
    # The last frame of a file lasts until the next file's first, but for the gap's.
    assert lengths == [1001, 1099, 900, 80]


def duration_ms(path):
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return round(not_none(video.duration) * not_none(video.time_base) * 1000)


def test_numbers_go_on_after_what_exists(record, tmp_path):
    for name in ("cam-0003.mp4", "cam-0007.recovered.mp4", "camera-0050.mp4", "cam-0100.mkv"):
        (tmp_path / name).touch()
    sink = record([0, 40], segment_s=5)
    assert [path.name for path in sink.files] == ["cam-0008.mp4"]


def test_another_size_goes_on_in_another_file(record, read, notices):
    log = EventLog()
    sink = record(
        [index * 40 for index in range(30)],
        size=lambda index: (64, 96) if index < 10 or index >= 20 else (32, 48),
        log=log,
    )
    assert [path.name for path in sink.files] == ["cam.mp4", "cam-0002.mp4", "cam-0003.mp4"]
    assert [read(path).size for path in sink.files] == [(96, 64), (48, 32), (96, 64)]
    assert [len(read(path).pts) for path in sink.files] == [10, 10, 10]
    assert [(event.kind, event.cause) for event in log.events] == [
        (EventKind.OUTPUT, "changed"),
        (EventKind.OUTPUT, "changed"),
    ]
    assert str(sink.files[1]) in log.events[0].message
    assert notices == []


@pytest.mark.parametrize(("suffix", "files"), [(".mp4", 3), (".mkv", 1)])
def test_an_index_in_memory_is_bounded(record, suffix, files):
    half_a_day_ms = 12 * 3600 * 1000
    times = [0, 40, half_a_day_ms, half_a_day_ms + 40, 2 * half_a_day_ms]
    sink = record(times, f"cam{suffix}")
    expected = [f"cam{suffix}", f"cam-0002{suffix}", f"cam-0003{suffix}"]
    assert [path.name for path in sink.files] == expected[:files]


def test_facts_of_the_stream_reach_the_file(record, read):
    info = VideoInfo(96, 64, MILLISECOND, Fraction(25), color=ColorTags(1, 1, 1, False))
    sink = record([0, 40, 80], info=info)
    assert read(sink.files[0]).tags == (1, 1, 1, 1)


def test_a_finished_file_is_a_regular_seekable_mp4(record):
    sink = record([index * 40 for index in range(200)])
    with av.open(str(sink.files[0])) as container:
        video = container.streams.video[0]
        assert (video.frames, duration_ms(sink.files[0])) == (200, 8000)
        container.seek(6_000_000)
        frame = next(container.decode(video=0))
        assert 3.9 < not_none(frame.time) <= 6
    assert boxes(sink.files[0])[-1] == "moov"
    assert "moof" not in boxes(sink.files[0])


def boxes(path):
    """Return the outermost boxes of an mp4 file."""
    data, offset, found = path.read_bytes(), 0, []
    while offset < len(data):
        found.append(data[offset + 4 : offset + 8].decode())
        offset += int.from_bytes(data[offset : offset + 4], "big")
    return found


def test_sound_begins_anew_in_every_segment(clip, tmp_path, read):
    source = VideoFileSource(clip(tmp_path / "in.mp4", frames=50, audio=True))
    sink = RecordingSink(tmp_path / "out.mp4", SinkOptions(video=FAST, segment_s=1))
    for item in source:
        if isinstance(item, Frame):
            sink.write(Frame(item.image, item.pts, item.time_base, info=source.info))
        else:
            assert isinstance(item, Passthrough)
            sink.write(item)
    sink.close()
    source.close()
    assert len(sink.files) == 2
    for path in sink.files:
        assert 0 <= read(path).packets["audio"][0][0] < 4800


def test_a_file_in_segments_keeps_all_that_it_says(clip, echo, tmp_path, read):
    quarter = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    film = clip(
        tmp_path / "in.mp4",
        frames=50,
        audio=True,
        chapters=True,
        tags=(9, 14, 9, 1),
        matrix=quarter,
        pix_fmt="yuv420p10le",
        aspect=Fraction(4, 3),
    )
    Session(echo(), film, [tmp_path / "out.mp4"], LiveOptions(segment_s=1)).run()
    whole, *parts = [read(path) for path in [film, *sorted(tmp_path.glob("out-*.mp4"))]]
    assert len(parts) == 2
    for one in parts:
        assert one.types == ["video", "audio"]
        assert (one.tags, one.pix_fmt) == ((9, 14, 9, 1), "yuv420p10le")
        assert (one.rotation, one.aspect) == (-90, Fraction(4, 3))
        assert one.chapters == []
        assert one.packets["audio"][0][0] < 1024  # nothing of its sound lies in another file
    sound = [data for pts, _, data in whole.packets["audio"] if pts >= 0]
    assert [data for one in parts for _, _, data in one.packets["audio"]] == sound


@pytest.mark.parametrize(
    ("output", "options", "says"),
    [
        ("out.xyz", {}, "names no video format"),
        ("none/out.mp4", {}, "the folder .* is not there"),
        ("taken.mp4", {}, "exists"),
        ("out.mp4", {"codec": "libnothing"}, "no video encoder"),
    ],
)
def test_what_is_refused_before_the_first_frame(tmp_path, output, options, says):
    (tmp_path / "taken.mp4").touch()
    with pytest.raises(SinkError, match=says):
        RecordingSink(tmp_path / output, SinkOptions(video=VideoOptions(**options)))
    assert names(tmp_path) == ["taken.mp4"]


def test_a_slow_end_does_not_hold_up_the_next_segment(tmp_path, monkeypatch):
    slow = threading.Event()
    commit = PartialFile.commit
    late = lambda self, **how: (slow.wait(10), commit(self, **how))[1]  # noqa: E731
    monkeypatch.setattr(PartialFile, "commit", late)
    sink = RecordingSink(tmp_path / "cam.mp4", SinkOptions(video=FAST, segment_s=1))
    image = np.zeros((64, 96, 3), np.uint8)
    before = time.perf_counter()
    for index in range(40):
        sink.write(Frame(image, index * 40, MILLISECOND))
    assert time.perf_counter() - before < 5
    assert not (tmp_path / "cam-0001.mp4").exists()
    slow.set()
    sink.close()
    assert names(tmp_path) == ["cam-0001.mp4", "cam-0002.mp4"]


@pytest.mark.parametrize("segment_s", [0, -1, float("inf"), float("nan")])
def test_a_segment_has_a_length(tmp_path, segment_s):
    with pytest.raises(ArgumentError):
        RecordingSink(tmp_path / "cam.mp4", SinkOptions(video=FAST, segment_s=segment_s))


def test_a_transport_stream_holds_h264(tmp_path, read, picture_at):
    sink = RecordingSink(tmp_path / "cam.ts", SinkOptions(video=FAST))
    for index in range(8):
        sink.write(Frame(picture_at(index, 64, 96), index, Fraction(1, 25), 1))
    sink.close()
    found = read(tmp_path / "cam.ts")
    assert (found.codec, len(found.images)) == ("h264", 8)


def test_a_change_to_an_odd_size_is_recorded_without_its_last_column(tmp_path, notices):
    sink = RecordingSink(tmp_path / "out.mp4", SinkOptions(video=FAST))
    for index, (width, height) in enumerate([(96, 64), (96, 64), (35, 47), (35, 47)]):
        image = np.full((height, width, 3), 60 * index, np.uint8)
        sink.write(Frame(image, index * 40, MILLISECOND, 40))
    sink.close()
    sizes = [read_video(path)[0][1].shape[1::-1] for path in sink.files]
    assert sizes == [(96, 64), (34, 46)]
    (line,) = (one for one in notices if "left out" in one)
    assert "out-0002.mp4: an odd last row or column is left out, for frames of 34x46" in line
