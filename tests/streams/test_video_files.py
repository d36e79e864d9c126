"""Whole jobs on real video files: what must come through, does."""

from __future__ import annotations

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

import edgerestore
from edgerestore.errors import SinkError, SourceError
from edgerestore.streams.session import restore_path

from ..checked import not_none

VARIABLE = [0, 3600, 5000, 9001, 20000, 20001, 40000, 90000, 91000, 95000]
QUARTER_TURN = (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
OTHER_TURN = (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30)
UPSIDE_DOWN = (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)
MIRRORED = (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


def psnr(a, b):
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return 10 * np.log10(255**2 / max(error, 1e-9))


@pytest.mark.parametrize("extension", ["mp4", "mov"])
def test_variable_frame_rate_and_sound_come_through_exactly(
    clip, restore, read, notices, tmp_path, extension
):
    source = clip(tmp_path / f"in.{extension}", pts=VARIABLE, audio=True, chapters=True)
    output, summary = restore(source, f"out.{extension}")
    before, after = read(source), read(output)
    assert after.pts == before.pts == [Fraction(one, 90_000) for one in VARIABLE]
    assert after.packets["audio"] == before.packets["audio"]
    assert after.chapters == before.chapters
    assert after.metadata["title"] == "a title"
    assert "fra" in after.languages
    assert (summary.frames_in, summary.frames_out, summary.frames_lost) == (10, 10, {})
    assert summary.exit_code == 0
    assert notices == []


def test_matroska_keeps_its_own_milliseconds(clip, restore, read, tmp_path):
    source = clip(
        tmp_path / "in.mkv", time_base=Fraction(1, 1000), pts=[0, 40, 95, 96, 300], audio=True
    )
    output, _ = restore(source, "out.mkv")
    before, after = read(source), read(output)
    assert after.pts == before.pts
    assert after.packets["audio"] == before.packets["audio"]


def test_matroska_ends_when_the_mp4_did(clip, restore, tmp_path):
    source = clip(tmp_path / "in.mp4", pts=VARIABLE)
    output, _ = restore(source, "out.mkv")
    with av.open(str(output)) as container:
        length_s = not_none(container.duration) / av.time_base
        assert length_s == pytest.approx((95000 + 3600) / 90000, abs=0.002)


@pytest.mark.parametrize(
    ("time_base", "step"),
    [(Fraction(1001, 30_000), 1), (Fraction(1, 600), 20), (Fraction(1, 25), 1)],
)
def test_any_clock_is_kept(clip, restore, read, tmp_path, time_base, step):
    source = clip(tmp_path / "in.mp4", time_base=time_base, pts=[step * one for one in range(12)])
    output, _ = restore(source)
    assert read(output).pts == read(source).pts


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "gray", "bgr0"])
@pytest.mark.parametrize("tags", [(1, 1, 1, 1), (6, 6, 6, 1), (2, 2, 2, 0), (1, 1, 1, 2)])
def test_untouched_pixels_survive_the_colour_conversions(
    clip, restore, read, tmp_path, pix_fmt, tags
):
    if pix_fmt == "bgr0":
        tags = (tags[0], tags[1], 0, 2)
    source = clip(tmp_path / "in.mkv", frames=3, pix_fmt=pix_fmt, tags=tags, codec="ffv1")
    output, _ = restore(source, "out.mkv", codec="ffv1", pix_fmt=pix_fmt)
    before, after = read(source), read(output)
    assert after.tags[:3] == before.tags[:3]
    difference = np.asarray(after.images, float) - np.asarray(before.images, float)
    assert psnr(before.images, after.images) > 42
    # libswscale rounds full range chroma down; its luma is exact.
    allowed = 0.7 if tags[3] == 2 else 0.35
    assert abs(difference.mean()) < allowed, "the picture became lighter or darker"


