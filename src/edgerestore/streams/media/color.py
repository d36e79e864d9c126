"""Colour conversion of decoded pictures to RGB and back, by the stream's matrix and range.

Both directions use the same matrix and range, so that an untouched picture comes back as
it was but for rounding.
"""

from __future__ import annotations

from typing import Any

import av
import av.filter
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from ...imaging.arrays import Image
from .frames import UNSPECIFIED, ColorTags

__all__ = [
    "FromRgb",
    "ToRgb",
    "is_gray",
    "is_rgb",
    "picture_tags",
    "sample_bits",
    "stream_tags",
    "sws_matrix",
]

# H.273 matrix -> libswscale's name for the same coefficients.
_SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_BT709, _BT601 = 1, 5
_LIMITED, _FULL = int(ColorRange.MPEG), int(ColorRange.JPEG)

# Codecs, by what their names hold, whose untagged grey pictures are limited range.
_VIDEO_CODECS = ("264", "265", "hevc", "av1", "vp9", "vp8", "mpeg")

# By way of planar RGB: libswscale's direct path to packed 8 bit RGB truncates (a picture
# comes back 0.9 grey levels darker) and its accurate packed path takes three times as long.
_IN = Interpolation.BICUBIC | Interpolation.ACCURATE_RND
_OUT = Interpolation.AREA | Interpolation.FULL_CHR_H_INP

_FORMATS = {
    (2, "uint8"): "gray",
    (2, "uint16"): "gray16le",
    (3, "uint8"): "rgb24",
    (3, "uint16"): "rgb48le",
    (4, "uint8"): "rgba",
    (4, "uint16"): "rgba64le",
}


def sws_matrix(tags: ColorTags, width: int, height: int) -> int:
    """Return the matrix to convert with, by libswscale's number.

    What is tagged counts; where nothing is, high definition (from 1280 x 720 pixels on,
    by either side) is taken for BT.709 and the rest for BT.601, as players do.
    """
    known = _SWS_MATRIX.get(tags.matrix)
    if known is not None:
        return known
    return _BT709 if width >= 1280 or height >= 720 else _BT601


def is_rgb(pix_fmt: av.VideoFormat) -> bool:
    """Return whether a pixel format stores red, green and blue (or a palette of them)."""
    return bool(pix_fmt.is_rgb) or bool(pix_fmt.has_palette)


def is_gray(pix_fmt: av.VideoFormat) -> bool:
    """Return whether a pixel format stores luma only."""
    return pix_fmt.name.startswith(("gray", "mono", "ya"))


def sample_bits(pix_fmt: av.VideoFormat) -> int:
    """Return the bits of one sample: 8, 10, 12, 16; 8 where frames of a device hide it."""
    if pix_fmt.has_palette:
        return 8
    return max((part.bits for part in pix_fmt.components), default=8)


def stream_tags(video: av.VideoStream, picture: av.VideoFrame | None = None) -> ColorTags:
    """Return the stream's tags; what the container leaves open, the picture may say."""

    def tag(name: str) -> int:
        own = int(getattr(video.codec_context, name))
        return own if own not in (0, 2) or picture is None else int(getattr(picture, name))

    return ColorTags(
        primaries=tag("color_primaries"),
        transfer=tag("color_trc"),
        matrix=tag("colorspace"),
        full_range={1: False, 2: True}.get(tag("color_range")),
    )


def picture_tags(picture: av.VideoFrame) -> ColorTags:
    """Return a decoded picture's own tags."""
    return ColorTags(
        primaries=int(picture.color_primaries),
        transfer=int(picture.color_trc),
        matrix=int(picture.colorspace),
        full_range={1: False, 2: True}.get(int(picture.color_range)),
    )


class ToRgb:
    """Converter of decoded pictures to RGB arrays.

    Parameters
    ----------
    tags : ColorTags
    codec : str
        The stream's codec; decides the range of untagged grey pictures.
    """

    def __init__(self, tags: ColorTags, codec: str) -> None:
        self._tags = tags
        self._codec = codec
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> Image:
        """Convert one picture.

        Returns
        -------
        ndarray, u8 (8 bit pictures) or u16 (deeper ones), shape (H, W, 3), or (H, W) for grey
            Full range; a 10 bit white is 65535. A new array, C-contiguous.
        """
        wide = sample_bits(picture.format) > 8
        if is_gray(picture.format):
            return self._gray(picture, wide)
        if wide:
            return self._reformat(picture, "rgb48le").to_ndarray()
        planar = self._reformat(picture, "gbrp")
        green, blue, red = (_plane(planar, index) for index in range(3))
        return cv2.merge([red, green, blue])

    def _gray(self, picture: av.VideoFrame, wide: bool) -> Image:
        # libswscale takes every grey picture for full range, whatever it is told.
        gray: Image = self._reformat(picture, "gray16le" if wide else "gray").to_ndarray()
        if _gray_is_full(self._tags, self._codec):
            return np.ascontiguousarray(gray)
        return _limited_to_full(gray.dtype)[gray]

    def _reformat(self, picture: av.VideoFrame, to: str) -> av.VideoFrame:
        matrix = sws_matrix(self._tags, picture.width, picture.height)
        return self._reformatter.reformat(
            picture,
            width=picture.width,
            height=picture.height,
            format=to,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=_range_of(picture.format, self._tags),
            dst_color_range=_FULL,
            interpolation=int(_IN),
            threads=1,
        )


