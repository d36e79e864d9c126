"""Sink that is a camera to other programs: v4l2loopback, by way of pyvirtualcam."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...errors import ArgumentError, MissingExtraError, SinkError, first_line
from ...extensions import install_command
from ...imaging.arrays import Image
from ..media.display import check_showable, eight_bit_rgb, letterboxed
from ..media.frames import Frame, Item
from ..media.rotation import as_shown
from ..options import SinkOptions

__all__ = ["VirtualCamera", "VirtualCameraSink", "open_sink"]

_LOAD = "load the kernel's part with: sudo modprobe v4l2loopback"
_USUAL_RATE = 30  # where the source has not said its own yet
_VIRTUAL_DEVICES = Path("/sys/devices/virtual/video4linux")


def open_sink(match: re.Match[str], options: SinkOptions) -> VirtualCameraSink:
    """Open ``virtualcam[:DEVICE]``, as the registry of sinks does."""
    rate = _USUAL_RATE if options.info is None else options.info.rate
    return VirtualCameraSink(match["device"], float(rate))


class VirtualCamera(Protocol):
    """Part of `pyvirtualcam.Camera` that is used here."""

    def send(self, frame: Image) -> None:
        """Show a u8 RGB picture of the camera's size."""

    def close(self) -> None:
        """Release the device."""


class VirtualCameraSink:
    """`Sink` that is a camera to other programs: video conferences, `camera:N`.

    The first frame sets the camera's size, without an odd last row or column, which the
    formats of cameras do not have. Frames of another size are scaled to it, with black at the
    sides where the proportions differ. Frames are sent as they come.

    Parameters
    ----------
    device : str or None
        Such as ``/dev/video10``; ``None`` takes the first there is.
    fps : float
        What the camera says of itself.
    open_camera : callable or None
        Makes a camera of width, height, rate and device; ``None`` takes pyvirtualcam.

    Raises
    ------
    ArgumentError
        When the rate is no number above 0.
    MissingExtraError
        When pyvirtualcam is not installed.
    SinkError
        When there is no such device.
    """

    skips = True
    wants_original = False

    def __init__(
        self,
        device: str | None,
        fps: float,
        *,
        open_camera: Callable[[int, int, float, str | None], VirtualCamera] | None = None,
    ) -> None:
        if not (math.isfinite(fps) and fps > 0):
            raise ArgumentError(f"a camera's rate is a number above 0, got {fps!r}")
        self._device = device
        self._fps = float(fps)
        self._open_camera = open_camera or _pyvirtualcam(device)
        self._camera: VirtualCamera | None = None
        self._size = (0, 0)

    def write(self, item: Item) -> None:
        """Send a frame; see `Sink.write`."""
        if not isinstance(item, Frame):
            return
        check_showable(item.image)
        shown = eight_bit_rgb(as_shown(item).image)
        try:
            if self._camera is None:
                self._size = _even(shown)
                self._camera = self._open_camera(*self._size, self._fps, self._device)
            self._camera.send(_scaled(shown, *self._size))
        except (OSError, RuntimeError, ValueError) as error:
            raise SinkError(f"{self._device or 'virtual camera'}: {_reason(error)}") from error

    def close(self) -> None:
        """Release the device."""
        if self._camera is not None:
            camera, self._camera = self._camera, None
            camera.close()

    def abort(self) -> None:
        """Release the device. Never raises."""
        with suppress(OSError, RuntimeError):
            self.close()


def _pyvirtualcam(device: str | None) -> Callable[[int, int, float, str | None], VirtualCamera]:
    try:
        library: Any = import_module("pyvirtualcam")
    except ImportError as error:
        raise MissingExtraError(
            "a virtual camera needs a package that is not installed (pyvirtualcam):"
            f" {install_command('virtualcam')}"
        ) from error
    _check_device(device)

    def open_camera(width: int, height: int, fps: float, device: str | None) -> VirtualCamera:
        camera: VirtualCamera = library.Camera(width, height, fps, device=device)
        return camera

    return open_camera


def _check_device(device: str | None) -> None:
    """Refuse what cannot be before any work; the device itself answers with the first frame."""
    if not sys.platform.startswith("linux"):
        return
    if device is None:
        if not any(_VIRTUAL_DEVICES.glob("video*")):
            raise SinkError(f"there is no virtual camera; {_LOAD}")
    elif not Path(device).exists():
        raise SinkError(f"{device}: is not there; {_LOAD}")
    elif not Path(device).is_char_device():
        raise SinkError(f"{device}: is no camera; name one such as /dev/video10")


def _reason(error: Exception) -> str:
    sentence = first_line(error).removeprefix("'v4l2loopback' backend: ").partition(". ")[0]
    return f"{sentence.rstrip('.')}; {_LOAD}"


def _even(image: Image) -> tuple[int, int]:
    height, width = image.shape[:2]
    if min(height, width) < 2:
        raise SinkError(f"a camera shows two pixels or more each way, got {width}x{height}")
    return width - width % 2, height - height % 2


def _scaled(image: Image, width: int, height: int) -> Image:
    """Return a picture of a size: cut by one odd row or column, or scaled between black bars."""
    own_height, own_width = image.shape[:2]
    if (own_width - own_width % 2, own_height - own_height % 2) == (width, height):
        return np.ascontiguousarray(image[:height, :width])
    return letterboxed(image, width, height)
