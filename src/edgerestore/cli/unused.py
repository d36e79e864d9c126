"""Options of a run that do not apply to its input or outputs, each told in a line."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..streams.options import InputKind
    from ..streams.sources.address import Address

__all__ = ["tell_unused"]

logger = logging.getLogger(__name__)

_RAW = "raw frames on standard input"
# Option -> what it is of, in words, and the schemes of addresses that it applies to.
_OF_INPUT = {
    "size": (f"cameras and {_RAW}", ("camera", "-")),
    "fps": (f"cameras, network streams and {_RAW}", None),
    "fourcc": ("cameras", ("camera",)),
    "raw": ("standard input", ("-",)),
    "rtsp_transport": ("rtsp:// streams", ("rtsp", "rtsps")),
    "hold_damaged": (
        "network streams",
        ("http", "https", "rtmp", "rtsp", "rtsps", "srt", "tcp", "udp"),
    ),
    "stall": ("cameras and network streams", None),
    "retries": ("cameras and network streams", None),
}
_OF_STREAMS = ("max_staleness", "overrun", "realtime")
# Option -> another one, without which it does nothing.
_OF_OPTION = {
    "reuse_threshold": "reuse_static",
    "lighter": "target_fps",
    "control_token": "control",
}
_OF_KIND = {"planes": dict.fromkeys(("compare", "quality"), "pictures of one page, and video")}
_OF_PLANES = ("channels", "compression", "zarr_version", "dask")
_OF_VIDEO = ("codec", "crf", "preset", "pix_fmt", "audio")
_INTERLACED = "video files, network streams and pipes"
_WATCHED = ("window", "virtualcam", "http://")


def tell_unused(
    given: Collection[str], kind: InputKind, address: Address | None, outputs: Sequence[str]
) -> None:
    """Log a warning for each option that was given and does nothing in this run.

    Parameters
    ----------
    given : collection of str
        Parameters of the command that were given.
    kind : InputKind
    address : Address or None
        Of the input; None for files.
    outputs : sequence of str
    """
    told = _of_input(given, address)
    told |= _of_kind(kind)
    told |= {name: _flag(other) for name, other in _OF_OPTION.items() if other not in given}
    if kind != "stream":
        told |= dict.fromkeys(_OF_STREAMS, "streams, and this goes from file to file")
    if kind.of_images:
        told["reuse_static"] = "video and streams"
        told["deinterlace"] = _INTERLACED
        told |= dict.fromkeys(_OF_VIDEO, "video, and these are pictures")
    elif all(one.lower().startswith(_WATCHED) for one in outputs):
        told |= dict.fromkeys(_OF_VIDEO, "outputs that are encoded as video")
    if not (kind.of_images and _may_have_quality(kind, Path(outputs[0]))):
        told["image_quality"] = "JPEG, WebP and AVIF"
    if kind != "video" and (address is None or not (address.scheme == "-" or address.is_file)):
        told["keep_gaps"] = "video files and standard input"
    if kind == "stream":
        told["skip_existing"] = "files"
    for name, of in told.items():
        if name in given:
            logger.warning("%s does nothing here: it is of %s", _flag(name), of)


def _of_kind(kind: InputKind) -> dict[str, str]:
    """Return the options of other kinds of input."""
    told = dict(_OF_KIND.get(kind, {}))
    if kind != "planes":
        told |= dict.fromkeys(_OF_PLANES, "stacks in TIFF and OME-Zarr")
    if kind not in ("video", "planes"):
        told["resume"] = "one video file into another, and of stacks"
    return told


def _of_input(given: Collection[str], address: Address | None) -> dict[str, str]:
    """Return the options of an input that this one does not take, with what they are of."""
    if address is None:
        return {name: of for name, (of, _) in _OF_INPUT.items()}
    told = {
        name: of
        for name, (of, schemes) in _OF_INPUT.items()
        if schemes is not None and address.scheme not in schemes
    }
    if address.scheme == "-" and "raw" not in given:
        told |= dict.fromkeys(("size", "fps"), _RAW)
    if address.scheme == "camera":
        told["deinterlace"] = _INTERLACED
        told["max_pixels"] = "files and streams"
    return told


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _may_have_quality(kind: InputKind, output: Path) -> bool:
    from ..imaging.image_files import image_format

    found = image_format(output) if kind == "image" else None  # else a folder of anything
    return found is None or found.lossy
