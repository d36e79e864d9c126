"""Cameras, with a stand-in for the device: no camera is needed."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import cv2
import numpy as np
import pytest

from edgerestore.errors import SourceError
from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.options import SourceOptions
from edgerestore.streams.sources.camera import (
    Camera,
    available_cameras,
    open_camera,
)
from edgerestore.streams.sources.connection import ConnectionFailedError
from edgerestore.streams.sources.live_source import LiveSource

from .tools import FakeCapture, Taker, open_live


def open_fake(capture, request=None, cameras=()):
    return open_camera(
        2, request or SourceOptions(), capture=lambda number: capture, cameras=lambda: cameras
    )


def test_what_is_asked_for_is_asked_of_it_the_format_first():
    capture = FakeCapture()
    open_fake(capture, SourceOptions(1280, 720, 60, "MJPG")).close()
    assert list(capture.asked) == [
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
        cv2.CAP_PROP_BUFFERSIZE,
    ]
    assert capture.asked[cv2.CAP_PROP_FOURCC] == cv2.VideoWriter.fourcc(*"MJPG")
    assert capture.asked[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert capture.released == 1


def test_nothing_is_asked_that_was_not_said():
    capture = FakeCapture()
    open_fake(capture).close()
    assert list(capture.asked) == [cv2.CAP_PROP_BUFFERSIZE]


@pytest.mark.parametrize(
    ("says", "asked", "rate"), [(30.0, 15.0, 30), (-1.0, 15.0, 15), (0.0, None, 30)]
)
def test_a_rate_that_the_camera_does_not_know_is_the_one_asked_for(monkeypatch, says, asked, rate):
    capture = FakeCapture()
    monkeypatch.setattr(capture, "get", lambda prop: says if prop == cv2.CAP_PROP_FPS else -1.0)
    with contextlib.closing(open_fake(capture, SourceOptions(fps=asked))) as connection:
        assert next(iter(connection)).info.rate == rate


@pytest.mark.parametrize(
    ("shape", "dtype", "expected", "form"),
    [
        ((48, 64, 3), np.uint8, (48, 64, 3), "rgb24"),
        ((48, 64, 4), np.uint8, (48, 64, 3), "rgb24"),
        ((48, 64), np.uint8, (48, 64), "gray"),
        ((48, 64, 1), np.uint16, (48, 64), "gray16le"),
    ],
)
def test_pictures_are_rgb_or_grey(shape, dtype, expected, form):
    capture = FakeCapture()
    capture.shape, capture.dtype = shape, dtype
    connection = open_fake(capture)
    frame = next(iter(connection))
    assert (frame.image.shape, frame.image.dtype) == (expected, dtype)
    if len(expected) == 3:
        # The stand-in writes blue, OpenCV's first channel.
        assert frame.image[0, 0].tolist() == [0, 0, 1]
    assert frame.info.pix_fmt == form
    assert frame.info.bits == 8 * np.dtype(dtype).itemsize
    assert frame.info.rate == Fraction(30)
    connection.close()


def test_one_that_is_not_there_is_told_with_those_that_are():
    there = (Camera(0, "HD Webcam"), Camera(1))
    with pytest.raises(
        ConnectionFailedError, match=r"camera:2: is not there; there are camera:0 \(HD"
    ) as error:
        open_fake(FakeCapture(opened=False), cameras=there)
    assert error.value.permanent
    assert str(error.value).endswith("camera:1")


def test_one_that_is_there_and_does_not_open_may_do_so_later():
    with pytest.raises(
        ConnectionFailedError, match="does not open; close what else uses it"
    ) as error:
        open_fake(FakeCapture(opened=False), cameras=(Camera(2),))
    assert not error.value.permanent


def test_no_camera_at_all(capfd):
    # OpenCV itself is asked here.
    source = open_live("camera:73")
    with pytest.raises(SourceError, match="camera:73: is not there"):
        next(source)
    source.close()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_devices_are_listed_by_number(tmp_path):
    for name in ("video10", "video2", "video", "videodev"):
        (tmp_path / name).touch()
    assert [str(camera) for camera in available_cameras(tmp_path)] == ["camera:2", "camera:10"]
    assert available_cameras(tmp_path / "none") == ()


def test_one_that_is_unplugged_is_connected_again():
    log, captures = EventLog(), []

    def open_connection():
        captures.append(FakeCapture(count=5))
        return open_fake(captures[-1])

    from edgerestore.streams.sources.reconnect import Backoff

    with Taker(LiveSource(open_connection, "camera:2", log, backoff=Backoff(0.01))) as taker:
        taker.more(8)
    lost = next(event for event in log.events if event.kind is EventKind.LOST)
    assert lost.cause == "unplugged"
    assert all(capture.released == 1 for capture in captures)


def test_a_driver_that_fails_is_an_error_of_ours():
    class Broken(FakeCapture):
        def read(self):
            raise cv2.error("V4L2: select() timeout")

    with pytest.raises(ConnectionFailedError, match="its driver failed"):
        next(iter(open_fake(Broken())))
    with pytest.raises(ConnectionFailedError, match="its driver failed"):
        open_camera(
            0, SourceOptions(), capture=lambda number: (_ for _ in ()).throw(cv2.error("x"))
        )
