"""Images: one, a folder, a pattern; every kind of sample kept."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgerestore.errors import SinkError, SourceError
from edgerestore.imaging.image_files import FORMATS, decode_image, encode_image
from edgerestore.streams.options import InputKind
from edgerestore.streams.session import restore_path

from ..checked import imread


@pytest.fixture
def restore(echo, notices):
    def run(source, output, restorer=None, **options):
        options.setdefault("progress", "none")
        return restore_path(restorer or echo(), str(source), output, **options)

    return run


def save(path, image):
    """Write pixels given in RGB order with OpenCV alone."""
    if image.ndim == 3:
        code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        image = cv2.cvtColor(image, code)
    assert cv2.imwrite(str(path), image)
    return path


def colours(dtype, channels):
    image = np.random.default_rng(3).random((20, 30, max(channels, 1)))
    image = image if dtype == "float32" else image * np.iinfo(dtype).max
    image = image.astype(dtype)
    return image[..., 0] if channels == 0 else image


@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.parametrize(
    ("extension", "dtype"),
    [
        ("png", "uint8"),
        ("png", "uint16"),
        ("tif", "uint8"),
        ("tiff", "uint16"),
        ("tif", "float32"),
        ("bmp", "uint8"),
        ("webp", "uint8"),
    ],
)
def test_depth_and_channels_are_kept(restore, tmp_path, extension, dtype, channels):
    if extension == "webp" and channels == 0:
        pytest.skip("WebP has no grey")
    image = colours(dtype, channels)
    if extension == "webp" and channels == 4:
        # WebP keeps no colour where nothing is seen.
        image[..., 3] |= 1
    source = save(tmp_path / f"in.{extension}", image)
    output = tmp_path / f"out.{extension}"
    summary = restore(source, output)
    back, _ = decode_image(output)
    if extension == "bmp" and channels == 0:
        back = back if back.ndim == 2 else back[..., 0]
    np.testing.assert_array_equal(back, image)
    assert back.dtype == image.dtype
    assert (summary.kind, summary.frames_out, summary.exit_code) == (InputKind.IMAGE, 1, 0)


def test_the_model_sees_red_first(restore, echo, tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    image[..., 0] = 200
    seen = []
    restore(
        save(tmp_path / "in.png", image),
        tmp_path / "out.png",
        echo(change=lambda one: (seen.append(one), one)[1]),
    )
    np.testing.assert_array_equal(seen[0], image)


def test_jpeg(restore, tmp_path):
    y, x = np.mgrid[:64, :64]
    image = np.stack([2 * x + 40, 2 * y + 40, x + y], -1).astype(np.uint8)
    restore(save(tmp_path / "in.jpg", image), tmp_path / "out.JPEG")
    back, _ = decode_image(tmp_path / "out.JPEG")
    assert np.abs(back.astype(int) - image).mean() < 2


def exif(orientation, order="<"):
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HIH", 42, 8, 1)
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return head + entry + struct.pack(order + "I", 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_orientation_ends_up_in_the_pixels(restore, tmp_path, extension, orientation, order):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :16] = (255, 0, 0)
    image[:16, 48:] = (0, 255, 0)
    image[32:, :16] = (0, 0, 255)
    block = np.frombuffer(exif(orientation, order), np.uint8)
    done, raw = cv2.imencodeWithMetadata(
        f".{extension}", image[..., ::-1].copy(), [cv2.IMAGE_METADATA_EXIF], [block]
    )
    assert done
    source = tmp_path / f"in.{extension}"
    source.write_bytes(raw.tobytes())
    restore(source, tmp_path / f"out.{extension}")
    # Both as a viewer shows them, which is what cv2.imread does by default.
    shown = imread(source).astype(int)
    after = imread(tmp_path / f"out.{extension}").astype(int)
    assert shown.shape == after.shape
    assert np.abs(shown - after).mean() < 4


def test_malformed_exif_is_left_alone(tmp_path):
    done, raw = cv2.imencodeWithMetadata(
        ".png",
        np.zeros((8, 8, 3), np.uint8),
        [cv2.IMAGE_METADATA_EXIF],
        [np.frombuffer(b"II*\0\xff\xff\xff\x7f", np.uint8)],
    )
    assert done
    (tmp_path / "in.png").write_bytes(raw.tobytes())
    assert decode_image(tmp_path / "in.png")[0].shape == (8, 8, 3)


def test_a_folder_with_a_broken_image(restore, notices, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for index in range(6):
        save(folder / f"{index}.png", colours("uint8", 3))
    (folder / "3.png").write_bytes(b"broken")
    (folder / "notes.txt").write_text("not an image")
    summary = restore(folder, output)
    assert sorted(one.name for one in output.iterdir()) == [f"{one}.png" for one in (0, 1, 2, 4, 5)]
    assert summary.exit_code == 1
    assert summary.failed == (folder / "3.png",)
    assert summary.frames_lost == {"unreadable image": 1}
    assert notices[0] == f"{folder}: left out: 1 .txt"
    assert notices[1].startswith(str(folder / "3.png"))
    assert notices[-1] == f"{folder}: 1 of 6 images were skipped"


def test_a_pattern(restore, tmp_path):
    for name in ("a1.png", "a2.png", "b1.png"):
        save(tmp_path / name, colours("uint16", 0))
    summary = restore(tmp_path / "a*.png", tmp_path / "out")
    assert summary.kind is InputKind.GLOB
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["a1.png", "a2.png"]


def test_a_name_with_brackets_is_a_name(restore, tmp_path):
    source = save(tmp_path / "in[1].png", colours("uint8", 3))
    assert restore(source, tmp_path / "out.png").kind is InputKind.IMAGE


def test_inputs_that_are_refused(restore, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "bare").mkdir()
    save(tmp_path / "bright.tif", np.full((4, 4), 812.0, np.float32))
    save(tmp_path / "nan.tif", np.full((4, 4), np.nan, np.float32))
    cv2.imwrite(str(tmp_path / "double.tif"), np.zeros((4, 4), np.float64))
    refused = {
        "missing.png": "is not there",
        "empty.png": "is empty",
        "text.png": "is no image",
        "bare": "holds no image",
        "no*.png": "holds no image",
        "bright.tif": "scale it to 0 to 1",
        "nan.tif": "NaN or infinity in 16 values",
        "double.tif": "float64",
    }
    before = sorted(one.name for one in tmp_path.iterdir())
    for name, message in refused.items():
        with pytest.raises(SourceError) as caught:
            restore(tmp_path / name, tmp_path / "out.png")
        assert message in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == before


def test_outputs_that_are_refused(restore, tmp_path):
    source = save(tmp_path / "in.png", colours("uint8", 4))
    deep = save(tmp_path / "deep.png", colours("uint16", 3))
    content = source.read_bytes()
    (tmp_path / "there.png").write_bytes(b"precious")
    (tmp_path / "link.png").symlink_to(source)
    before = sorted(one.name for one in tmp_path.iterdir())
    refused = [
        (source, "there.png", {}, "exists; add --overwrite"),
        (source, "in.png", {"overwrite": True}, "is the input"),
        (source, "link.png", {"overwrite": True}, "is the input"),
        (source, "out.jpg", {}, "cannot hold transparency; use .png"),
        (deep, "out.jpg", {}, "cannot hold uint16 samples; use .tif"),
        (source, "out.xyz", {}, "is no image format here"),
        (source, "out", {}, "no extension is no image format here"),
        (source, "no/out.png", {}, "is not there; create it"),
    ]
    for given, name, options, message in refused:
        with pytest.raises(SinkError) as caught:
            restore(given, tmp_path / name, **options)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sorted(one.name for one in tmp_path.iterdir()) == before
    assert source.read_bytes() == content


def test_folders_that_are_refused(restore, tmp_path):
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    save(folder / "a.png", colours("uint8", 3))
    save(folder / "deeper" / "a.png", colours("uint8", 3))
    (tmp_path / "file").write_text("a file")
    with pytest.raises(SinkError, match="is the input"):
        restore(folder, folder, overwrite=True)
    with pytest.raises(SinkError, match="is a file; name a folder"):
        restore(folder, tmp_path / "file")
    with pytest.raises(SinkError, match=r"two inputs are called a\.png"):
        restore(f"{folder}/**/*.png", tmp_path / "out")
    (tmp_path / "out").mkdir()
    save(tmp_path / "out" / "a.png", colours("uint8", 3))
    with pytest.raises(SinkError, match="exists; add --overwrite"):
        restore(folder, tmp_path / "out")
    assert restore(folder, tmp_path / "out", overwrite=True).frames_out == 1


def test_every_suffix_can_be_written():
    for suffix, found in FORMATS.items():
        image = colours("uint8", 0 if suffix == ".pgm" else 3)
        if found.dtypes:
            assert len(encode_image(image, None, Path("a" + suffix))) > 50
        else:
            with pytest.raises(SinkError, match="is only read"):
                encode_image(image, None, Path("a" + suffix))
    with pytest.raises(SinkError, match=r"a\.pgm: \.pgm holds grey alone; use \.ppm"):
        encode_image(colours("uint8", 3), None, Path("a.pgm"))


def test_a_colour_profile_travels_along(restore, tmp_path):
    profile = np.frombuffer(b"\0\0\x02\0lcms" + b"p" * 504, np.uint8)
    done, raw = cv2.imencodeWithMetadata(
        ".jpg", colours("uint8", 3), [cv2.IMAGE_METADATA_ICCP], [profile]
    )
    assert done
    (tmp_path / "in.jpg").write_bytes(raw.tobytes())
    _, before = decode_image(tmp_path / "in.jpg")
    assert before.chunks == (profile.tobytes(),)
    restore(tmp_path / "in.jpg", tmp_path / "out.jpg")
    _, after = decode_image(tmp_path / "out.jpg")
    assert after.chunks == before.chunks


def test_pictures_by_their_content_whatever_their_name(restore, tmp_path):
    image = colours("uint8", 3)
    for name in ("photo", "photo.xyz"):
        save(tmp_path / "in.png", image).rename(tmp_path / name)
        assert restore(tmp_path / name, tmp_path / "out.png", overwrite=True).frames_out == 1
        np.testing.assert_array_equal(imread(tmp_path / "out.png")[..., ::-1], image)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("in.exr", "light of any strength; convert it to a .tif"),
        ("in.nef", "a camera's raw file; develop it"),
        ("in.jxl", "a format that is not read; convert it to .png"),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(restore, tmp_path, name, message):
    save(tmp_path / "in.png", colours("uint8", 3)).rename(tmp_path / name)
    with pytest.raises(SourceError, match=message):
        restore(tmp_path / name, tmp_path / "out.png")
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_16_bits_in_ppm(restore, tmp_path):
    image = colours("uint16", 3)
    restore(save(tmp_path / "in.ppm", image), tmp_path / "out.ppm")
    back, _ = decode_image(tmp_path / "out.ppm")
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, image)


def test_what_a_folder_holds_besides_is_told(restore, notices, tmp_path):
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    save(folder / "a.png", colours("uint8", 3))
    (folder / "._a.png").write_bytes(b"of a Mac")
    (folder / "b.gif").write_bytes(b"GIF89a")
    (folder / "c.jxl").write_bytes(b"")
    summary = restore(folder, tmp_path / "out")
    assert (summary.exit_code, summary.frames_out) == (0, 1)
    assert notices == [f"{folder}: left out: 1 subfolder, 1 hidden file, 1 .gif, 1 .jxl"]


def test_a_long_name_leaves_room_for_the_mark_of_an_unfinished_file(restore, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("n" * 245, "\u00fc" * 120, "a"):
        save(folder / "a.png", colours("uint8", 3)).rename(folder / f"{name}.png")
    assert restore(folder, tmp_path / "out").frames_out == 3
    names = sorted(one.name for one in folder.iterdir())
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == names


@pytest.mark.parametrize("name", ["out.mp4", "out.png"])
def test_a_folder_into_the_name_of_a_file_is_refused(restore, tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    save(folder / "a.png", colours("uint8", 3))
    with pytest.raises(SinkError, match="several images go into a folder"):
        restore(folder, tmp_path / name)
    assert not (tmp_path / name).exists()