class _Palettes:
    """Filter graph that gives every picture, rgb24 of one size, 256 colours of its own."""

    def __init__(self, width: int, height: int) -> None:
        self._graph = graph = av.filter.Graph()
        size = f"video_size={width}x{height}:pix_fmt=rgb24:time_base=1/1000:pixel_aspect=1/1"
        source, split, sink = graph.add("buffer", size), graph.add("split"), graph.add("buffersink")
        palette, use = (
            graph.add("palettegen", "stats_mode=single"),
            graph.add("paletteuse", "new=1"),
        )
        source.link_to(split)
        split.link_to(palette, 0, 0)
        split.link_to(use, 1, 0)
        palette.link_to(use, 0, 1)
        use.link_to(sink)
        graph.configure()
        self._made = 0

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        picture.pts = self._made
        self._made += 1
        self._graph.push(picture)
        made = self._graph.pull()
        assert isinstance(made, av.VideoFrame)  # noqa: S101 - what a graph of pictures makes
        return made


class FromRgb:
    """Converter of RGB arrays to pictures of an encoder's pixel format.

    Parameters
    ----------
    pix_fmt : str
    tags : ColorTags
        The source's.
    source_size : (int, int)
        Width and height of the source: an untagged matrix is guessed from these.
    codec : str
        Name of the encoder; decides the range of untagged grey pictures.
    """

    def __init__(
        self, pix_fmt: str, tags: ColorTags, source_size: tuple[int, int], codec: str
    ) -> None:
        self._codec = codec
        self._format = av.VideoFormat(pix_fmt)
        self._tags = tags
        self._is_jpeg = pix_fmt.startswith("yuvj")
        # JPEG has one matrix, which decoders take whatever the container says.
        self._matrix = _BT601 if self._is_jpeg else sws_matrix(tags, *source_size)
        self._reformatter = VideoReformatter()
        self._palettes: _Palettes | None = None

    def tags_for(self, width: int, height: int) -> ColorTags:
        """Return the tags to write on output of a given size.

        The source's own, save where they would no longer be true: a matrix that was guessed
        is written down once the size, and so a player's guess, changes; RGB that became YUV
        says so.
        """
        tags = self._tags
        matrix, full = tags.matrix, tags.full_range
        if is_rgb(self._format):
            return ColorTags(tags.primaries, tags.transfer, 0, True)
        guessed = {_BT709: 1, _BT601: 6}.get(self._matrix, matrix)
        if matrix == 0:
            matrix, full = guessed, False
        elif matrix == UNSPECIFIED and sws_matrix(tags, width, height) != self._matrix:
            matrix = guessed
        if self._is_jpeg:
            matrix, full = 5, True
        return ColorTags(tags.primaries, tags.transfer, matrix, full)

    def __call__(self, image: Image) -> av.VideoFrame:
        """Convert one array.

        Parameters
        ----------
        image : ndarray, u8 or u16, shape (H, W) or (H, W, C), C in 1, 3, 4
            Not copied where it is contiguous; only read.
        """
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[:, :, 0]
        if image.ndim == 2 and is_gray(self._format) and not _gray_is_full(self._tags, self._codec):
            image = _full_to_limited(image.dtype)[image]
        channels = 2 if image.ndim == 2 else image.shape[2]
        source = _FORMATS[(channels, image.dtype.name)]
        picture = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(image), format=source)
        if self._format.has_palette:
            if self._palettes is None:
                self._palettes = _Palettes(picture.width, picture.height)
            return self._palettes(self._reformatter.reformat(picture, format="rgb24"))
        tags = ColorTags() if self._tags.matrix == 0 else self._tags
        return self._reformatter.reformat(
            picture,
            format=self._format.name,
            src_colorspace=self._matrix,
            dst_colorspace=self._matrix,
            src_color_range=_FULL,
            dst_color_range=_range_of(self._format, tags),
            interpolation=int(_OUT),
            threads=1,
        )


def _range_of(pix_fmt: av.VideoFormat, tags: ColorTags) -> int:
    if is_rgb(pix_fmt) or pix_fmt.name.startswith("yuvj"):
        return _FULL
    return _FULL if tags.full_range else _LIMITED


def _plane(picture: av.VideoFrame, index: int) -> NDArray[np.uint8]:
    plane = picture.planes[index]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _gray_is_full(tags: ColorTags, codec: str) -> bool:
    if tags.full_range is not None:
        return tags.full_range
    return not any(part in codec for part in _VIDEO_CODECS)


def _full_to_limited(dtype: np.dtype[Any]) -> NDArray[Any]:
    peak = np.iinfo(dtype).max
    step = (peak + 1) // 256
    levels = np.arange(peak + 1) * (219.0 * step) / peak + 16.0 * step
    return np.rint(levels).astype(dtype, copy=False)


def _limited_to_full(dtype: np.dtype[Any]) -> NDArray[Any]:
    peak = np.iinfo(dtype).max
    step = (peak + 1) // 256
    levels = (np.arange(peak + 1) - 16.0 * step) * peak / (219.0 * step)
    table: NDArray[Any] = np.rint(levels.clip(0, peak)).astype(dtype)
    return table
