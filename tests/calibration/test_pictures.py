"""Which files give pictures for calibration, how they are read, and what is told of the rest."""

from __future__ import annotations

import re
import shutil
from typing import Any

import av
import cv2
import numpy as np
import pytest

from edgerestore.errors import ArgumentError
from edgerestore.imaging.degradations import Degradation

from ..checked import imread, not_none
from .drawn import DOWN, load, pixels_of, places_of, save


def clip(path, levels, *, size=(96, 64), rate=25, live=False):
    """Write a video of grey frames, one for each level, a key frame every ten."""
    options: dict[str, Any] = {"format": "matroska", "options": {"live": "1"}} if live else {}
    # AVI holds no times of display: H.264 in it is off by a frame or two in every reader.
    codec, pix_fmt = ("libx264", "yuv420p") if path.suffix != ".avi" else ("mjpeg", "yuvj420p")
    tuning = {"threads": "1", "g": "10", "crf": "4"} if codec == "libx264" else {}
    with av.open(str(path), mode="w", **options) as container:
        stream: Any = container.add_stream(codec, rate=rate, options=tuning)
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        for level in levels:
            image = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_copy_is_not_used_twice(folder):
    """A copy could else be calibrated on and judged by."""
    shutil.copyfile(folder / "3.png", folder / "9.png")
    data = load([folder, folder / "3.png", folder])
    assert data.info.skipped == {"9.png": "the same as another (3.png)"}
    assert data.info.recipe["files"] == 7


