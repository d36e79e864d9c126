"""Frames as a camera, against a camera that is not there and one that is made up."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from edgerestore.errors import ArgumentError, MissingExtraError, SinkError
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sinks import virtual_camera
from edgerestore.streams.sinks.virtual_camera import VirtualCameraSink
from edgerestore.testing.sinks import SinkTests

RATE = Fraction(1, 25)


class FakeCamera:
    """Checks what pyvirtualcam checks."""

    def __init__(self, width, height, fps, device):
        self.size, self.fps, self.device = (width, height), fps, device
        self.sent = []
        self.closed = 0

    def send(self, frame):
        assert not self.closed
        assert frame.dtype == np.uint8
        assert frame.shape == (self.size[1], self.size[0], 3)
        assert frame.flags.c_contiguous
        self.sent.append(frame.copy())

    def close(self):
        self.closed += 1


@pytest.fixture
def cameras():
    return []


@pytest.fixture
def make(cameras):
    def one(device=None, fps=25.0, camera=FakeCamera):
        def open_camera(*arguments):
            cameras.append(camera(*arguments))
            return cameras[-1]

        return VirtualCameraSink(device, fps, open_camera=open_camera)

    return one


def test_the_first_frame_sets_the_size(make, cameras, picture_at):
    sink = make("/dev/video10", 29.97)
    assert cameras == []
    sink.write(Frame(picture_at(0, 48, 64), 0, RATE))
    sink.close()
    (camera,) = cameras
    assert (camera.size, camera.fps, camera.device) == ((64, 48), 29.97, "/dev/video10")
    assert camera.closed == 1
    np.testing.assert_array_equal(camera.sent[0], picture_at(0, 48, 64))


def test_odd_sizes_lose_a_row_and_a_column(make, cameras, picture_at):
    sink = make()
    for index in range(2):
        sink.write(Frame(picture_at(index, 49, 65), index, RATE))
    sink.close()
    assert cameras[0].size == (64, 48)
    np.testing.assert_array_equal(cameras[0].sent[1], picture_at(1, 49, 65)[:48, :64])


def test_later_sizes_are_scaled_between_black_bars(make, cameras):
    sink = make()
    sink.write(Frame(np.full((48, 64, 3), 9, np.uint8), 0, RATE))
    sink.write(Frame(np.full((96, 128, 3), 100, np.uint8), 1, RATE))
    sink.write(Frame(np.full((24, 64, 3), 100, np.uint8), 2, RATE))
    sink.write(Frame(np.full((100, 10, 3), 100, np.uint8), 3, RATE))
    sink.close()
    _, same, wide, tall = cameras[0].sent
    assert (same == 100).all()
    assert (wide[12:36] == 100).all()
    assert not wide[:12].any()
    assert not wide[36:].any()
    assert (tall[:, 31:32] == 100).all()
    assert not tall[:, :25].any()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((8, 8), 100 * 257, np.uint16), 100),
        (np.full((8, 8, 1), 0.5, np.float32), 128),
        (np.full((8, 8, 4), (0, 0, 0, 0), np.uint8), 255),
        (np.full((8, 16, 3), 7, np.uint8)[:, ::2], 7),
    ],
)
def test_every_kind_of_frame_is_sent_in_eight_bits(make, cameras, image, expected):
    sink = make()
    sink.write(Frame(image, 0, RATE))
    sink.abort()
    assert (cameras[0].sent[0] == expected).all()
    assert cameras[0].closed == 1


def test_a_frame_too_small_for_a_camera(make):
    sink = make()
    with pytest.raises(SinkError, match="got 8x1"):
        sink.write(Frame(np.zeros((1, 8, 3), np.uint8), 0, RATE))
    sink.abort()


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_rates_that_are_none(fps):
    with pytest.raises(ArgumentError, match="a camera's rate is a number above 0"):
        VirtualCameraSink(None, fps, open_camera=FakeCamera)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError("'v4l2loopback' backend: Device /dev/video9 does not exist."),
            "Device /dev/video9 does not exist",
        ),
        (RuntimeError("'a' backend: one. two\n'b' backend: three"), "'a' backend: one"),
        (OSError(16, "Device or resource busy"), "[Errno 16] Device or resource busy"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_what_a_device_refuses_is_one_line(make, error, reason):
    class Refusing(FakeCamera):
        def send(self, frame):
            raise error

    sink = make("/dev/video9", camera=Refusing)
    with pytest.raises(SinkError) as caught:
        sink.write(Frame(np.zeros((8, 8, 3), np.uint8), 0, RATE))
    load = "load the kernel's part with: sudo modprobe v4l2loopback"
    assert str(caught.value) == f"/dev/video9: {reason}; {load}"
    sink.abort()


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[virtualcam\]'$"):
        VirtualCameraSink(None, 25)


def test_the_package_is_only_imported_when_asked_for():
    code = (
        "import sys, edgerestore.streams.sinks.virtual_camera; print('pyvirtualcam' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


class TestWithThePackage:
    @pytest.fixture(autouse=True)
    def _package(self):
        pytest.importorskip("pyvirtualcam", reason="edgerestore[virtualcam] is not installed")

    def test_no_device_is_said_before_any_work(self, tmp_path, monkeypatch):
        monkeypatch.setattr(virtual_camera, "_VIRTUAL_DEVICES", tmp_path)
        with pytest.raises(SinkError, match="no virtual camera; .*sudo modprobe v4l2loopback$"):
            VirtualCameraSink(None, 25)

    def test_a_device_that_is_not_there(self, tmp_path):
        with pytest.raises(SinkError, match="video10: is not there; .*modprobe v4l2loopback$"):
            VirtualCameraSink(str(tmp_path / "video10"), 25)
        with pytest.raises(SinkError, match="is no camera; name one such as /dev/video10"):
            VirtualCameraSink(str(tmp_path), 25)

    def test_a_device_that_is_no_camera_fails_with_the_first_frame(self):
        sink = VirtualCameraSink("/dev/null", 25)
        with pytest.raises(SinkError, match="^/dev/null: Device capabilities .*modprobe") as caught:
            sink.write(Frame(np.zeros((8, 8, 3), np.uint8), 0, RATE))
        assert "\n" not in str(caught.value)
        sink.abort()


class TestVirtualCameraSink(SinkTests):
    tolerance = 0.01

    @pytest.fixture
    def make(self, make, cameras):
        self.cameras = cameras
        return make

    def arrived(self, sink, tmp_path):
        return [(None, image) for image in self.cameras[-1].sent]
