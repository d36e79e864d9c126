"""Formats and codecs drawn by chance: every failure of the libraries is one of our errors."""

from __future__ import annotations

import random
from concurrent.futures import Future
from typing import TYPE_CHECKING, cast

import av
import cv2
import numpy as np
import pytest

from edgerestore.errors import EdgerestoreError, SourceError
from edgerestore.imaging.error_translation import translated
from edgerestore.streams.options import VideoOptions
from edgerestore.streams.session import restore_path

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("notices")  # what is left out is logged

CONTAINERS = ("mkv", "mp4", "mov", "avi", "webm", "ts", "nut", "gif", "mpg")
DRAWN = 60


class Echo:
    depth = 2

    def submit(self, image):
        done: Future[object] = Future()
        done.set_result(image)
        return done


def encoders():
    """Return the video encoders of this build, those of devices as well, by name."""
    found = []
    for name in sorted(av.codecs_available):
        try:
            codec = av.Codec(name, "w")
        except ValueError:
            continue
        if codec.type == "video":
            found.append(codec)
    return found


def restore(source: Path, output: Path, codec: str | None = None) -> str:
    """Return what the run said, empty where it wrote the file."""
    try:
        restore_path(
            Echo(),
            str(source),
            output,
            overwrite=True,
            progress="none",
            video=VideoOptions(codec=codec),
        )
    except EdgerestoreError as error:
        return str(error)
    return ""


def test_any_encoder_in_any_container_writes_or_says_why(clip, tmp_path):
    source = clip(tmp_path / "in.mkv", frames=3, size=(64, 48))
    pairs = [(codec.name, extension) for codec in encoders() for extension in CONTAINERS]
    drawn = random.Random(0).sample(pairs, DRAWN)
    outcomes = [restore(source, tmp_path / f"out.{end}", codec) for codec, end in drawn]
    assert outcomes.count("") > 5
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_an_encoder_of_a_device_is_refused_in_a_line(clip, tmp_path):
    names = {codec.name for codec in encoders()}
    devices = [name for name in ("h264_qsv", "hevc_vaapi", "h264_nvenc") if name in names]
    source = clip(tmp_path / "in.mkv", frames=2, size=(64, 48))
    for codec in devices:
        assert "out.mkv: " in restore(source, tmp_path / "out.mkv", codec)


def write_clip(path: Path, codec: str, pix_fmt: str) -> bool:
    """Write three frames; return whether this build can."""
    rng = np.random.default_rng(0)
    try:
        with av.open(str(path), "w") as container:
            stream = cast("av.VideoStream", container.add_stream(codec, rate=25))
            stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
            for index in range(3):
                image = rng.integers(0, 255, (48, 64, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format=pix_fmt)
                frame.pts = index
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def test_any_codec_and_pixel_format_is_read_or_refused_whole_and_damaged(tmp_path):
    draw = random.Random(0)
    pairs = [
        (codec.name, pix_fmt.name)
        for codec in encoders()
        for pix_fmt in codec.video_formats or ()
        if not codec.name.startswith(("libsvt", "libx265"))  # they write to standard error
    ]
    read = 0
    for index, (codec, pix_fmt) in enumerate(draw.sample(pairs, DRAWN)):
        source = tmp_path / f"{index}.{draw.choice(('nut', 'mov', 'mkv'))}"
        if not write_clip(source, codec, pix_fmt):
            continue
        read += not restore(source, tmp_path / "out.mkv", "ffv1")
        damaged = bytearray(source.read_bytes())
        for _ in range(1 + len(damaged) // 200):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        source.write_bytes(damaged)
        restore(source, tmp_path / "out.mkv", "ffv1")
    assert read > DRAWN // 3


def test_any_damaged_picture_is_read_or_refused(tmp_path):
    draw, rng = random.Random(0), np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 255, (48, 64, 3), np.uint8), (5, 5), 0)
    for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp"):
        raw = cv2.imencode(suffix, image)[1].tobytes()
        for index in range(12):
            damaged = bytearray(raw[: draw.randrange(len(raw))] if index % 3 == 0 else raw)
            for _ in range(1 + len(damaged) // 500):
                if damaged:
                    damaged[draw.randrange(len(damaged))] = draw.randrange(256)
            source = tmp_path / f"in{suffix}"
            source.write_bytes(damaged)
            restore(source, tmp_path / "out.png")


def test_a_picture_with_exif_plays_as_video(tmp_path):
    """FFmpeg hands the tags of a camera on with the frame, under a number that PyAV lacks."""
    source = tmp_path / "in.mov"
    assert write_clip(source, "tiff", "rgb24")
    assert restore(source, tmp_path / "out.mkv") == ""
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_what_the_binding_of_a_library_raises_is_told_with_its_words():
    told = pytest.raises(SourceError, match=r"in\.mp4: .*ValueError: .*no_such_format")
    with told, translated(SourceError, "in.mp4"):
        av.VideoFormat("no_such_format")
    with pytest.raises(ValueError, match="ours"), translated(SourceError, "in.mp4"):
        raise ValueError("ours")
