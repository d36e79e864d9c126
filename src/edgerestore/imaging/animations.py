"""Animations by OpenCV: PNG, WebP and AVIF files of several pictures that follow each other."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from ..errors import SinkError, SourceError
from .arrays import Image
from .error_translation import translated
from .image_tags import ImageTags, orientation_and_tags, png_chunks, png_claims_more

__all__ = [
    "ANIMATED",
    "HEAD_BYTES",
    "Picture",
    "check_animated",
    "claims_animation",
    "count_pictures",
    "decode_animation",
    "encode_animation",
    "refuse_animation",
]

ANIMATED = (".png", ".apng", ".webp", ".avif")
"""Extensions of files that hold animations."""

HEAD_BYTES = 4096
"""Bytes of a file that say whether it is an animation."""

_logger = logging.getLogger(__name__)

_PNG = b"\x89PNG\r\n\x1a\n"
_WEBP_ANIMATED = 2
_SEQUENCE, _SAMPLE_SIZES = b"avis", b"stsz"
_AVIF_QUALITY = 95
_LOSSLESS = 101  # of WebP, in OpenCV's words
_TO_BGR = {
    (): cv2.COLOR_GRAY2BGR,
    (1,): cv2.COLOR_GRAY2BGR,
    (3,): cv2.COLOR_RGB2BGR,
    (4,): cv2.COLOR_RGBA2BGRA,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """Picture of an animation.

    Parameters
    ----------
    image : ndarray, u8, shape (H, W, 3) or (H, W, 4), RGB order
        All of it, as it is seen.
    shown_ms : int
    """

    image: Image
    shown_ms: int


def claims_animation(head: bytes) -> bool:
    """Return whether the first `HEAD_BYTES` of a file say that it is an animation."""
    if head.startswith(_PNG):
        return any(name == b"acTL" for name, _ in png_chunks(head[:HEAD_BYTES]))
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20:21] and head[20] & _WEBP_ANIMATED)
    return head[4:8] == b"ftyp" and _SEQUENCE in head[8 : int.from_bytes(head[:4], "big")]


def count_pictures(raw: bytes) -> int:
    """Return how many pictures a file holds that follow each other; 1 for all but animations."""
    if not claims_animation(raw):
        return 1
    if raw.startswith(_PNG):
        bodies = (body for name, body in png_chunks(raw[:HEAD_BYTES]) if name == b"acTL")
        body = next(bodies)
        return max(1, int(struct.unpack_from(">I", body)[0])) if len(body) == 8 else 1
    if raw[:4] == b"RIFF":
        return max(1, sum(1 for name in _riff_chunks(raw) if name == b"ANMF"))
    at = raw.find(_SAMPLE_SIZES)
    known = 0 <= at <= len(raw) - 16
    return max(1, int(struct.unpack_from(">I", raw, at + 12)[0])) if known else 1


def refuse_animation(raw: bytes, path: Path) -> None:
    """Refuse an animation where one picture is wanted; a `SourceError`."""
    count = count_pictures(raw)
    if count > 1:
        raise SourceError(
            f"{path}: is an animation of {count} pictures, of which one would be kept; restore it"
            " by `edgerestore run`, or hand in its pictures"
        )


def _riff_chunks(raw: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(raw):
        name, size = struct.unpack_from("<4sI", raw, at)
        yield name
        at += 8 + size + size % 2


def decode_animation(raw: bytes, path: Path) -> tuple[list[Picture], ImageTags]:
    """Decode an animation.

    Parameters
    ----------
    raw : bytes
    path : Path
        For messages.

    Returns
    -------
    pictures : list of Picture
        All of one size, each whole, without alpha where all are opaque.
    tags : ImageTags
        With the number of pictures and how often they are shown.

    Raises
    ------
    SourceError
        When it is damaged.
    """
    damaged = f"{path}: is an animation that cannot be read, or damaged; check it"
    if raw.startswith(_PNG) and png_claims_more(raw):
        raise SourceError(damaged)
    with translated(SourceError, path):
        found, animation = cv2.imdecodeanimation(np.frombuffer(raw, np.uint8))
        _, kinds, chunks = cv2.imdecodeWithMetadata(
            np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED
        )
    _, tags = orientation_and_tags(np.ravel(kinds).tolist(), chunks)
    if not found or not animation.frames:
        raise SourceError(damaged)
    if raw.startswith(_PNG) and raw[24] > 8:
        _logger.warning("%s: %d bits a sample become 8, as of every animation", path, raw[24])
    frames = animation.frames
    opaque = all(one.shape[2] == 3 or bool((one[..., 3] == 255).all()) for one in frames)
    code = cv2.COLOR_BGRA2RGB if opaque else cv2.COLOR_BGRA2RGBA
    pictures = [
        Picture(
            cv2.cvtColor(one, code if one.shape[2] == 4 else cv2.COLOR_BGR2RGB), max(1, int(shown))
        )
        for one, shown in zip(frames, np.ravel(animation.durations), strict=True)
    ]
    tags = replace(tags, pictures=len(pictures), loops=max(0, int(animation.loop_count)))
    return pictures, tags


def check_animated(path: Path) -> None:
    """Refuse a file to be written whose format holds no animation; a `SinkError`."""
    suffix = path.suffix.lower()
    if suffix not in ANIMATED:
        raise SinkError(f"{path}: {suffix} holds one picture, no animation; use .webp or .mp4")


def encode_animation(
    pictures: Sequence[Picture], tags: ImageTags, path: Path, quality: int | None = None
) -> bytes:
    """Return the bytes of an animation.

    Parameters
    ----------
    pictures : sequence of Picture
    tags : ImageTags
    path : Path
        Its extension chooses the format; nothing is written there.
    quality : int, optional
        From 1 to 100, of WebP and AVIF; WebP is lossless without.

    Raises
    ------
    SinkError
        For a format that holds no animation, and for samples that are not of 8 bits.
    """
    check_animated(path)
    suffix = path.suffix.lower().replace(".apng", ".png")
    images = [one.image for one in pictures]
    if any(one.dtype != np.uint8 for one in images):
        raise SinkError(f"{path}: an animation holds samples of 8 bits alone")
    if tags.names:
        names = ", ".join(tags.names)
        _logger.warning("%s: an animation is written without %s; left out", path, names)
    animation = cv2.Animation()
    animation.loop_count = tags.loops
    animation.frames = [cv2.cvtColor(one, _TO_BGR[one.shape[2:]]) for one in images]
    animation.durations = [one.shown_ms for one in pictures]
    settings = {
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality or _LOSSLESS],
        ".avif": [cv2.IMWRITE_AVIF_QUALITY, quality or _AVIF_QUALITY],
    }
    with translated(SinkError, path):
        done, encoded = cv2.imencodeanimation(suffix, animation, settings.get(suffix, []))
    if not done:
        raise SinkError(f"{path}: OpenCV cannot write this animation as {suffix}")
    if suffix == ".avif" and tags.loops:
        _logger.warning("%s: is shown for ever; .avif cannot be told %d times", path, tags.loops)
    return bytes(encoded.tobytes())
