"""Time of files: counted from the first packet, without the jumps of transport streams."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import chain, pairwise

import av
import numpy as np
import pytest

from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.streams.sources.pipe import open_pipe

from ..checked import not_none

SECOND = 90_000


@pytest.fixture(scope="module")
def ts(tmp_path_factory, picture_at):
    """Return the bytes of a transport stream with sound, of frames that begin at some second."""
    folder = tmp_path_factory.mktemp("ts")

    def make(frames=25, start_s=0, audio=True, rate=25, container="mpegts", pix_fmt="yuv420p"):
        path = folder / "made.ts"
        with av.open(str(path), "w", format=container) as clip:
            video = clip.add_stream("libx264", rate=rate, options={"threads": "1"})
            video.width, video.height, video.pix_fmt = 96, 64, pix_fmt
            sound = clip.add_stream("aac", rate=48_000) if audio else None
            for index in range(frames):
                picture = av.VideoFrame.from_ndarray(picture_at(index, 64, 96), format="rgb24")
                picture.pts, picture.time_base = start_s * rate + index, Fraction(1, rate)
                clip.mux(video.encode(picture))
                if sound is not None:
                    silence = np.zeros((1, 48_000 // rate), np.float32)
                    chunk = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                    chunk.sample_rate, chunk.time_base = 48_000, Fraction(1, 48_000)
                    chunk.pts = (start_s * rate + index) * (48_000 // rate)
                    clip.mux(sound.encode(chunk))
            clip.mux(video.encode(None))
            if sound is not None:
                clip.mux(sound.encode(None))
        return path.read_bytes()

    return make


def times(items):
    frames, sound = [], []
    for item in items:
        if isinstance(item, Frame):
            frames.append(item.pts * item.time_base)
        else:
            sound.append(not_none(item.packet.pts) * not_none(item.packet.time_base))
    return frames, sound


def read(path, **options):
    """Return the times of the frames and of the sound, in seconds."""
    source = VideoFileSource(path, **options)
    frames, sound = times(source)
    source.close()
    return frames, sound


def steps(moments):
    return {round(float(later - one), 3) for one, later in pairwise(moments)}


@pytest.mark.parametrize("start_s", [0, 36_000, 95_443])  # the last runs over: 2**33 / 90000
def test_time_begins_at_0_whatever_the_clock_begins_with(tmp_path, ts, start_s):
    path = tmp_path / "late.ts"
    path.write_bytes(ts(100, start_s))
    frames, sound = read(path)
    assert min(frames[0], sound[0]) == 0
    assert len(frames) == 100
    assert steps(frames) == {0.04}
    assert steps(sound) == {0.021}
    assert abs(frames[-1] - sound[-1]) < 0.1


def test_two_that_were_joined_go_on_without_a_gap(tmp_path, ts, echo, notices, restore):
    path = tmp_path / "joined.ts"
    path.write_bytes(ts() * 2)
    frames, sound = read(path)
    assert len(frames) == 50
    assert steps(frames) == {0.04}
    assert len(sound) == 96
    # What the first one's sound lasts longer than its pictures overlaps with the second one.
    assert all(later > one - 0.05 for one, later in pairwise(sound))
    assert abs(frames[-1] - sound[-1]) < 0.1
    assert any("clock jumps at 1 place" in line for line in notices)
    out, _ = restore(path, "out.mp4")
    with av.open(str(out)) as made:
        assert sum(p.size > 0 for p in made.demux(audio=0)) == 96
        assert made.duration == pytest.approx(2_024_000, abs=30_000)


def test_a_long_gap_is_closed_or_kept(tmp_path, ts, notices):
    path = tmp_path / "gap.ts"
    path.write_bytes(ts() + ts(start_s=600))
    closed, _ = read(path)
    assert closed[-1] < 2.1
    assert steps(closed) == {0.04}
    kept, sound = read(path, keep_gaps=True)
    assert kept[-1] == pytest.approx(600.98, abs=0.1)
    assert abs(kept[-1] - sound[-1]) < 0.1
    assert sum("jumps" in line for line in notices) == 1


def test_sound_that_pauses_alone_is_no_jump(tmp_path, clip, picture_at):
    path = tmp_path / "pause.ts"
    with av.open(str(path), "w") as made:
        video = made.add_stream("libx264", rate=5, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = made.add_stream("aac", rate=48_000)
        for index in range(80):
            picture = av.VideoFrame.from_ndarray(picture_at(index, 64, 96), format="rgb24")
            picture.pts, picture.time_base = index, Fraction(1, 5)
            made.mux(video.encode(picture))
            if index < 10 or index >= 70:
                silence = np.zeros((1, 9600), np.float32)
                chunk = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
                chunk.sample_rate, chunk.pts = 48_000, index * 9600
                made.mux(sound.encode(chunk))
        made.mux(video.encode(None))
        made.mux(sound.encode(None))
    frames, heard = read(path)
    assert steps(frames) == {0.2}
    assert heard[-1] == pytest.approx(16, abs=0.3)


def test_a_matroska_file_that_begins_late_is_whole(tmp_path, ts, notices):
    path = tmp_path / "late.mkv"
    path.write_bytes(ts(start_s=1000, container="matroska"))
    source = VideoFileSource(path)
    assert source.expected_frames == pytest.approx(25, abs=1)
    frames = [item for item in source if isinstance(item, Frame)]
    source.close()
    assert len(frames) == 25
    assert not source.lost
    assert notices == []


def test_an_avi_with_reordered_frames_keeps_their_times(tmp_path, ts):
    path = tmp_path / "reordered.avi"
    path.write_bytes(ts(audio=False, container="avi"))
    frames, _ = read(path)
    assert frames == [Fraction(index, 25) for index in range(25)]


@pytest.mark.parametrize("name", ["in.h264", "in.mkv", "in.ts"])
def test_an_avi_states_the_rate_of_its_input(tmp_path, ts, notices, restore, name):
    path = tmp_path / name
    container = {"in.h264": "h264", "in.mkv": "matroska", "in.ts": "mpegts"}[name]
    path.write_bytes(ts(audio=False, container=container))
    out, _ = restore(path, "out.avi")
    with av.open(str(out)) as made:
        assert made.streams.video[0].average_rate == 25
        assert sum(p.size > 0 for p in made.demux(video=0)) == 25


def test_an_avi_of_a_varying_rate_says_what_it_moved(tmp_path, clip, notices, restore):
    pts = [index * 3600 + index * index * 137 % 1700 for index in range(20)]
    out, _ = restore(clip(tmp_path / "in.mp4", frames=20, pts=pts), "out.avi")
    assert any("frames were moved by up to" in line and ".mkv" in line for line in notices)
    with av.open(str(out)) as made:
        assert len(list(made.decode(video=0))) == 20


def test_frames_before_the_first_time_lead_up_to_it(tmp_path, ts, notices):
    path = tmp_path / "in.ts"
    path.write_bytes(ts())

    class Untimed(VideoFileSource):
        seen = 0

        def _stamped(self, frame, pts):
            self.seen += 1
            return super()._stamped(frame, None if self.seen <= 5 else pts)

    source = Untimed(path)
    frames, sound = times(source)
    source.close()
    assert frames[0] >= 0
    assert abs(sound[-1] - frames[-1]) < 0.3  # the sound moved along
    assert any("5 frames had no usable time" in line for line in notices)
    assert steps(frames) == {0.04}


def test_a_pipe_of_two_that_were_joined_goes_on_without_a_gap(ts, notices):
    source = open_pipe(io.BytesIO(ts() * 2))
    frames, _ = times(source)
    source.close()
    assert steps(frames) == {0.04}
    assert len(frames) == 50
    assert any("-: its clock jumps at 1 place" in line for line in notices)


@pytest.mark.parametrize("keep_gaps", [False, True])
def test_a_gap_of_a_pipe_is_closed_or_kept(ts, notices, keep_gaps):
    source = open_pipe(io.BytesIO(ts() + ts(start_s=600)), keep_gaps=keep_gaps)
    frames, _ = times(source)
    source.close()
    assert frames[-1] - frames[0] == pytest.approx(600.96 if keep_gaps else 1.96, abs=0.1)


def test_frames_that_an_edit_list_leaves_out_are_not_expected(tmp_path, picture_at):
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as made:
        video = made.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        pictures = [
            av.VideoFrame.from_ndarray(picture_at(index, 48, 64), format="rgb24")
            for index in range(25)
        ]
        for packet in chain(*(video.encode(one) for one in [*pictures, None])):
            packet.pts = packet.dts = not_none(packet.pts) - 10
            made.mux(packet)
    source = VideoFileSource(path)
    assert source.expected_frames == 15
    frames = [item for item in source if isinstance(item, Frame)]
    assert (len(frames), frames[0].pts, sum(source.lost.values())) == (15, 0, 0)


def test_a_change_of_depth_is_told(tmp_path, ts, notices):
    path = tmp_path / "joined.ts"
    path.write_bytes(ts(audio=False) + ts(audio=False, pix_fmt="yuv420p10le"))
    frames = [item for item in VideoFileSource(path) if isinstance(item, Frame)]
    assert len(frames) == 50
    assert any(
        "25 frames of 10 bits a sample; written as the first, of 8" in one for one in notices
    )
