"""Outputs that show the original beside the restored, and pictures that are watched."""

from __future__ import annotations

from concurrent.futures import Future

import cv2
import numpy as np
import pytest

from edgerestore.errors import ArgumentError
from edgerestore.streams.options import InputKind, LiveOptions, VideoOptions
from edgerestore.streams.session import Session
from edgerestore.streams.sinks.compare import Compare, compared, left_of
from edgerestore.streams.sinks.registry import CallbackSink

from ..checked import imread
from .servers import wait_for


class Inverter:
    depth = 2

    def submit(self, image):
        done: Future[object] = Future()
        done.set_result(255 - image)
        return done


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("how", list(Compare))
def test_a_picture_holds_both(tmp_path, picture, how):
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), picture)
    options = LiveOptions(compare=how)
    with Session(Inverter(), str(source), [output], options, kind=InputKind.IMAGE) as session:
        session.run()
    made = imread(output)
    if how is Compare.SIDE:
        np.testing.assert_array_equal(made, np.concatenate([picture, 255 - picture], axis=1))
    else:
        np.testing.assert_array_equal(made[:, :15], picture[:, :15])
        assert (made[:, 15] == 255).all()
        np.testing.assert_array_equal(made[:, 16:], 255 - picture[:, 16:])


def test_a_video_holds_both(tmp_path, clip, read):
    source, output = clip(tmp_path / "in.mkv", frames=3, size=(64, 48)), tmp_path / "out.mkv"
    video = VideoOptions(codec="ffv1", pix_fmt="bgr0")
    options = LiveOptions(compare="side", video=video)
    with Session(Inverter(), str(source), [output], options, kind=InputKind.VIDEO) as session:
        session.run()
    (before, after) = (read(source).images, read(output).images)
    assert len(after) == len(before) == 3
    for one, both in zip(before, after, strict=True):
        assert both.shape[:2] == (48, 128)
        assert np.abs(both[:, 64:].astype(int) - (255 - both[:, :64].astype(int))).max() <= 1
        assert np.abs(both[:, :64].astype(int) - one).mean() < 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_what_is_smaller_or_has_fewer_channels_is_fitted(dtype):
    small, large = np.full((8, 9), 0, dtype), np.full((16, 18, 4), 1, dtype)
    both = compared(small, large, Compare.SIDE)
    assert (both.shape, both.dtype.name) == ((16, 36, 4), dtype)
    assert (both[:, :18, :3] == 0).all()
    assert (both[:, :18, 3] == (1 if dtype == "float32" else np.iinfo(dtype).max)).all()
    assert compared(small, small, Compare.SPLIT).shape == (8, 9)


def test_no_other_way_is_taken():
    with pytest.raises(ArgumentError, match="split or side"):
        LiveOptions(compare="over")


def test_a_picture_that_is_watched_stays_until_it_is_closed(tmp_path, picture):
    """As in a preview window, whose slider goes on working."""
    source, seen = tmp_path / "in.png", []
    cv2.imwrite(str(source), picture)
    sink = CallbackSink(lambda image, _frame: seen.append(image) or None, skips=True)
    with Session(Inverter(), str(source), [sink]) as session:
        session.start()
        wait_for(lambda: len(seen) >= 3, 20)
        assert session.state == "RUNNING"
        session.stop()
        assert session.join(20) is not None
    for image in seen:
        np.testing.assert_array_equal(image, 255 - picture[:, :, ::-1])


TURNS = {  # how a stored picture is turned to be shown: by a matrix, and by NumPy
    "upright": (None, 0),
    "left": ((0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30), 1),
    "right": ((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), -1),
    "over": ((-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30), 2),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("how", list(Compare))
def test_the_original_is_at_the_left_of_what_is_shown(picture, how, turn):
    matrix, quarters = TURNS[turn]
    made = compared(picture, 255 - picture, how, left_of(matrix))
    shown, upright = np.rot90(made, quarters), np.rot90(picture, quarters)
    half = upright.shape[1] if how is Compare.SIDE else upright.shape[1] // 2
    np.testing.assert_array_equal(shown[:, :half], upright[:, :half])
    np.testing.assert_array_equal(shown[:, half + 2 :][:, -3:], 255 - upright[:, -3:])


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_turned_film_is_joined_across_what_is_shown(tmp_path, clip, read, name):
    source = clip(tmp_path / "in.mp4", frames=3, matrix=TURNS["right"][0], size=(96, 64))
    output = tmp_path / name
    options = LiveOptions(compare="side")
    with Session(Inverter(), str(source), [output], options, kind=InputKind.VIDEO) as session:
        session.run()
    assert read(output).images[0].shape[:2] == ((128, 96) if name == "out.mp4" else (96, 128))
