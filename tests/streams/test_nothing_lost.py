"""What is beside the picture is carried along, or its loss is said."""

import av
import cv2
import numpy as np
import pytest

from edgerestore.errors import SourceError
from edgerestore.streams.session import restore_path

from ..checked import imread

SRT = """1
00:00:00,100 --> 00:00:00,400
first line

2
00:00:00,500 --> 00:00:00,900
second line

"""


@pytest.fixture
def subtitled(tmp_path, picture):
    """A clip of a second with two subtitles, in Matroska."""
    text, path = tmp_path / "lines.srt", tmp_path / "clip.mkv"
    text.write_text(SRT)
    with av.open(str(text)) as lines, av.open(str(path), "w") as clip:
        video = clip.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        titles = clip.add_stream_from_template(lines.streams.subtitles[0])
        packets = [p for p in lines.demux(lines.streams.subtitles[0]) if p.size]
        for index in range(25):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, seed=index), format="rgb24")
            clip.mux(video.encode(frame))
        for packet in packets:
            packet.stream = titles
            clip.mux(packet)
        clip.mux(video.encode())
    return path


def subtitles(path):
    with av.open(str(path)) as clip:
        if not clip.streams.subtitles:
            return None
        return [(p.pts, p.duration, bytes(p)) for p in clip.demux(subtitles=0) if p.size]


def test_subtitles_are_copied_with_their_times(subtitled, tmp_path, echo, notices):
    out = tmp_path / "out.mkv"
    restore_path(echo(), str(subtitled), out, progress="none")
    assert subtitles(out) == subtitles(subtitled)
    assert [text for _, _, text in subtitles(out)] == [b"first line", b"second line"]
    assert notices == []


def test_subtitles_that_the_container_cannot_hold_are_named(subtitled, tmp_path, echo, notices):
    out = tmp_path / "out.mp4"
    restore_path(echo(), str(subtitled), out, progress="none")
    assert subtitles(out) is None
    assert any("subtitle" in line and "left out" in line for line in notices)


def test_transparency_of_a_video_is_said_to_be_left_out(tmp_path, echo, notices, picture):
    path = tmp_path / "clear.mkv"
    with av.open(str(path), "w") as clip:
        video = clip.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuva420p"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(picture(48, 64, seed=index), format="rgb24")
            clip.mux(video.encode(frame.reformat(format="yuva420p")))
        clip.mux(video.encode())
    restore_path(echo(), str(path), tmp_path / "out.mkv", progress="none")
    assert any("transparency" in line for line in notices)


def test_an_image_of_several_pages_is_refused_and_kept(tmp_path, echo, picture):
    path = tmp_path / "stack.tif"
    assert cv2.imwritemulti(str(path), [picture(20, 30, seed=i) for i in range(3)])
    with pytest.raises(SourceError, match="stack.tif: holds 3 pages"):
        restore_path(
            echo(), str(path), tmp_path / "out.tif", progress="none", notice=lambda line: None
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stack.tif"]


def test_an_image_of_one_page_is_taken(tmp_path, echo, picture):
    path = tmp_path / "one.tif"
    cv2.imwrite(str(path), picture(20, 30).astype(np.uint16) * 257)
    restore_path(echo(), str(path), tmp_path / "out.tif", progress="none")
    assert imread(tmp_path / "out.tif", cv2.IMREAD_UNCHANGED).dtype == np.uint16
