"""Sink that writes a yuv4mpeg2 stream to standard output: for ``ffplay -``, ``ffmpeg -i -``."""

from __future__ import annotations

import logging
import os
import re
import sys
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np

from ...errors import SinkClosedError, SinkError
from ...imaging.arrays import Image
from ...imaging.error_translation import translated
from ..media.color import FromRgb, is_gray
from ..media.display import letterboxed
from ..media.encoding import info_of
from ..media.frames import UNSPECIFIED, ColorTags, Frame, Item
from ..media.rotation import DisplayRotation
from ..options import SinkOptions

__all__ = ["Y4M_FORMATS", "Y4mSink", "open_sink"]

_logger = logging.getLogger(__name__)

_DEPTHS = (10, 12, 16)
_DEEP = {"yuv420p": "420p", "yuv422p": "422p", "yuv444p": "444p", "gray": "mono"}

Y4M_FORMATS = {"yuv420p": "420jpeg", "yuv422p": "422", "yuv444p": "444", "gray": "mono"} | {
    f"{pix_fmt}{bits}le": f"{name}{bits} XYSCSS={name.upper()}{bits}"
    for pix_fmt, name in _DEEP.items()
    for bits in _DEPTHS
}
"""FFmpeg's pixel formats that y4m holds, and what its header calls them.

Halved chroma is averaged over two by two pixels here, which is what 420jpeg says.
"""


def open_sink(_: re.Match[str], options: SinkOptions) -> Y4mSink:
    """Open ``-``, as the registry of sinks does."""
    return Y4mSink(pix_fmt=options.video.pix_fmt)


class Y4mSink:
    """`Sink` that writes every frame uncompressed, in order.

    Depth, range and shape of pixels are kept; grey stays grey, colour becomes ``pix_fmt`` or
    4:2:0 of the stream's depth. The header has no room for a matrix, so that a reader guesses
    it by the size: what it will guess is taken. Nor is there room for timestamps or for
    another size: the rate is the stream's mean, and frames of another size are scaled to the
    first one's, with black beside or above them.

    Parameters
    ----------
    stream : binary file or None
        Not closed; standard output by default.
    pix_fmt : str or None
        One of `Y4M_FORMATS`.

    Raises
    ------
    SinkError
        For a ``pix_fmt`` that y4m does not hold.
    """

    skips = False
    wants_original = False

    def __init__(self, stream: BinaryIO | None = None, *, pix_fmt: str | None = None) -> None:
        if pix_fmt is not None and pix_fmt not in Y4M_FORMATS:
            raise SinkError(
                f"-: y4m does not hold --pix-fmt {pix_fmt}; it holds {' '.join(Y4M_FORMATS)}"
            )
        self._stream: BinaryIO = stream if stream is not None else sys.stdout.buffer
        self._wanted = pix_fmt
        self._layout: _Layout | None = None
        self._scaled = False
        self._count = 0
        self._first_s = self._moved_s = Fraction(0)

    def write(self, item: Item) -> None:
        """Write one frame, waiting for the reader; `SinkClosedError` when nobody reads."""
        if not isinstance(item, Frame):
            return
        if item.image.dtype not in (np.uint8, np.uint16):
            raise SinkError(f"-: y4m holds no {item.image.dtype} frames; write .tif images")
        layout = self._layout
        if layout is None:
            layout = self._layout = _Layout(item, self._wanted)
            self._first_s = item.pts * item.time_base
            self._send([layout.header])
            if untold := layout.untold:
                _logger.warning("-: a y4m header has no room for %s; left out", untold)
        with translated(SinkError, "-"):
            picture = layout.from_rgb(self._fitted(layout.display.stored(item.image), layout))
        self._send([b"FRAME\n", *_planes(picture)])
        due_s = self._first_s + self._count / layout.rate
        self._moved_s = max(self._moved_s, abs(item.pts * item.time_base - due_s))
        self._count += 1

    def close(self) -> None:
        """Flush; the stream stays open."""
        self._send([])
        if self._layout is not None and self._moved_s > 1 / self._layout.rate:
            _logger.warning(
                "-: frames were moved by up to %.0f ms; a y4m stream has one constant rate",
                self._moved_s * 1000,
            )

    def abort(self) -> None:
        """Do nothing: what was written is gone."""

    def _fitted(self, image: Image, layout: _Layout) -> Image:
        if image.shape == layout.shape and image.dtype == layout.dtype:
            return image
        if not self._scaled:
            self._scaled = True
            height, width = layout.shape[:2]
            _logger.warning(
                "-: a y4m stream keeps its first size; other frames are scaled to %dx%d, with"
                " black bars",
                width,
                height,
            )
        return layout.fitted(image)

    def _send(self, parts: list[bytes]) -> None:
        try:
            with translated(SinkError, "-"):
                for part in parts:
                    rest = memoryview(part)
                    while rest:
                        # An unbuffered stream (python -u) may take less than all of it.
                        rest = rest[self._stream.write(rest) :]
                self._stream.flush()
        except SinkError as error:
            if not isinstance(error.__cause__, BrokenPipeError):
                raise
            # What the file object still holds would fail once more when Python ends.
            if self._stream is getattr(sys.stdout, "buffer", None):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)
            raise SinkClosedError("-: nobody reads the output any more") from error.__cause__


