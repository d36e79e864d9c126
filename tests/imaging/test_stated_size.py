"""What pictures state of their size is read, and bounded, before anything is decoded."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from edgerestore.errors import ArgumentError, SourceError
from edgerestore.imaging.image_files import FORMATS, decode_bytes, decode_image, encode_image
from edgerestore.imaging.stated_size import check_pixels, stated_size
from edgerestore.streams.options import SourceOptions
from edgerestore.streams.sources.images import ImageFilesSource

PICTURE = np.random.default_rng(0).integers(0, 256, (37, 91, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", sorted(one for one, row in FORMATS.items() if row.dtypes))
def test_the_size_of_each_format_that_is_written(suffix):
    picture = PICTURE[..., 0] if suffix == ".pgm" else PICTURE
    assert stated_size(encode_image(picture, None, Path(f"a{suffix}"))) == (91, 37)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("GIF", {}),
        ("JPEG", {"progressive": True, "exif": b"Exif\0\0II*\0" + bytes(2000)}),
        ("WEBP", {"quality": 50}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0" + bytes(20)}),
    ],
)
def test_the_size_as_others_write_it(kind, how):
    written = io.BytesIO()
    Pillow.fromarray(PICTURE).save(written, kind, **how)
    assert stated_size(written.getvalue()) == (91, 37)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from([b"\xff\xd8", b"BM", b"RIFF", b"P6 ", b"\x89PNG", b""])
)
def test_nonsense_has_no_size_and_raises_nothing(raw, start):
    width, height = stated_size(start + raw)
    assert width >= 0
    assert height >= 0


def bomb(side=32_000):
    """A JPEG of two kilobytes that states a gigapixel."""
    raw = bytearray(cv2.imencode(".jpg", PICTURE)[1].tobytes())
    at = raw.index(b"\xff\xc0") + 5
    raw[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(raw)


def test_a_picture_that_states_too_much_is_refused_before_it_takes_memory(tmp_path):
    path = tmp_path / "in.jpg"
    path.write_bytes(bomb())
    tracemalloc.start()
    with pytest.raises(SourceError) as error:
        decode_image(path)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert str(error.value) == (
        f"{path}: states 32000 x 32000 pixels, and up to 180 megapixels are read; check it, or"
        " allow more (--max-pixels 1024000000; in Python hand in the array)"
    )
    with pytest.raises(SourceError, match="32000 x 32000"):
        decode_bytes(path.read_bytes(), path)
    with pytest.raises(SourceError, match="up to 0.003 megapixels"):
        list(ImageFilesSource([path], max_pixels=3000))


def test_the_bound_is_a_choice(tmp_path):
    path = tmp_path / "in.png"
    path.write_bytes(encode_image(PICTURE, None, path))
    pixels = 91 * 37
    assert decode_image(path, max_pixels=pixels)[0].shape == PICTURE.shape
    with pytest.raises(SourceError, match="91 x 37"):
        decode_image(path, max_pixels=pixels - 1)
    check_pixels(bomb(), path, None)
    with pytest.raises(ArgumentError, match="max_pixels"):
        SourceOptions(max_pixels=-1)
