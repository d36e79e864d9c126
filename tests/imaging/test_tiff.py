"""TIFF files: every layout of samples decoded to the same picture, tags kept."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from edgerestore.errors import SourceError
from edgerestore.imaging.image_files import decode_bytes, decode_image, encode_image

RGBA = np.random.default_rng(0).integers(0, 256, (40, 50, 4), dtype=np.uint8)
RGB, GREY = RGBA[..., :3].copy(), RGBA[..., 0].copy()


def samples(image, dtype):
    if dtype == "float32":
        return (image / 255).astype(np.float32)
    return image.astype(dtype) * np.dtype(dtype).type(257 if dtype == "uint16" else 1)


def written(image, **settings):
    file = io.BytesIO()
    tifffile.imwrite(file, image, metadata=None, **settings)
    return file.getvalue()


def by_pillow(image, **settings):
    file = io.BytesIO()
    image.save(file, "TIFF", **settings)
    return file.getvalue()


def decoded(raw):
    return decode_bytes(raw, Path("a.tif"))[0]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize(
    ("image", "settings"),
    [
        (GREY, {}),
        (RGB, {"photometric": "rgb"}),
        (RGB, {"photometric": "rgb", "planarconfig": "separate"}),
        (RGB, {"photometric": "rgb", "tile": (16, 16)}),
        (RGB, {"photometric": "rgb", "byteorder": ">", "bigtiff": True}),
        (RGB, {"photometric": "rgb", "compression": "zlib"}),
        (RGBA, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (RGBA, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
    ],
)
def test_layouts(dtype, image, settings):
    image = samples(image, dtype)
    planar = settings.get("planarconfig") == "separate"
    raw = written(np.moveaxis(image, -1, 0) if planar else image, **settings)
    outcome = decoded(raw)
    assert outcome.dtype == image.dtype
    np.testing.assert_array_equal(outcome, image)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("image", [GREY, RGB, RGBA])
@pytest.mark.parametrize("compression", [cv2.IMWRITE_TIFF_COMPRESSION_LZW, None])
def test_what_we_and_opencv_write(dtype, image, compression):
    image = samples(image, dtype)
    if compression is None:
        raw = encode_image(image, None, Path("a.tif"))
    else:
        bgr = image if image.ndim == 2 else image[..., [2, 1, 0, 3][: image.shape[2]]]
        settings = [cv2.IMWRITE_TIFF_COMPRESSION, compression]
        raw = cv2.imencode(".tif", np.ascontiguousarray(bgr), settings)[1].tobytes()
    np.testing.assert_array_equal(decoded(raw), image)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", None])
def test_straight_transparency_is_not_multiplied(compression):
    raw = by_pillow(Pillow.fromarray(RGBA), compression=compression)
    np.testing.assert_array_equal(decoded(raw), RGBA)


def test_multiplied_transparency_becomes_straight():
    alpha = RGBA[..., 3:] / 255
    colours = np.rint(RGB * alpha).astype(np.uint8)
    multiplied = np.concatenate([colours, RGBA[..., 3:]], -1)
    outcome = decoded(written(multiplied, photometric="rgb", extrasamples=["assocalpha"]))
    np.testing.assert_array_equal(np.rint(outcome[..., :3] * alpha), colours)
    np.testing.assert_array_equal(outcome[..., 3], RGBA[..., 3])


def test_grey_keeps_its_transparency():
    pair = RGBA[..., [0, 3]]
    raw = written(
        pair, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    np.testing.assert_array_equal(decoded(raw), pair[..., [0, 0, 0, 1]])


def test_palettes_bits_and_inverted_grey():
    flat = Pillow.fromarray(np.repeat(np.repeat(RGB[:4, :5], 10, 0), 10, 1)).quantize(16)
    np.testing.assert_array_equal(decoded(by_pillow(flat)), np.asarray(flat.convert("RGB")))
    bits = Pillow.fromarray(GREY > 128)
    for compression in (None, "group4"):
        raw = by_pillow(bits, compression=compression)
        np.testing.assert_array_equal(decoded(raw), np.asarray(bits.convert("L")))
    np.testing.assert_array_equal(decoded(written(GREY, photometric="miniswhite")), 255 - GREY)


def test_profile_resolution_and_texts_come_along():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    raw = written(
        RGB,
        photometric="rgb",
        resolution=(300, 200),
        resolutionunit="INCH",
        iccprofile=profile,
        description="a scan",
    )
    image, tags = decode_bytes(raw, Path("a.tif"))
    again = Pillow.open(io.BytesIO(encode_image(image, tags, Path("b.tif"))))
    assert again.info["dpi"] == (300, 200)
    assert again.info["icc_profile"] == profile
    assert again.getexif()[270] == "a scan"


@pytest.mark.parametrize("cut_bytes", [9, 200, 3000])
def test_what_is_cut_off_is_refused(cut_bytes):
    for raw in (written(RGB, photometric="rgb"), encode_image(RGB, None, Path("a.tif"))):
        with pytest.raises(SourceError, match=r"a\.tif: its TIFF cannot be read"):
            decoded(raw[:cut_bytes])


@pytest.mark.usefixtures("without_imagecodecs")
def test_what_is_not_read_is_refused_by_name():
    cmyk = by_pillow(Pillow.fromarray(RGB).convert("CMYK"))
    pair = by_pillow(Pillow.fromarray(RGBA[..., [0, 3]], "LA"), compression="tiff_lzw")
    zstandard = by_pillow(Pillow.fromarray(RGB), compression="zstd")
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        writer.write(GREY, metadata=None)
        writer.write(GREY, metadata=None)
    refused = {
        "SEPARATED colours": cmyk,
        "LZW compression needs imagecodecs": pair,
        "ZSTD compression needs imagecodecs": zstandard,
        "holds 2 pages": pages.getvalue(),
        "5 channels": written(np.dstack([RGBA, GREY]), photometric="rgb"),
    }
    for message, raw in refused.items():
        with pytest.raises(SourceError, match=message):
            decoded(raw)


def test_pages_that_were_cut_off_are_no_single_picture(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2, 20, 20), np.uint8), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as file:
        second = [page.offset for page in file.pages][1]
    path.write_bytes(path.read_bytes()[: second - 1])
    with pytest.raises(SourceError, match=r"a\.tif: its pages are damaged or cut off"):
        decode_image(path)