def test_colours_are_the_right_colours(clip, echo, picture_at, tmp_path, notices):
    seen = []
    for tags in ((1, 1, 1, 1), (6, 6, 6, 1), (6, 6, 5, 2)):
        source = clip(tmp_path / "in.mkv", frames=1, pix_fmt="yuv444p", tags=tags, codec="ffv1")
        restorer = echo(change=lambda image: (seen.append(image), image)[1])
        restore_path(
            restorer,
            str(source),
            tmp_path / "o.mkv",
            overwrite=True,
            progress="none",
        )
    for image in seen:
        assert np.abs(image.astype(int) - picture_at(0, 64, 96)).max() <= 4


def test_ten_bits_stay_ten_bits(clip, restore, read, tmp_path, echo):
    source = clip(tmp_path / "in.mp4", frames=5, pix_fmt="yuv420p10le", tags=(9, 16, 9, 1))
    dtypes = []
    output, _ = restore(
        source, restorer=echo(change=lambda i: (dtypes.append((i.dtype, i.max())), i)[1])
    )
    after = read(output)
    assert {one[0] for one in dtypes} == {np.dtype(np.uint16)}
    assert max(one[1] for one in dtypes) > 50_000
    assert after.pix_fmt == "yuv420p10le"
    assert after.tags == (9, 16, 9, 1)
    assert psnr(after.images, read(source).images) > 35


@pytest.mark.parametrize("matrix", [QUARTER_TURN, OTHER_TURN, UPSIDE_DOWN, MIRRORED])
def test_a_turned_video_is_shown_as_before(clip, restore, read, tmp_path, matrix):
    source = clip(tmp_path / "in.mp4", frames=3, matrix=matrix, aspect=Fraction(4, 3))
    shown = displayed(read(source).images[0], matrix)
    in_header, _ = restore(source, "out.mov")
    in_pixels, _ = restore(source, "out.mkv")
    header, pixels = read(in_header), read(in_pixels)
    assert header.rotation == read(source).rotation
    assert header.aspect == Fraction(4, 3)
    assert psnr(displayed(header.images[0], matrix), shown) > 30
    assert pixels.rotation == 0
    assert psnr(pixels.images[0], shown) > 30
    assert pixels.aspect == (Fraction(3, 4) if matrix[0] == 0 else Fraction(4, 3))


def displayed(image, matrix):
    """Place each pixel where the matrix sends it."""
    a, b, c, d = (matrix[index] // 65536 for index in (0, 1, 3, 4))
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    column, row = a * x + c * y, b * x + d * y
    column, row = column - column.min(), row - row.min()
    shown = np.zeros((row.max() + 1, column.max() + 1, 3), image.dtype)
    shown[row, column] = image
    return shown


def test_odd_sides(clip, restore, read, tmp_path):
    source = clip(tmp_path / "in.mkv", frames=3, size=(97, 63), codec="ffv1")
    with pytest.raises(SinkError, match="--pix-fmt yuv444p") as caught:
        restore(source, "out.mp4")
    assert caught.value.exit_code == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.mkv"]
    output, _ = restore(source, "out.mp4", pix_fmt="yuv444p")
    assert read(output).size == (97, 63)


def test_an_upscaling_model_sets_the_size(clip, restore, read, tmp_path, echo):
    source = clip(tmp_path / "in.mp4", frames=4, tags=(2, 2, 2, 0), size=(640, 360))
    double = echo(change=lambda image: image.repeat(2, 0).repeat(2, 1))
    output, _ = restore(source, restorer=double)
    after = read(output)
    assert after.size == (1280, 720)
    # From here on players guess BT.709; the colours were made with BT.601.
    assert after.tags[2] == 6


@pytest.mark.parametrize(
    "codec", ["libx265", "libvpx-vp9", "ffv1", "libsvtav1", "prores_ks", "mpeg4"]
)
def test_other_encoders(clip, restore, read, tmp_path, codec):
    source = clip(tmp_path / "in.mp4", frames=4, time_base=Fraction(1, 600), pts=[0, 24, 48, 72])
    output, summary = restore(source, "out.mkv", codec=codec)
    assert summary.frames_out == 4
    assert psnr(read(output).images, read(source).images) > 28


@pytest.mark.parametrize(
    ("name", "codec", "least_db"),
    [
        ("out.gif", None, 25),
        ("out.apng", None, 45),
        ("out.mov", "png", 45),
        ("out.mov", "qtrle", 45),
        ("out.avi", "targa", 45),
        ("out.avi", "cinepak", 20),
    ],
)
def test_encoders_that_could_store_grey_store_colour(
    restore, read, tmp_path, notices, picture, name, codec, least_db
):
    frames = [picture(48, 64, seed=seed) for seed in range(4)]
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    output, summary = restore(source, name, codec=codec)
    assert summary.frames_out == 4
    assert psnr(read(output).images, np.stack(frames)) > least_db
    told = f"{output}: gif holds 256 colours a frame; each gets its own palette"
    assert (told in notices) == (name == "out.gif")


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "mpeg1video"])
def test_encoders_of_coarse_clocks_take_any_film(clip, restore, read, tmp_path, notices, codec):
    source = clip(tmp_path / "in.mp4", frames=8)
    given, made = read(source), read(restore(source, "out.mkv", codec=codec)[0])
    assert len(made.images) == 8
    assert made.pts == given.pts
    assert notices == []


