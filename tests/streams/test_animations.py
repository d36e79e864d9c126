"""Animations of PNG, WebP and AVIF: every picture, its time and its transparency."""

from __future__ import annotations

import av
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageSequence

from edgerestore.errors import SinkError, SourceError
from edgerestore.imaging.image_files import decode_image, decode_pictures
from edgerestore.streams.options import InputKind, VideoOptions
from edgerestore.streams.session import restore_path

SHOWN_MS = [40, 100, 70, 500]


def pictures(channels=3):
    """Return four pictures that differ, the last like the third but for one corner."""
    rng = np.random.default_rng(7)
    made = [rng.integers(0, 256, (24, 32, channels), dtype=np.uint8) for _ in range(3)]
    made.append(made[-1].copy())
    made[-1][:4, :4] = 9
    if channels == 4:
        for index, one in enumerate(made):
            one[..., 3] = 255
            one[index : index + 4, :8] = 0
    return made


def animation(path, channels=3, loops=2, **settings):
    first, *rest = (Pillow.fromarray(one) for one in pictures(channels))
    kind = {".webp": "WEBP", ".png": "PNG", ".apng": "PNG", ".avif": "AVIF"}[path.suffix]
    if kind == "WEBP":
        settings.setdefault("lossless", True)
    if kind == "PNG":
        settings.setdefault("disposal", 1)
    first.save(
        path, kind, save_all=True, append_images=rest, duration=SHOWN_MS, loop=loops, **settings
    )
    return path


def seen(path):
    """Return the pictures of an animation and how long each is shown, read by Pillow."""
    with Pillow.open(path) as file:
        frames = [
            (np.asarray(one.convert("RGBA")), round(one.info["duration"]))
            for one in ImageSequence.Iterator(file)
        ]
        return [one for one, _ in frames], [shown for _, shown in frames], file.info.get("loop")


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".webp", ".png", ".apng"])
def test_an_animation_stays_one(echo, notices, tmp_path, suffix, channels):
    source, output = animation(tmp_path / f"in{suffix}", channels), tmp_path / f"out{suffix}"
    summary = restore_path(echo(), str(source), output, progress="none")
    assert (summary.frames_out, summary.frames_expected) == (4, 4)
    given, wanted = seen(output), seen(source)
    assert given[1:] == wanted[1:] == (SHOWN_MS, 2)
    for one, other in zip(given[0], wanted[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert notices == []


def test_an_animated_avif_stays_one(echo, notices, tmp_path):
    source = animation(tmp_path / "in.avif", quality=100, subsampling="4:4:4")
    summary = restore_path(echo(), str(source), tmp_path / "out.avif", progress="none")
    assert summary.frames_out == 4
    with Pillow.open(tmp_path / "out.avif") as file:
        assert getattr(file, "n_frames", 1) == 4


def test_an_animation_becomes_a_video_of_its_times(echo, notices, tmp_path):
    source = animation(tmp_path / "in.webp")
    restore_path(echo(), str(source), tmp_path / "out.mkv", progress="none")
    with av.open(str(tmp_path / "out.mkv")) as file:
        times_s = [float(frame.time) for frame in file.decode(video=0)]
    assert times_s == pytest.approx([0, 0.04, 0.14, 0.21], abs=0.0011)


def test_transparency_that_a_video_cannot_hold_is_told(echo, notices, tmp_path):
    source = animation(tmp_path / "in.png", channels=4)
    restore_path(echo(), str(source), tmp_path / "out.mkv", progress="none")
    assert any("transparency is left out; libx264 holds none" in one for one in notices)


def test_a_video_that_holds_transparency_keeps_it(echo, notices, tmp_path):
    source = animation(tmp_path / "in.png", channels=4)
    options = VideoOptions(codec="ffv1", pix_fmt="bgra")
    restore_path(echo(), str(source), tmp_path / "out.mkv", progress="none", video=options)
    assert notices == []
    with av.open(str(tmp_path / "out.mkv")) as file:
        kept = [frame.to_ndarray(format="rgba") for frame in file.decode(video=0)]
    for one, given in zip(kept, pictures(4), strict=True):
        np.testing.assert_array_equal(one, given)


@pytest.mark.parametrize("loops", [None, 0, 3])
def test_a_gif_is_repeated_as_often(echo, notices, tmp_path, loops):
    first, *rest = (Pillow.fromarray(one) for one in pictures())
    repeated = {} if loops is None else {"loop": loops}
    first.save(tmp_path / "in.gif", save_all=True, append_images=rest, duration=100, **repeated)
    restore_path(echo(), str(tmp_path / "in.gif"), tmp_path / "out.gif", progress="none")
    assert seen(tmp_path / "out.gif")[2] == loops


def test_animations_in_a_folder(echo, notices, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    animation(folder / "b.webp")
    Pillow.fromarray(pictures()[0]).save(folder / "a.png")
    Pillow.fromarray(pictures()[1]).save(folder / "c.png")
    summary = restore_path(echo(), str(folder), tmp_path / "out", progress="none")
    assert summary.kind is InputKind.FOLDER
    assert (summary.frames_out, summary.frames_expected) == (6, 6)
    assert len(seen(tmp_path / "out" / "b.webp")[0]) == 4
    for name, index in (("a", 0), ("c", 1)):
        np.testing.assert_array_equal(
            decode_image(tmp_path / "out" / f"{name}.png")[0], pictures()[index]
        )


def test_of_what_is_skipped_an_animation_is_one_image(echo, notices, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    animation(folder / "a.webp")
    (folder / "b.png").write_bytes(b"broken")
    restore_path(echo(), str(folder), tmp_path / "out", progress="none")
    assert notices[-1] == f"{folder}: 1 of 2 images were skipped"


def test_what_an_animation_loses_is_told(echo, notices, tmp_path):
    exif = Pillow.Exif()
    exif[271] = "a maker"
    source = animation(tmp_path / "in.webp", exif=exif)
    restore_path(echo(), str(source), tmp_path / "out.webp", progress="none")
    assert any("an animation is written without EXIF" in one for one in notices)


def test_a_format_of_one_picture_refuses_an_animation(echo, tmp_path):
    source = animation(tmp_path / "in.webp")
    with pytest.raises(SinkError, match=r"\.jpg holds one picture, no animation; use \.webp"):
        restore_path(echo(), str(source), tmp_path / "out.jpg", progress="none")
    assert [one.name for one in tmp_path.iterdir()] == ["in.webp"]


def test_a_damaged_animation_is_one_line(echo, tmp_path):
    raw = animation(tmp_path / "whole.webp").read_bytes()
    (tmp_path / "in.webp").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(SourceError, match=r"in\.webp: "):
        restore_path(echo(), str(tmp_path / "in.webp"), tmp_path / "out.webp", progress="none")
    assert not (tmp_path / "out.webp").exists()


def test_an_animation_that_fills_the_memory_is_refused_by_its_header(tmp_path):
    first, *rest = (Pillow.fromarray(one) for one in pictures() * 2)
    first.save(tmp_path / "in.webp", save_all=True, append_images=rest, lossless=True, duration=50)
    decode_pictures(tmp_path / "in.webp", max_pixels=32 * 24 * 8 // 6)
    with pytest.raises(SourceError, match="an animation of 8 pictures of 32 x 24, all of which"):
        decode_pictures(tmp_path / "in.webp", max_pixels=32 * 24)


def test_one_picture_is_wanted_where_one_is_given_back(tmp_path):
    with pytest.raises(SourceError, match="an animation of 4 pictures"):
        decode_image(animation(tmp_path / "in.png"))
