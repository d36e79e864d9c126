"""Source over the cameras of this machine, by way of OpenCV."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from ...imaging.arrays import Image
from ..events import EventLog
from ..media.frames import LIVE_TIME_BASE, Frame, VideoInfo, image_info, nearest_rate
from ..options import SourceOptions
from .address import Address
from .connection import ConnectionFailedError, SharedHandle
from .live_source import LiveSource

__all__ = [
    "Camera",
    "CameraConnection",
    "VideoCapture",
    "available_cameras",
    "open_camera",
    "open_source",
]

_USUAL_RATE = Fraction(30)


class VideoCapture(Protocol):
    """Part of `cv2.VideoCapture` that is used here."""

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Whether there is something to read."""

    def read(self) -> tuple[bool, Any]:
        """Wait for a picture."""

    def get(self, prop: int) -> float:
        """Return a property; 0 or -1 where it is not known."""

    def set(self, prop: int, value: float) -> bool:
        """Ask for a property; the camera may take another value, or none."""

    def release(self) -> None:
        """Release the device."""


@dataclass(frozen=True)
class Camera:
    """Camera that this machine has.

    Parameters
    ----------
    number : int
    name : str
        As its driver says; empty where it does not.
    """

    number: int
    name: str = ""

    def __str__(self) -> str:
        """Return it as it is written on the command line, with its name."""
        return f"camera:{self.number}" + (f" ({self.name})" if self.name else "")


def available_cameras(devices: Path = Path("/dev")) -> tuple[Camera, ...]:
    """List the cameras that Linux knows of; empty elsewhere.

    Parameters
    ----------
    devices : Path
        Where the device files are.
    """
    found = []
    for path in devices.glob("video*"):
        match = re.fullmatch(r"video(\d+)", path.name)
        if match is not None:
            found.append(Camera(int(match[1]), _name_of(path.name)))
    return tuple(sorted(found, key=lambda camera: camera.number))


def open_source(address: Address, options: SourceOptions, log: EventLog) -> LiveSource:
    """Open ``camera:N``, as the registry of sources does."""
    number = address.camera or 0
    return LiveSource.of(address, options, lambda: open_camera(number, options), log)


def open_camera(
    number: int,
    options: SourceOptions,
    capture: Callable[[int], VideoCapture] = cv2.VideoCapture,
    cameras: Callable[[], tuple[Camera, ...]] = available_cameras,
) -> CameraConnection:
    """Open a camera.

    Parameters
    ----------
    number : int
    options : SourceOptions
        Size, rate and format to request; the camera takes the nearest that it has.
    capture : callable
        Opens the camera of a number.
    cameras : callable
        Lists what is there.

    Returns
    -------
    CameraConnection

    Raises
    ------
    ConnectionFailedError
        When it does not open; permanent where there is no such camera.
    """
    where = f"camera:{number}"
    # The log level is the process's; what OpenCV has to say of a camera, the error says.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        opened = capture(number)
        with ExitStack() as unused:
            unused.callback(opened.release)
            if opened.isOpened():
                connection = CameraConnection(opened, where, options)
                unused.pop_all()
                return connection
    except cv2.error as error:
        raise ConnectionFailedError(
            f"{where}: its driver failed; plug it in again", "driver"
        ) from error
    there = cameras()
    if any(camera.number == number for camera in there):
        line = f"{where}: does not open; close what else uses it, or check its permissions"
        raise ConnectionFailedError(line, "busy")
    listed = ", ".join(str(camera) for camera in there)
    advice = f"there are {listed}" if there else "no camera is found on this machine"
    raise ConnectionFailedError(f"{where}: is not there; {advice}", "no camera", permanent=True)


class CameraConnection:
    """`Connection` over an opened `cv2.VideoCapture`.

    Parameters
    ----------
    capture : VideoCapture
        The connection owns it.
    where : str
    options : SourceOptions
    """

    def __init__(self, capture: VideoCapture, where: str, options: SourceOptions) -> None:
        self.lost: Counter[str] = Counter()
        self._capture = capture
        self._where = where
        self._handle = SharedHandle(capture.release)
        self._info: VideoInfo | None = None
        self._request(options)
        # Of a file, which OpenCV opens too, the number is known.
        self.finite = capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0
        fps = capture.get(cv2.CAP_PROP_FPS)
        known = np.isfinite(fps) and fps > 0
        self._rate = nearest_rate(fps) if known else options.rate or _USUAL_RATE
        self._frames = self._read()

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes."""
        return self._frames

    def close(self) -> None:
        """Release the camera, as the protocol says."""
        self._handle.close()

    def _request(self, options: SourceOptions) -> None:
        # The format first: which sizes and rates there are depends on it.
        if options.fourcc is not None:
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*options.fourcc))
        for prop, value in (
            (cv2.CAP_PROP_FRAME_WIDTH, options.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, options.height),
            (cv2.CAP_PROP_FPS, options.fps),
        ):
            if value is not None:
                self._capture.set(prop, value)
        # What waits in the driver is old.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def _read(self) -> Generator[Frame, None, None]:
        number = 0
        while True:
            with self._handle.inside() as there:
                if not there:
                    return
                picture = self._next_picture()
            if picture is None:
                if self.finite:
                    return
                raise ConnectionFailedError(
                    f"{self._where}: gives no picture any more", "unplugged"
                )
            captured_s = time.perf_counter()
            image = _rgb(picture)
            form = "rgb24" if image.ndim == 3 else "gray" if image.dtype == np.uint8 else "gray16le"
            self._info = image_info(image, self._rate, form, self._info)
            # A file has its own time; a camera has the moment.
            moment = number / self._rate if self.finite else Fraction(captured_s)
            number += 1
            pts = round(moment / LIVE_TIME_BASE)
            yield Frame(image, pts, LIVE_TIME_BASE, captured_s=captured_s, info=self._info)

    def _next_picture(self) -> Image | None:
        try:
            good, picture = self._capture.read()
        except cv2.error as error:
            line = f"{self._where}: its driver failed; plug it in again"
            raise ConnectionFailedError(line, "driver") from error
        return picture if good else None


def _rgb(picture: Image) -> Image:
    """Return an array of its own in RGB order; OpenCV's is BGR."""
    if picture.ndim == 3 and picture.shape[2] == 3:
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    if picture.ndim == 3 and picture.shape[2] == 4:
        return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGB)
    return np.array(picture.reshape(picture.shape[:2]), order="C")


def _name_of(device: str) -> str:
    try:
        return Path(f"/sys/class/video4linux/{device}/name").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
