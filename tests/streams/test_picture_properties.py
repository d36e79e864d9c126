"""What the pictures of a video say of themselves arrives, or a line says that it does not."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from edgerestore.streams.media.frames import Frame
from edgerestore.streams.media.hdr import hdr_metadata
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.streams.sources.pipe import open_pipe

HDR = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
PQ = (9, 16, 9, 1)


@pytest.mark.parametrize(
    ("name", "codec", "kept"),
    [
        ("out.mp4", None, True),
        ("out.mkv", None, True),
        ("out.mp4", "libvpx-vp9", True),
        ("out.mkv", "libvpx-vp9", False),
        ("out.webm", None, False),
        ("out.mkv", "ffv1", False),
    ],
)
def test_the_shape_of_pixels_arrives_or_is_told(
    clip, restore, read, tmp_path, notices, name, codec, kept
):
    source = clip(tmp_path / "in.mp4", frames=3, aspect=Fraction(4, 3))
    out, _ = restore(source, name, codec=codec)
    told = [line for line in notices if "shape of its pixels (4:3)" in line]
    assert bool(told) is not kept
    assert (read(out).aspect == Fraction(4, 3)) is kept


def graded(clip, path):
    settings = f"log-level=error:master-display={HDR}:max-cll=1000,400"
    return clip(
        path,
        frames=3,
        pix_fmt="yuv420p10le",
        tags=PQ,
        codec="libx265",
        options={"x265-params": settings},
    )


def metadata(path):
    with av.open(str(path)) as container:
        return hdr_metadata(next(container.decode(video=0)))


@pytest.mark.parametrize(("name", "codec"), [("out.mp4", None), ("out.mkv", "libx265")])
def test_hdr10_metadata_arrives(clip, restore, tmp_path, name, codec):
    source = graded(clip, tmp_path / "in.mp4")
    out, _ = restore(source, name, codec=codec)
    assert metadata(out) == metadata(source)
    assert metadata(out).light == (1000, 400)


def test_hdr10_becomes_av1_in_webm(clip, restore, read, tmp_path):
    out, _ = restore(graded(clip, tmp_path / "in.mp4"), "out.webm")
    assert read(out).pix_fmt == "yuv420p10le"
    made = metadata(out)
    assert made.light == (1000, 400)
    assert float(made.luminance[1]) == 1000
    assert made.primaries[0] == pytest.approx((0.68, 0.32), abs=1e-4)


def test_an_encoder_without_depth_and_light_is_told(clip, restore, tmp_path, notices):
    restore(graded(clip, tmp_path / "in.mp4"), "out.webm", codec="libvpx-vp9")
    assert any("10 bits a sample become 8; libvpx-vp9" in line for line in notices)
    assert any("HDR10 metadata is left out" in line for line in notices)


def combed(path):
    """Write a film whose two fields of each frame are half a frame apart."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"x264-params": "tff=1"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for index in range(12):
            image = moving(2 * index)
            image[1::2] = moving(2 * index + 1)[1::2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


def moving(step):
    """Return a bar that moves 3 px a step."""
    image = np.full((64, 96, 3), 40, np.uint8)
    image[:, 8 + 3 * step : 20 + 3 * step] = 200
    return image


def comb(image):
    """Return how much neighbouring rows differ, in grey levels."""
    return np.abs(np.diff(image[..., 1].astype(int), axis=0)).mean()


@pytest.mark.parametrize("deinterlace", [True, False])
def test_interlaced_frames_become_whole_ones_or_are_told(tmp_path, read, notices, deinterlace):
    source = combed(tmp_path / "in.mkv")
    opened = VideoFileSource(source, deinterlace=deinterlace)
    frames = [item for item in opened if isinstance(item, Frame)]
    opened.close()
    assert [one.pts * one.time_base for one in frames] == read(source).pts
    assert {one.duration * one.time_base for one in frames} == {Fraction(1, 25)}
    combs = [comb(one.image) for one in frames[1:-1]]
    assert bool(max(combs) < 3) is deinterlace
    (line,) = notices
    assert "12 frames interlaced; " in line
    assert ("deinterlaced" in line) is deinterlace


@pytest.mark.parametrize("deinterlace", [True, False])
def test_interlaced_frames_of_a_stream_too(tmp_path, read, notices, deinterlace):
    path = combed(tmp_path / "in.ts")
    source = open_pipe(io.BytesIO(path.read_bytes()), deinterlace=deinterlace)
    frames = list(source)
    source.close()
    given = read(path).pts
    assert [one.pts * one.time_base for one in frames] == [pts - given[0] for pts in given]
    combs = [comb(one.image) for one in frames[1:-1]]
    assert bool(max(combs) < 3) is deinterlace
    (line,) = notices
    assert "-: has interlaced frames; " in line
    assert ("deinterlaced" in line) is deinterlace


def test_hdr10_metadata_and_captions_of_a_stream_are_read(clip, tmp_path, picture_at):
    for path in (graded(clip, tmp_path / "in.mkv"), captioned(tmp_path / "in.h264", picture_at)):
        source = open_pipe(io.BytesIO(path.read_bytes()))
        frames = list(source)
        source.close()
        info = frames[0].info
        assert info is not None
        assert info.hdr == metadata(path)
        assert [one.captions is not None for one in frames] == [path.suffix == ".h264"] * len(
            frames
        )


def images(path, **options):
    source = VideoFileSource(path, **options)
    found = [item.image for item in source if isinstance(item, Frame)]
    source.close()
    return found


def test_a_progressive_film_is_left_alone(tmp_path, clip):
    path = clip(tmp_path / "in.mp4")
    for one, other in zip(images(path), images(path, deinterlace=False), strict=True):
        assert np.array_equal(one, other)


def captioned(path, picture_at):
    """Write a film with a closed caption in each frame, as H.264 carries them."""
    with av.open(str(path), "w", format="h264") as container:
        video = container.add_stream("libx264", rate=25, options={"bf": "0", "threads": "1"})
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        for index in range(6):
            frame = av.VideoFrame.from_ndarray(picture_at(index, 64, 96), format="rgb24")
            for packet in video.encode(frame):
                container.mux(with_caption(packet))
        for packet in video.encode(None):
            container.mux(with_caption(packet))
    return path


def with_caption(packet):
    """Return a packet with a message before its first slice, that counts its frames."""
    # ITU-T T.35 of ATSC: one pair of bytes of field 1.
    caption = b"\xb5\x00\x31GA94\x03\xc1\xff\xfc\x94" + bytes([0x20 + packet.pts]) + b"\xff"
    sei = b"\x00\x00\x01\x06\x04" + bytes([len(caption)]) + caption + b"\x80"
    data = bytes(packet)
    at = min(
        found
        for kind in (1, 5)
        for first in (0x20, 0x40, 0x60, 0)
        if (found := data.find(bytes([0, 0, 1, first | kind]))) >= 0
    )
    made = av.Packet(data[:at] + sei + data[at:])
    made.stream, made.time_base, made.pts, made.dts = (
        packet.stream,
        packet.time_base,
        packet.pts,
        packet.dts,
    )
    return made


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.ts"])
def test_closed_captions_arrive_with_their_frames(tmp_path, restore, picture_at, read, name):
    source = captioned(tmp_path / "in.h264", picture_at)
    out, _ = restore(source, name)
    given = captions(source)
    assert [one[2] - 0x20 for one in given] == list(range(6))
    assert captions(out) == given
    for index, image in enumerate(read(out).images):
        assert np.abs(image.astype(int) - picture_at(index, 64, 96)).mean() < 8


def captions(path):
    with av.open(str(path)) as container:
        found: list[Any] = [one for frame in container.decode(video=0) for one in frame.side_data]
        return [bytes(one) for one in found if one.type is Type.A53_CC]


def test_captions_that_an_encoder_cannot_hold_are_told(tmp_path, restore, picture_at, notices):
    restore(captioned(tmp_path / "in.h264", picture_at), "out.mkv", codec="ffv1")
    (line,) = (one for one in notices if "closed captions" in one)
    assert "left out; ffv1 cannot" in line


def test_a_change_of_size_is_letterboxed_and_told(tmp_path, clip, restore, read, notices):
    """It was stretched: people became a third wider."""
    parts = [clip(tmp_path / f"{side}.ts", frames=5, size=(side, 64)) for side in (96, 128)]
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(one.read_bytes() for one in parts))
    out, _ = restore(path, "out.mp4")
    images = read(out).images
    assert [image.shape for image in images] == [(64, 96, 3)] * 10
    assert images[0][:6].mean() > 60
    bars, middle = images[-1][[*range(7), *range(57, 64)]], images[-1][10:54]
    assert bars.max() < 24
    whole = cv2.resize(read(parts[1]).images[-1], (96, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(middle.astype(int) - whole[2:46]).mean() < 8
    assert any("5 frames of 128x64 pixels; scaled to 96x64" in line for line in notices)
    assert any("with black bars" in line for line in notices)


def test_colours_and_pixel_shapes_that_change_are_told(tmp_path, clip, restore, notices):
    looks: tuple[dict[str, Any], ...] = (
        {"aspect": Fraction(4, 3)},
        {"aspect": Fraction(16, 11), "tags": PQ},
    )
    parts = [clip(tmp_path / f"{i}.ts", frames=5, **look) for i, look in enumerate(looks)]
    path = tmp_path / "in.ts"
    path.write_bytes(b"".join(one.read_bytes() for one in parts))
    restore(path, "out.mp4")
    assert any("5 frames with other colour tags" in line for line in notices)
    assert any("with pixels of another shape" in line for line in notices)


def test_a_film_that_lost_its_transparency_does_not_claim_it(tmp_path, restore, notices):
    path = tmp_path / "in.webm"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libvpx-vp9", rate=25)
        video.width, video.height, video.pix_fmt = 96, 64, "yuva420p"
        video.metadata["alpha_mode"] = "1"
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(moving(index), format="rgb24")
            container.mux(video.encode(frame.reformat(format="yuva420p")))
        container.mux(video.encode(None))
    with av.open(str(path)) as given:
        assert given.streams.video[0].metadata["ALPHA_MODE"] == "1"
    out, _ = restore(path, "out.webm")
    assert any("transparency is left out" in line for line in notices)
    with av.open(str(out)) as made:
        assert "ALPHA_MODE" not in made.streams.video[0].metadata
