"""Whole jobs on video files that are damaged, refused, stopped or fail: nothing is lost."""

from __future__ import annotations

import os
import re
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from edgerestore.errors import EdgerestoreError, SinkError, SourceError
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import InputKind
from edgerestore.streams.sources.files import VideoFileSource

from ..checked import not_none


def test_a_broken_packet_is_skipped_counted_and_reported(clip, restore, read, tmp_path, notices):
    source = clip(tmp_path / "in.mp4", frames=20, options={"g": "1", "bf": "0"}, audio=True)
    with av.open(str(source)) as container:
        packets = [one for one in container.demux(video=0) if one.size]
        place, size = not_none(packets[7].pos), packets[7].size
    raw = bytearray(source.read_bytes())
    raw[place : place + size] = b"\xff" * size
    source.write_bytes(raw)
    output, summary = restore(source)
    assert summary.frames_out == 19
    assert summary.frames_lost == {"broken packet": 1}
    assert [one for one in notices if "1 frame lost (broken packet)" in one]
    assert len(read(output).images) == 19
    assert Fraction(7 * 3600, 90_000) not in read(output).pts


def test_a_damaged_webm_is_not_a_disk_that_failed(clip, tmp_path):
    """FFmpeg's reader of Matroska says "Input/output error" of nonsense in a header."""
    source = clip(tmp_path / "in.webm", codec="libvpx-vp9", frames=5)
    raw = source.read_bytes()
    place = raw.rindex(bytes.fromhex("1549a966"))  # the head of its tracks
    source.write_bytes(raw[:place] + b"\xff" + raw[place + 1 :])
    with pytest.raises(SourceError, match="in.webm: is damaged; check the file"):
        VideoFileSource(source)


def test_a_film_of_larger_pictures_than_allowed_is_refused(clip, tmp_path):
    source = clip(tmp_path / "in.mp4", frames=2)
    with pytest.raises(SourceError, match="states 96 x 64 pixels.*--max-pixels 6144"):
        VideoFileSource(source, max_pixels=6143)
    VideoFileSource(source, max_pixels=6144).close()


