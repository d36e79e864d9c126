"""Sizes that image files state in their headers, and a bound on them before they are decoded."""

from __future__ import annotations

import io
import re
import struct

from ..errors import SourceError
from .error_translation import held_back

__all__ = ["MAX_PIXELS", "check_pixels", "decoder_options", "refuse_pixels", "stated_size"]

MAX_PIXELS = 180_000_000
"""Pixels of the largest picture that is read, unless more is allowed."""

_NO_FRAME = (0xC4, 0xC8, 0xCC)  # among the markers of JPEG that begin a frame
_PNM = re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)\s")


def check_pixels(raw: bytes, where: object, max_pixels: int | None = MAX_PIXELS) -> None:
    """Refuse the bytes of an image file whose header states more pixels than a bound.

    Parameters
    ----------
    raw : bytes
    where : object
        For messages.
    max_pixels : int or None
        ``None`` for any.

    Raises
    ------
    SourceError
    """
    width, height = stated_size(raw) if max_pixels is not None else (0, 0)
    refuse_pixels(width, height, where, max_pixels)


def refuse_pixels(width: int, height: int, where: object, max_pixels: int | None) -> None:
    """Refuse a size of more pixels than a bound; as `check_pixels`."""
    if max_pixels is not None and width * height > max_pixels:
        raise SourceError(
            f"{where}: states {width} x {height} pixels, and up to {max_pixels / 1e6:g} megapixels"
            f" are read; check it, or allow more (--max-pixels {width * height}; in Python hand in"
            " the array)"
        )


def decoder_options(max_pixels: int | None) -> dict[str, str]:
    """Return options of FFmpeg's decoders that refuse pictures far above a bound in mid-stream.

    They count rows as they are padded, so the bound itself would refuse smaller pictures too.
    """
    return {} if max_pixels is None else {"max_pixels": str(2 * max_pixels + (1 << 20))}


def stated_size(raw: bytes) -> tuple[int, int]:
    """Return width and height as the header of an image file states them; 0, 0 if it does not.

    Those of JPEG, PNG, WebP, BMP, GIF, PNM, TIFF, AVIF and HEIC.
    """
    try:
        return _size(raw)
    except (struct.error, IndexError):
        return 0, 0


def _size(raw: bytes) -> tuple[int, int]:
    if raw.startswith(b"\xff\xd8"):
        return _jpeg(raw)
    if raw.startswith(b"\x89PNG"):
        return _pair(">II", raw, 16)
    if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        return _webp(raw)
    if raw.startswith(b"BM"):
        old = struct.unpack_from("<I", raw, 14)[0] == 12  # of OS/2
        return _pair("<HH" if old else "<ii", raw, 18)
    if raw.startswith(b"GIF8"):
        return _pair("<HH", raw, 6)
    if raw[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _tiff(raw)
    if raw[4:8] == b"ftyp":  # a grid of tiles states its own size and that of each tile
        sizes = (_pair(">II", raw, found.end() + 4) for found in re.finditer(b"ispe", raw))
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    found = _PNM.match(raw[:1024])
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _pair(form: str, raw: bytes, at: int) -> tuple[int, int]:
    width, height = struct.unpack_from(form, raw, at)
    return abs(width), abs(height)


def _jpeg(raw: bytes) -> tuple[int, int]:
    at = 2
    while True:
        if raw[at] != 0xFF:
            at += 1
            continue
        marker = raw[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = _pair(">HH", raw, at + 5)
            return width, height
        bare = marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8
        at += (1 if marker == 0xFF else 2) if bare else 2 + _pair(">HH", raw, at + 2)[0]


def _webp(raw: bytes) -> tuple[int, int]:
    kind = raw[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(raw[at : at + 3], "little") + 1 for at in (24, 27))
        return width, height
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", raw, 21)[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = _pair("<HH", raw, 26)
    return width & 0x3FFF, height & 0x3FFF


def _tiff(raw: bytes) -> tuple[int, int]:
    import tifffile

    try:
        with held_back("tifffile"), tifffile.TiffFile(io.BytesIO(raw)) as file:
            page = file.pages.first
            return page.imagewidth, page.imagelength
    except Exception:  # of a damaged file tifffile raises nearly anything; its decoder tells
        return 0, 0
