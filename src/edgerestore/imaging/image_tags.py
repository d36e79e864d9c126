"""Tags of image files: EXIF, colour profile, resolution, and what one format alone holds."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from .arrays import Image

__all__ = [
    "HISTORY",
    "PNG_TAGS",
    "RESOLUTION",
    "TIFF_TAGS",
    "ImageTags",
    "add_jpeg_resolution",
    "add_png_chunks",
    "jpeg_resolution",
    "orientation_and_tags",
    "png_chunks",
    "png_claims_more",
    "png_tags",
    "upright",
]

RESOLUTION, PNG_TAGS, TIFF_TAGS = "resolution", "PNG text and colour tags", "TIFF tags"
HISTORY = "range of intensities"

_KINDS = {
    cv2.IMAGE_METADATA_EXIF: "EXIF",
    cv2.IMAGE_METADATA_XMP: "XMP",
    cv2.IMAGE_METADATA_ICCP: "ICC profile",
    cv2.IMAGE_METADATA_CICP: "cICP colours",
}
_EXIF_ORIENTATION = 0x0112
_PNG_HEAD = 8 + 25  # signature and IHDR
_INCHES_PER_M = 1 / 0.0254
# What OpenCV neither reads nor writes, and stays true of the restored picture.
_PNG_OWN = {b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt"}
_PNG_XMP = b"XML:com.adobe.xmp\0"
_JFIF = b"JFIF\0"


@dataclass(frozen=True, eq=False)
class ImageTags:
    """Tags of an image file, as its raw chunks.

    Parameters
    ----------
    kinds : tuple of int
        OpenCV's ``IMAGE_METADATA_*`` numbers, one for each chunk.
    chunks : tuple of bytes
        EXIF (its orientation set to upright), ICC profile, XMP, cICP.
    dpi : (float, float) or None
        Pixels per inch, horizontal and vertical.
    own : tuple
        What only files of the same format hold: chunks of a PNG, or tags of a TIFF as tifffile
        takes them.
    own_name : str
        What ``own`` is: `PNG_TAGS` or `TIFF_TAGS`; empty where it is empty.
    pictures : int
        Of the file: more than one in an animation.
    loops : int
        How often an animation is shown; 0 for ever.
    history : str
        What was done to the image, in a line of ASCII.
    """

    kinds: tuple[int, ...] = ()
    chunks: tuple[bytes, ...] = ()
    dpi: tuple[float, float] | None = None
    own: tuple[Any, ...] = ()
    own_name: str = ""
    pictures: int = 1
    loops: int = 0
    history: str = ""

    @property
    def names(self) -> list[str]:
        """What is there, in words."""
        names = [_KINDS[kind] for kind in self.kinds if kind in _KINDS]
        names += [RESOLUTION] if self.dpi is not None else []
        names += [HISTORY] if self.history else []
        return names + ([self.own_name] if self.own else [])

    def chunk(self, kind: int) -> bytes | None:
        """Return the chunk of one of OpenCV's kinds."""
        return dict(zip(self.kinds, self.chunks, strict=True)).get(kind)


def upright(image: Image, orientation: int) -> Image:
    """Apply an EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):
        image = np.swapaxes(image, 0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def orientation_and_tags(kinds: Iterable[int], chunks: Iterable[Any]) -> tuple[int, ImageTags]:
    """Return the orientation that OpenCV's chunks of a file state, and the tags saying upright."""
    orientation = 1
    kept: dict[int, bytes] = {}
    for kind, chunk in zip(kinds, chunks, strict=False):
        data = np.asarray(chunk).tobytes()
        if kind == cv2.IMAGE_METADATA_EXIF:
            orientation, data = _take_orientation(data)
        kept[int(kind)] = data
    return orientation, ImageTags(tuple(kept), tuple(kept.values()))


def _take_orientation(exif: bytes) -> tuple[int, bytes]:
    """Return the orientation of an EXIF block, and the block saying upright.

    Anything malformed counts as upright and is left as it is: EXIF is a TIFF header, and
    the entry looked for is in its first directory.
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        return 1, exif
    try:
        (offset,) = struct.unpack_from(order + "I", exif, start + 4)
        (count,) = struct.unpack_from(order + "H", exif, start + offset)
        for index in range(count):
            entry = start + offset + 2 + 12 * index
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _EXIF_ORIENTATION and 1 <= value <= 8:
                changed = bytearray(exif)
                struct.pack_into(order + "H", changed, entry + 8, 1)
                return value, bytes(changed)
    except struct.error:
        return 1, exif
    return 1, exif


def png_chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of the chunks of a PNG; ends where they are malformed."""
    at = 8
    while at + 12 <= len(raw):
        size, name = struct.unpack_from(">I4s", raw, at)
        yield name, raw[at + 8 : at + 8 + size]
        at += 12 + size


def png_claims_more(raw: bytes) -> bool:
    """Return whether a chunk of a PNG ends behind the file; OpenCV takes memory for all of it."""
    at = 8
    while at + 12 <= len(raw):
        size, name = struct.unpack_from(">I4s", raw, at)
        at += 12 + size
        if name == b"IEND":
            return False
    return at > len(raw)


def png_tags(raw: bytes) -> tuple[tuple[float, float] | None, tuple[tuple[bytes, bytes], ...]]:
    """Return the resolution of a PNG, and its chunks that OpenCV leaves out."""
    dpi = None
    own: list[tuple[bytes, bytes]] = []
    for name, content in png_chunks(raw):
        if name == b"pHYs" and len(content) == 9:
            x, y, unit = struct.unpack(">IIB", content)
            if unit == 1 and x and y:
                dpi = x / _INCHES_PER_M, y / _INCHES_PER_M
            else:
                own.append((name, content))
        elif name in _PNG_OWN and not content.startswith(_PNG_XMP):
            own.append((name, content))
    return dpi, tuple(own)


def add_png_chunks(encoded: bytes, tags: ImageTags) -> bytes:
    """Return a PNG with the resolution and the chunks that OpenCV leaves out."""
    chunks = list(tags.own) if tags.own_name == PNG_TAGS else []
    if tags.dpi is not None:
        x, y = (round(one * _INCHES_PER_M) for one in tags.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if tags.history:
        chunks.append((b"tEXt", b"ImageHistory\0" + tags.history.encode("latin-1")))
    there = {name for name, _ in png_chunks(encoded)}
    added = b"".join(
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
        if name not in there or name.endswith(b"Xt")
    )
    return encoded[:_PNG_HEAD] + added + encoded[_PNG_HEAD:]


def jpeg_resolution(raw: bytes) -> tuple[float, float] | None:
    """Return the resolution that the JFIF header of a JPEG states."""
    if raw[6:11] != _JFIF:
        return None
    unit, x, y = struct.unpack_from(">BHH", raw, 13)
    scale = {1: 1.0, 2: 2.54}.get(unit)
    return None if scale is None or not (x and y) else (x * scale, y * scale)


def add_jpeg_resolution(encoded: bytes, dpi: tuple[float, float]) -> bytes:
    """Return a JPEG whose JFIF header states a resolution."""
    if encoded[6:11] != _JFIF:
        return encoded
    x, y = (min(max(round(one), 1), 0xFFFF) for one in dpi)
    return encoded[:13] + struct.pack(">BHH", 1, x, y) + encoded[18:]