@pytest.mark.parametrize("side", [40_000, 1_000_000])
def test_a_y4m_of_a_size_that_there_cannot_be_is_not_the_disk(tmp_path, side):
    source = tmp_path / "in.y4m"
    source.write_bytes(f"YUV4MPEG2 W{side} H{side} F25:1 C420jpeg\nFRAME\n".encode() + bytes(999))
    with pytest.raises(SourceError, match="its header is of no picture that there can be"):
        VideoFileSource(source)


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_a_file_cut_off_gives_what_there_is(clip, restore, read, tmp_path, notices, extension):
    options = {"movflags": "faststart"}
    source = tmp_path / f"in.{extension}"
    clip(tmp_path / f"whole.{extension}", frames=60, size=(320, 240), options=options)
    raw = (
        faststart(tmp_path / "whole.mp4")
        if extension == "mp4"
        else (tmp_path / "whole.mkv").read_bytes()
    )
    source.write_bytes(raw[: len(raw) * 2 // 3])
    output, summary = restore(source)
    assert 10 < summary.frames_out < 60
    assert len(read(output).images) == summary.frames_out
    assert sum(summary.frames_lost.values()) > 0
    assert [one for one in notices if "cut off" in one]


def faststart(path):
    """The same file with its index in front."""
    moved = path.with_name("moved.mp4")
    with (
        av.open(str(path)) as source,
        av.open(str(moved), "w", container_options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return moved.read_bytes()


def test_bytes_that_are_no_video(restore, tmp_path):
    cases = {
        "empty.mp4": b"",
        "text.mp4": b"this is no video at all\n" * 100,
        "noise.mkv": np.random.default_rng(0).bytes(20_000),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SourceError) as caught:
            restore(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="is not there"):
        restore(tmp_path / "missing.mp4")
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(cases)


def test_no_frame_is_an_error(clip, restore, tmp_path):
    source = clip(tmp_path / "in.mp4", frames=5, options={"g": "1", "bf": "0"})
    raw = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        for packet in [one for one in container.demux(video=0) if one.size]:
            place = not_none(packet.pos)
            raw[place : place + packet.size] = b"\xff" * packet.size
    source.write_bytes(raw)
    with pytest.raises(SourceError, match="no frame"):
        restore(source)
    assert [one.name for one in tmp_path.iterdir()] == ["in.mp4"]


def test_sound_alone_is_no_video(restore, tmp_path):
    with av.open(str(tmp_path / "in.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        chunk = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "stereo")
        chunk.sample_rate = 8000
        container.mux(stream.encode(chunk))
    with pytest.raises(SourceError, match="holds no video"):
        restore(tmp_path / "in.wav")


def test_outputs_that_are_refused(clip, restore, tmp_path):
    source = clip(tmp_path / "in.mp4", frames=2)
    content = source.read_bytes()
    (tmp_path / "there.mp4").write_bytes(b"precious")
    (tmp_path / "soft.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    (tmp_path / "folder.mp4").mkdir()
    before = sorted(one.name for one in tmp_path.iterdir())
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("there.mp4", {}, "exists; add --overwrite"),
        ("in.mp4", {"overwrite": True}, "is the input"),
        ("soft.mp4", {"overwrite": True}, "is the input"),
        ("hard.mp4", {"overwrite": True}, "is the input"),
        ("folder.mp4", {"overwrite": True}, "is a folder"),
        ("no/such/out.mp4", {}, "is not there; create it"),
        ("out.xyz", {}, "extension names no video format"),
        ("out", {}, "extension names no video format"),
        ("out.mp4", {"codec": "nonsense"}, "no video encoder nonsense; there are libx264"),
        ("out.mp4", {"codec": "aac"}, "no video encoder aac"),
        ("out.webm", {"codec": "libx264"}, "cannot hold libx264"),
        ("out.mp4", {"pix_fmt": "nonsense"}, "does not take --pix-fmt nonsense"),
        ("out.mkv", {"codec": "ffv1", "crf": 20.0}, "ffv1 has no --crf"),
        ("out.mp4", {"preset": "nonsense"}, "settings were refused"),
    ]
    for name, options, message in refused:
        with pytest.raises(SinkError) as caught:
            restore(source, name, **options)
        assert message in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == before
    assert (tmp_path / "there.mp4").read_bytes() == b"precious"
    assert source.read_bytes() == content


def test_no_permission(clip, restore, tmp_path):
    source = clip(tmp_path / "in.mp4", frames=2)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() == 0:
        # Root may write everywhere but into the kernel's own tree.
        closed = Path("/sys")
    with pytest.raises(SinkError, match="may not be written"):
        restore(source, closed / "out.mp4")


def test_overwrite_replaces(clip, restore, read, tmp_path):
    source = clip(tmp_path / "in.mp4", frames=3)
    (tmp_path / "out.mp4").write_bytes(b"old")
    output, _ = restore(source, overwrite=True)
    assert len(read(output).images) == 3


def test_a_failing_model_leaves_nothing(clip, restore, tmp_path, echo):
    source = clip(tmp_path / "in.mp4", frames=20, audio=True)
    with pytest.raises(RuntimeError, match="the model broke"):
        restore(source, restorer=echo(fail_at=9))
    assert [one.name for one in tmp_path.iterdir()] == ["in.mp4"]


def test_stopping_finishes_the_file(clip, restore, read, tmp_path, echo):
    source = clip(tmp_path / "in.mp4", frames=200, audio=True)
    stop = threading.Event()
    restorer = echo(delay=lambda index: stop.set() if index == 20 else None)
    output, summary = restore(source, restorer=restorer, stop=stop)
    assert summary.interrupted
    assert summary.exit_code == 130
    assert 20 <= summary.frames_out < 40
    assert not output.exists()
    partial = output.with_name(f"{output.stem}.partial{output.suffix}")
    assert len(read(partial).images) == summary.frames_out == summary.frames_in


def test_every_error_is_one_of_ours():
    assert issubclass(SinkError, EdgerestoreError)
    assert str(InputKind.VIDEO) == "video"


def test_frames_that_a_hole_in_matroska_swallowed_are_counted(tmp_path, clip, notices):
    path = clip(tmp_path / "in.mkv", frames=250, audio=True)  # two clusters and a bit
    data = bytearray(path.read_bytes())
    before = len(data) // 3
    data[before : before + 2000] = bytes(2000)
    path.write_bytes(data)
    source = VideoFileSource(path)
    frames = [item for item in source if isinstance(item, Frame)]
    source.close()
    assert 100 < len(frames) < 250
    assert len(frames) + source.lost["damaged place in the file"] == 250
    assert any("damaged place" in line for line in notices)


def test_a_pause_in_matroska_is_no_hole(tmp_path, clip):
    pts = [index * 3600 + (90_000 if index > 20 else 0) for index in range(40)]
    source = VideoFileSource(clip(tmp_path / "in.mkv", frames=40, pts=pts, audio=True))
    assert sum(isinstance(item, Frame) for item in source) == 40
    source.close()
    assert not source.lost


def test_frames_that_a_hole_swallowed_up_to_the_end_are_counted(tmp_path, clip, notices):
    path = clip(tmp_path / "in.mkv", frames=250, audio=True)
    data = bytearray(path.read_bytes())
    starts = [found.start() for found in re.finditer(rb"\x1f\x43\xb6\x75", data)]
    before, last = starts[-2:]  # of the last cluster only the sound is left
    middle = (before + last) // 2
    data[middle:last] = bytes(last - middle)
    path.write_bytes(data)
    source = VideoFileSource(path)
    frames = [item for item in source if isinstance(item, Frame)]
    source.close()
    assert sum(source.lost.values()) == pytest.approx(250 - len(frames), abs=1)
