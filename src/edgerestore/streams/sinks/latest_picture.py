"""The newest frame as JPEG: for as many watchers as there are, encoded once and on demand."""

from __future__ import annotations

import threading
from typing import NamedTuple

import cv2

from ...errors import SinkError
from ...imaging.arrays import Image
from ..media.display import check_showable, eight_bit_rgb, fitted
from ..media.frames import Frame

__all__ = ["Jpeg", "LatestPicture"]

_LONGEST_SIDE_PX = 16384  # browsers show no larger ones; JPEG itself ends at 65535


class Jpeg(NamedTuple):
    """An encoded frame; ``number`` counts the frames that were put, ``seconds`` is its time."""

    number: int
    data: bytes
    seconds: float


class LatestPicture:
    """One slot between a stream that never waits and watchers that do.

    Encoding happens on the thread of the first watcher who wants a frame; frames that nobody
    wants cost nothing. Every method may be called by any thread.

    Parameters
    ----------
    quality : int
        Of JPEG, 1 to 100.
    """

    def __init__(self, quality: int) -> None:
        self._quality = quality
        self._frame: Frame | None = None
        self._number = 0
        self._ended = False
        self._changed = threading.Condition()
        self._encoding = threading.Lock()
        self._encoded: Jpeg | None = None

    @property
    def ended(self) -> bool:
        """Whether no frame follows."""
        return self._ended

    def put(self, frame: Frame) -> None:
        """Take the place of the frame before; never waits for an encoder or a watcher.

        Raises
        ------
        SinkError
            When it is no picture.
        """
        check_showable(frame.image)
        with self._changed:
            self._frame = frame
            self._number += 1
            self._changed.notify_all()

    def end(self) -> None:
        """Wake everybody: no frame follows."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_newer(self, number: int, timeout_s: float) -> bool:
        """Return whether there is a frame after ``number``, at once or when it comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._number > number or self._ended, timeout_s)
            return self._number > number

    def jpeg(self) -> Jpeg | None:
        """Return the newest frame, or ``None`` before the first."""
        with self._encoding:
            with self._changed:
                frame, number = self._frame, self._number
            if frame is None:
                return None
            if self._encoded is None or self._encoded.number != number:
                seconds = float(frame.pts * frame.time_base)
                self._encoded = Jpeg(number, _encode(frame.image, self._quality), seconds)
            return self._encoded


def _encode(image: Image, quality: int) -> bytes:
    shown = eight_bit_rgb(fitted(image, _LONGEST_SIDE_PX, _LONGEST_SIDE_PX))
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(shown, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise SinkError(f"OpenCV cannot write {image.shape} {image.dtype} as JPEG")
    return encoded.tobytes()
