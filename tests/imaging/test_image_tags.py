"""Tags of pictures: what comes along, and what is said where it does not."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageCms, PngImagePlugin

from edgerestore.errors import SourceError
from edgerestore.imaging.image_files import decode_bytes, encode_image

PICTURE = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8))


def saved(kind, picture=PICTURE, **settings):
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def again(raw, suffix):
    image, tags = decode_bytes(raw, Path("in"))
    picture = Pillow.open(io.BytesIO(encode_image(image, tags, Path(f"out{suffix}"))))
    picture.load()
    return picture


@pytest.fixture
def photograph():
    exif = Pillow.Exif()
    exif[274], exif[271] = 6, "a maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return saved("JPEG", dpi=(240, 240), exif=exif, icc_profile=profile)


def test_a_png_keeps_text_colour_and_resolution():
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title")
    info.add_itxt("Comment", "\u00fc")
    info.add(b"gAMA", (45455).to_bytes(4, "big"))
    kept = again(saved("PNG", pnginfo=info, dpi=(300, 300)), ".png")
    assert kept.info["Title"] == "a title"
    assert kept.info["Comment"] == "\u00fc"
    assert kept.info["gamma"] == 0.45455
    assert kept.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    np.testing.assert_array_equal(np.asarray(kept), np.asarray(PICTURE))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_a_photograph_keeps_its_resolution_and_profile(photograph, suffix):
    kept = again(photograph, suffix)
    assert kept.size == (24, 32)
    assert kept.info["dpi"] == pytest.approx((240, 240), abs=0.01)
    assert kept.info["icc_profile"] == again(photograph, ".jpg").info["icc_profile"]


@pytest.mark.parametrize(
    ("suffix", "said"),
    [
        (".tif", ".tif cannot hold EXIF; left out"),
        (".webp", ".webp cannot hold resolution; left out"),
        (".bmp", ".bmp cannot hold EXIF, ICC profile, resolution; left out"),
        (".jpg", None),
        (".png", None),
    ],
)
def test_tags_that_a_format_does_not_hold_are_told(photograph, caplog, suffix, said):
    caplog.set_level(logging.WARNING)
    again(photograph, suffix)
    assert [line.partition(": ")[2] for line in caplog.messages] == ([said] if said else [])


def test_a_malformed_profile_does_not_stop_the_picture(caplog):
    caplog.set_level(logging.WARNING)
    raw = saved("JPEG", icc_profile=b"no profile" * 30)
    assert "icc_profile" not in again(raw, ".png").info
    assert any("ICC profile is malformed" in line for line in caplog.messages)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind):
    other = Pillow.fromarray(255 - np.asarray(PICTURE))
    raw = saved(kind, save_all=True, append_images=[other, PICTURE], duration=100)
    with pytest.raises(SourceError, match="an animation of 3 pictures"):
        decode_bytes(raw, Path("a"))


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_lower_quality_makes_a_smaller_file(suffix):
    image = np.asarray(PICTURE)
    sizes = [len(encode_image(image, None, Path(f"a{suffix}"), one)) for one in (10, 80, None)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 3


def test_avif_keeps_orientation_and_tags(photograph):
    exif = Pillow.Exif()
    exif[274], exif[271] = 6, "a maker"
    upright = PICTURE.transpose(Pillow.Transpose.ROTATE_270)
    raw = saved("AVIF", exif=exif, quality=100, subsampling="4:4:4")
    image, tags = decode_bytes(raw, Path("a.avif"))
    assert np.abs(image.astype(int) - np.asarray(upright)).mean() < 3
    assert "EXIF" in tags.names
    kept = again(raw, ".avif")
    assert kept.size == (24, 32)
    assert kept.getexif()[271] == "a maker"


def test_heic_is_read_or_the_extra_is_named():
    raw = b"\0\0\0\x18ftypheic" + bytes(40)
    with pytest.raises(SourceError, match=r"a\.heic: (\.heic needs pillow_heif: pip|is no image)"):
        decode_bytes(raw, Path("a.heic"))