def test_depths_and_formats_are_read_as_they_are(tmp_path):
    fine = np.random.default_rng(1).random((64, 64, 3))
    deep = np.rint(fine * 65535).astype(np.uint16)
    save(tmp_path / "a.png", deep)
    save(tmp_path / "b.tif", fine[::-1].astype(np.float32))
    save(tmp_path / "c.bmp", np.rint(fine[:, ::-1, 0] * 255).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "d.png"), np.dstack([deep[..., ::-1] // 2, deep[..., 0]]))
    truth = {"a.png": fine, "b.tif": fine[::-1], "c.bmp": fine[:, ::-1, :1], "d.png": fine / 2}
    found = [*(data := load(tmp_path)).calibration, *data.held_out]
    assert {file for _, file, _, _ in places_of(found)} == set(truth)
    for crop, (name, _, x, y) in zip(found, places_of(found), strict=True):
        want = np.broadcast_to(truth[name], (64, 64, 3))[y : y + 32, x : x + 32]
        tolerance = 0.51 / 255 if name == "c.bmp" else 2 / 65535
        np.testing.assert_allclose(crop.image[0].transpose(1, 2, 0), want, atol=tolerance)


def test_a_grey_model_sees_luma(folder):
    data = load(folder, channels=1, degradation=Degradation("noise", 1))
    for crop, (name, _, x, y) in zip(data.calibration, places_of(data.calibration), strict=True):
        image = imread(folder / name)[y : y + 32, x : x + 32, ::-1] / 255
        assert crop.image.shape == (1, 1, 32, 32)
        luma = image @ np.array([0.299, 0.587, 0.114])
        np.testing.assert_allclose(not_none(crop.truth)[0, 0], luma, atol=1e-6)


def test_what_cannot_be_used_is_skipped_and_logged(folder, capfd, caplog):
    whole = (folder / "5.png").read_bytes()
    save(folder / "6.tif", np.zeros((90, 90, 3), np.uint8))
    tif = (folder / "6.tif").read_bytes()
    (folder / "6.tif").write_bytes(tif[: len(tif) // 2])
    (folder / "5.png").write_bytes(whole[: len(whole) // 2])
    (folder / "7.jpg").write_bytes(b"")
    (folder / "8.mp4").write_bytes(b"no video" * 100)
    save(folder / "9.webp", np.zeros((31, 200, 3), np.uint8))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"no picture")
    with caplog.at_level("INFO", "edgerestore"):
        data = load(folder)
    told = caplog.messages
    skipped = data.info.skipped
    assert skipped.keys() == {"5.png", "6.tif", "7.jpg", "8.mp4", "9.webp"}
    assert skipped.pop("9.webp") == "smaller than 32x32 (200x31)"
    assert all(reason.startswith("unreadable (") for reason in skipped.values())
    assert str(folder) not in str(skipped) + str(told)
    assert len(told) == 5
    assert (len(data.calibration), len(data.held_out)) == (24, 8)
    assert capfd.readouterr() == ("", "")


def test_nothing_usable_is_an_error_that_counts_the_reasons(folder):
    (folder / "0.png").write_bytes(b"no picture")
    text = r"--calibrate .*pictures: no picture can be used: 5 smaller than 82x82, 1 unreadable$"
    with pytest.raises(ArgumentError, match=text):
        load(folder, degradation=DOWN, crop_px=41)


def test_names_that_meet_are_told_apart(folder, tmp_path, picture):
    other = tmp_path / "other"
    other.mkdir()
    save(other / "0.png", picture(80, 96, seed=50))
    save(other / "1.png", np.zeros((5, 5, 3), np.uint8))
    data = load([folder, other])
    files = [data.info.recipe[side]["files"] for side in ("calibration", "held_out")]
    assert {"0.png", "other/0.png"} <= {*files[0], *files[1]}
    assert data.info.skipped == {"other/1.png": "smaller than 32x32 (5x5)"}


def test_paths_without_pictures_are_refused(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("")
    for paths, said in (
        ([], "names no picture"),
        ([folder, tmp_path / "gone"], "gone: no such file or folder"),
        ([folder, empty], r"empty: holds no picture or video; these are: .*\.png.*\.webm"),
        ([empty / "notes.txt"], r"notes.txt: is no picture or video; these are: .*\.jpg"),
    ):
        with pytest.raises(ArgumentError, match=said) as caught:
            load(paths)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArgumentError, match="empty: holds no picture; these are"):
        load(folder, targets=empty)


@pytest.mark.parametrize("rate", [25, 4])  # read through, and sought in
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_frames_of_a_video_are_spread_and_numbered(tmp_path, suffix, rate):
    path = clip(tmp_path / f"clip{suffix}", range(20, 220, 2), rate=rate)
    data = load(path, crop_px=24, count=16)
    found = (*data.calibration, *data.held_out)
    numbers = set()
    for crop in found:
        number = int(not_none(re.search(r"frame (\d+)", crop.origin))[1])
        numbers.add(number)
        assert abs(crop.image.mean() * 255 - (20 + 2 * number)) < 1.5
    assert len(numbers) == 8
    gaps = np.diff([0, *sorted(numbers), 99])
    assert gaps.min() >= 5
    assert gaps.max() <= 14
    # Neighbours in time look alike: what is held out, is so in all frames.
    assert not pixels_of(data.calibration, 24) & pixels_of(data.held_out, 24)
    assert load(path, crop_px=24, count=16).info == data.info


def test_a_video_that_does_not_know_its_length(tmp_path):
    path = clip(tmp_path / "live.mkv", range(20, 220, 2), live=True)
    with av.open(str(path)) as container:
        assert container.duration is None
    data = load(path, crop_px=24)
    frames = {picture for picture, *_ in places_of((*data.calibration, *data.held_out))}
    assert frames == {f"live.mkv frame {number}" for number in (0, 25, 50, 75)}


def test_of_a_small_video_later_frames_are_held_out(tmp_path):
    path = clip(tmp_path / "clip.mp4", range(40, 80))
    data = load(path, crop_px=60)
    last = [
        [int(not_none(re.search(r"frame (\d+)", crop.origin))[1]) for crop in found]
        for found in (data.calibration, data.held_out)
    ]
    assert max(last[0]) < min(last[1])
    assert data.info.recipe["held_out_from"] == "later frames of the same video"


def test_frames_without_change_are_one_picture(tmp_path):
    path = clip(tmp_path / "clip.mp4", [70] * 40)
    with pytest.raises(ArgumentError, match="no room for two crops"):
        load(path, crop_px=60)
    save(tmp_path / "still.png", np.full((64, 96, 3), 200, np.uint8))
    data = load(tmp_path, crop_px=60)
    found = {file for _, file, _, _ in places_of((*data.calibration, *data.held_out))}
    assert found == {"clip.mp4", "still.png"}


@pytest.mark.parametrize("upscale", [1, 2])
def test_targets_are_the_truth_at_the_same_place(folder, tmp_path, upscale):
    targets = tmp_path / "targets"
    targets.mkdir()
    for path in folder.iterdir():
        image = 255 - imread(path)
        larger = image.repeat(upscale, axis=0).repeat(upscale, axis=1)
        cv2.imwrite(str(targets / f"{path.stem}.bmp"), larger)
    # The degradation is not applied: the pictures are spoilt already.
    degradation = Degradation("noise") if upscale == 1 else DOWN
    data = load(folder, targets=targets, degradation=degradation)
    for crop in (*data.calibration, *data.held_out):
        negative = 1 - crop.image.repeat(upscale, axis=2).repeat(upscale, axis=3)
        np.testing.assert_allclose(not_none(crop.truth), negative, atol=1e-6)
    assert data.info.truth
    assert "noise" not in data.info.recipe["degradation"]


def test_a_target_that_does_not_fit_costs_its_picture(folder, tmp_path, caplog):
    targets = tmp_path / "targets"
    shutil.copytree(folder, targets)
    (targets / "0.png").unlink()
    save(targets / "1.png", np.zeros((80, 95, 3), np.uint8))
    (targets / "2.png").write_bytes(b"no picture")
    clip(folder / "3b.mp4", range(0, 200, 20))
    with caplog.at_level("INFO", "edgerestore"):
        data = load(folder, targets=targets)
    skipped = data.info.skipped
    assert skipped["0.png"] == skipped["3b.mp4"] == "without a target"
    assert skipped["1.png"].endswith("another size than 1 times its own (95x80 for 96x80)")
    assert skipped["2.png"].startswith("with an unreadable target")
    assert len(skipped) == len(caplog.messages) == 4
    assert {file for _, file, _, _ in places_of(data.calibration)} <= {"3.png", "4.png", "5.png"}
    for path in targets.iterdir():
        path.rename(path.with_stem(f"{path.stem}_truth"))
    with pytest.raises(ArgumentError, match="7 without a target$"):
        load(folder, targets=targets)