def test_webm_gets_an_encoder_that_fits(clip, restore, read, tmp_path, notices):
    source = clip(tmp_path / "in.mp4", frames=4, audio=True)
    output, _ = restore(source, "out.webm")
    assert read(output).codec in ("vp9", "libvpx-vp9")
    out = f"{output}: stream 1 (audio aac) is left out; it does not go into .webm, but into .mkv"
    assert notices == [out]


def test_no_audio(clip, restore, read, tmp_path, notices):
    output, _ = restore(clip(tmp_path / "in.mp4", frames=4, audio=True), audio=False)
    assert read(output).types == ["video"]
    assert notices == []


def test_cover_art_is_not_the_video(clip, restore, read, tmp_path):
    source = clip(tmp_path / "in.mp4", frames=6, cover=b"")
    output, summary = restore(source)
    assert summary.frames_out == 6
    assert read(output).size == (96, 64)


def test_real_footage(shared_data, restore, read):
    source = shared_data / "video" / "motorbike_540p.mp4"
    output, summary = restore(source, codec="ffv1", name="out.mkv")
    before, after = read(source), read(output)
    assert summary.frames_in == summary.frames_out == len(before.images) == 32
    assert [round(one * 1000) for one in after.pts] == [round(one * 1000) for one in before.pts]
    assert psnr(before.images, after.images) > 43
    assert abs(np.mean(np.asarray(after.images, float) - before.images)) < 0.2


@pytest.mark.parametrize("name", ["Movie: 1.mp4", "rtp: a %03d.mkv"])
def test_names_with_a_colon(clip, restore, read, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    source = clip(tmp_path / "in.mp4", frames=4).rename(name)
    output, _ = restore(source, f"Out: {name}")
    assert len(read(output).pts) == 4
    assert {one.name for one in tmp_path.iterdir()} == {name, output.name}


def test_a_picture_under_the_name_of_a_video_is_refused(restore, tmp_path):
    cv2.imwrite(str(tmp_path / "in.png"), np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "in.png").rename(tmp_path / "in.mp4")
    with pytest.raises(SourceError, match=r"in\.mp4: is a picture \(png\) whose name"):
        restore(tmp_path / "in.mp4", "out.mp4")
    assert [one.name for one in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("name", ["f%03d.png", "f%03d.tga", "out.jp2", "out.avif"])
def test_pictures_of_a_video_are_refused(clip, restore, tmp_path, name):
    source = clip(tmp_path / "in.mp4", frames=4)
    with pytest.raises(SinkError, match="holds one image, not a stream; use .mp4 or .mkv"):
        restore(source, name)
    assert [one.name for one in tmp_path.iterdir()] == ["in.mp4"]


def test_images_of_a_turned_film_are_upright(tmp_path, clip):
    film = clip(tmp_path / "in.mp4", frames=2, matrix=QUARTER_TURN)
    with edgerestore.load("deblur", precision="fp32") as restorer:
        image, _ = restorer.stream(film, strength=0)
    height, width = image.shape[:2]
    assert (width, height) == (64, 96)
