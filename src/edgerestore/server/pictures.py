"""Pictures of visitors: checked when they arrive, kept untouched, written so that none is half."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import ArgumentError, SinkError, SourceError
from ..imaging.arrays import Depth, Image, rounded
from ..imaging.image_files import check_readable, decode_bytes, encode_image
from ..imaging.image_tags import ImageTags
from .operations import shown

__all__ = ["DiskFullError", "Picture", "Pictures", "encoded_result", "write_whole"]

_ID = re.compile(r"[0-9a-f]{32}")
_PART = ".part"
# GPS, serial numbers and names are in EXIF, XMP and text chunks; colours need the other two.
_KEPT = (cv2.IMAGE_METADATA_ICCP, cv2.IMAGE_METADATA_CICP)


class DiskFullError(SinkError):
    """The disk of the data folder is full."""


@dataclass(frozen=True)
class Picture:
    """An uploaded picture.

    Parameters
    ----------
    id : str
    owner : str
    name : str
        Of the visitor's file, for the name of what is saved.
    width, height : int
        Upright.
    note : str
        What is done to it without being asked, in a line; else empty.
    """

    id: str
    owner: str
    name: str
    width: int
    height: int
    note: str = ""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file beside its name, then rename it.

    Raises
    ------
    DiskFullError
    SinkError
        When it cannot be written.
    """
    part = path.with_name(path.name + _PART)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"{path.parent}: the disk is full; delete pictures") from error
        raise SinkError(f"{path}: cannot be written ({error.strerror})") from error


class Pictures:
    """Folder of uploaded pictures.

    Parameters
    ----------
    folder : Path
        Made where it is not there; what a killed server left half written is removed.

    Raises
    ------
    SinkError
        When the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise SinkError(f"{folder}: cannot be made ({error.strerror})") from error
        for part in folder.glob(f"*/*{_PART}"):
            part.unlink(missing_ok=True)
        for one in folder.iterdir():
            if one.is_dir() and not (one / "picture.json").exists():
                shutil.rmtree(one, ignore_errors=True)

    def add(self, raw: bytes, name: str, owner: str, max_pixels: int) -> Picture:
        """Check a file and keep it, untouched.

        Raises
        ------
        SourceError
            When it is no picture, or one of too many pixels by its header, which is told before
            anything is decoded.
        SinkError
            When it cannot be kept.
        """
        label = Path(re.sub(r"[^\w.\- ]", "_", Path(name).name)[-80:] or "picture")
        image, _ = _decoded(raw, label, max_pixels)
        height, width = image.shape[:2]
        note = ""
        if image.dtype == np.float32:
            note = "floats are saved as 16 bits"
        made = Picture(secrets.token_hex(16), owner, str(label), width, height, note)
        folder = self._folder / made.id
        folder.mkdir(mode=0o700)
        try:
            write_whole(folder / "original", raw)
            suffix = ".png" if image.ndim == 3 and image.shape[2] == 4 else ".jpg"
            view = encode_image(shown(image), None, Path(f"view{suffix}"))
            write_whole(folder / "view", view)
            write_whole(folder / "picture.json", json.dumps(made.__dict__).encode())
        except SinkError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return made

    def find(self, ident: str, owner: str) -> Picture | None:
        """Return a picture of an owner; None for any other."""
        path = self._folder / ident / "picture.json"
        if not _ID.fullmatch(ident) or not path.is_file():
            return None
        made = Picture(**json.loads(path.read_bytes()))
        return made if made.owner == owner else None

    def read(self, picture: Picture) -> tuple[Image, ImageTags]:
        """Return the untouched original, upright, and the tags that results keep."""
        raw = (self._folder / picture.id / "original").read_bytes()
        image, tags = _decoded(raw, Path(picture.name), None)
        kept = [
            (kind, chunk)
            for kind, chunk in zip(tags.kinds, tags.chunks, strict=True)
            if kind in _KEPT
        ]
        kinds, chunks = tuple(k for k, _ in kept), tuple(c for _, c in kept)
        return image, ImageTags(kinds, chunks, dpi=tags.dpi)

    def view(self, picture: Picture) -> bytes:
        """Return the picture as pages show it: JPEG, or PNG where it has transparency."""
        return (self._folder / picture.id / "view").read_bytes()

    def delete_of(self, owner: str) -> int:
        """Delete every picture of an owner; return how many there were."""
        mine = [one for one in self._all() if one.owner == owner]
        for one in mine:
            shutil.rmtree(self._folder / one.id, ignore_errors=True)
        return len(mine)

    def owners_before(self, seconds: float) -> set[str]:
        """Return the owners whose newest picture is older than a time in seconds."""
        newest: dict[str, float] = {}
        for one in self._all():
            at = (self._folder / one.id / "picture.json").stat().st_mtime
            newest[one.owner] = max(at, newest.get(one.owner, 0.0))
        return {owner for owner, at in newest.items() if at < time.time() - seconds}

    def _all(self) -> list[Picture]:
        found = []
        for path in self._folder.glob("*/picture.json"):
            try:
                found.append(Picture(**json.loads(path.read_bytes())))
            except (OSError, ValueError, TypeError):
                continue
        return found


def _decoded(raw: bytes, name: Path, max_pixels: int | None) -> tuple[Image, ImageTags]:
    try:
        check_readable(name)  # a raw file of a camera, whose preview would be taken for it
        return decode_bytes(raw, name, max_pixels=max_pixels)
    except ArgumentError as error:
        raise SourceError(str(error)) from error


def encoded_result(image: Image, tags: ImageTags, name: str, kind: str) -> tuple[bytes, str, str]:
    """Return a result as a file, its name, and what had to be changed, in a line.

    Parameters
    ----------
    image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C), RGB
    tags : ImageTags
        ICC profile, colours and resolution; nothing about a person or a place.
    name : str
        Of the original.
    kind : str
        ``auto`` (JPEG for what came as JPEG and has no transparency, else PNG), ``png``, ``jpg``.
    """
    suffix, notes = Path(name).suffix.lower(), []
    alpha = image.ndim == 3 and image.shape[2] == 4
    if kind == "auto":
        kind = "jpg" if suffix in (".jpg", ".jpeg") and not alpha else "png"
    peak = Depth(image.dtype.name).peak
    if kind == "jpg" and alpha:
        levels = image.astype(np.float32) / peak
        over = levels[..., :3] * levels[..., 3:] + (1 - levels[..., 3:])
        image, notes = rounded(over, Depth(image.dtype.name)), ["JPEG: transparency became white"]
    if kind == "jpg" and image.dtype != np.uint8:
        image = rounded(image.astype(np.float32) / peak, Depth.U8)
        notes.append("JPEG: 8 bits")
    elif image.dtype == np.float32:
        image = rounded(image, Depth.U16)
        notes.append("PNG: floats became 16 bits")
    path = Path(f"{Path(name).stem}-restored.{kind}")
    own = replace(tags, own=(), own_name="")
    return encode_image(image, own, path, **_quality(kind)), path.name, "; ".join(notes)


def _quality(kind: str) -> dict[str, Any]:
    return {"quality": 95} if kind == "jpg" else {}