class _Layout:
    """Layout of the stream, set by its first frame."""

    def __init__(self, frame: Frame, wanted: str | None) -> None:
        info = info_of(frame)
        self.display = DisplayRotation(info, "yuv4mpegpipe")
        image = self.display.stored(frame.image)
        self.shape, self.dtype = image.shape, image.dtype
        height, width = image.shape[:2]
        pix_fmt = wanted or _pix_fmt(image, info.bits)
        gray = is_gray(av.VideoFormat(pix_fmt))
        full = info.color.full_range
        if full is None:
            full = gray
        self.from_rgb = FromRgb(pix_fmt, ColorTags(full_range=full), (width, height), "rawvideo")
        aspect = info.sample_aspect_ratio
        aspect = self.display.stored_aspect(aspect) if aspect else Fraction(1)
        rate = self.rate = info.rate
        color = info.color
        tagged = {color.primaries, color.transfer, color.matrix} - {0, UNSPECIFIED}
        lost = {
            "colour tags": tagged,
            "HDR10 metadata": info.hdr,
            "transparency": frame.image.shape[2:] == (4,),
        }
        self.untold = " and ".join(name for name, there in lost.items() if there)
        self.header = (
            f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip"
            f" A{aspect.numerator}:{aspect.denominator} C{Y4M_FORMATS[pix_fmt]}"
            f" XCOLORRANGE={'FULL' if full else 'LIMITED'}\n"
        ).encode()

    def fitted(self, image: Image) -> Image:
        """Return a frame in the size, depth and number of channels of the first."""
        height, width = self.shape[:2]
        if image.shape[:2] != (height, width):
            image = letterboxed(image, width, height)
        if image.dtype != self.dtype:
            wider = self.dtype == np.uint16
            image = image.astype(np.uint16) * 257 if wider else (image >> 8).astype(np.uint8)
        return image


def _pix_fmt(image: Image, bits: int) -> str:
    """Return the pixel format of the shallowest depth that keeps all the bits."""
    deep = f"{next((one for one in _DEPTHS if bits <= one), _DEPTHS[-1])}le"
    layout = "gray" if image.ndim == 2 or image.shape[2] == 1 else "yuv420p"
    return layout if image.dtype == np.uint8 else layout + deep


def _planes(picture: av.VideoFrame) -> list[bytes]:
    """Return the rows of every plane without padding."""
    parts: list[bytes] = []
    sample_bytes = -(-max(part.bits for part in picture.format.components) // 8)
    for plane in picture.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        parts.append(rows[:, : plane.width * sample_bytes].tobytes())
    return parts
