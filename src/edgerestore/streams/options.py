"""Options and input of a run: one value from the command line to the source and the sinks."""

from __future__ import annotations

import glob
import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from ..errors import ArgumentError, SourceError
from ..imaging.image_files import image_suffixes
from .frame_buffer import Overrun
from .media.encoding import VideoOptions
from .sources.registry import SourceOptions

__all__ = [
    "InputKind",
    "LiveOptions",
    "Overrun",
    "SourceOptions",
    "VideoOptions",
    "image_paths",
    "input_kind",
    "output_files",
]

_FASTEST_FPS = 1e4


@dataclass(frozen=True)
class LiveOptions:
    """Options of a run: how it is read, written, and what happens when it does not keep up.

    Parameters
    ----------
    source : SourceOptions
        How the source is opened.
    video : VideoOptions
        How recordings, video files and pushed streams are encoded.
    overrun : Overrun or None
        Policy for frames that come faster than they are restored. By default live sources drop
        their oldest frame, and all others wait. Anything but ``WAIT`` also lets single frames
        fail.
    max_staleness_s : float or None
        Of live sources: a frame older than this is never shown.
    answer_s : float or None
        Of live sources: the device counts as stuck when a frame takes longer than this.
    segment_s : float or None
        Recordings begin another file this often.
    overwrite : bool
        Replace files that exist. The input itself is never replaced.
    target_fps : float or None
        Lower the work in steps to keep up with this rate.
    lighter : tuple of str
        Models to fall back to, in this order, when nothing else keeps up.
    realtime : bool or None
        Play video files at their own pace; by default where all outputs are for watching.

    Raises
    ------
    ArgumentError
        On a value that is not usable.
    """

    source: SourceOptions = field(default_factory=SourceOptions)
    video: VideoOptions = field(default_factory=VideoOptions)
    overrun: Overrun | None = None
    max_staleness_s: float | None = 1.0
    answer_s: float | None = 30.0
    segment_s: float | None = None
    overwrite: bool = False
    target_fps: float | None = None
    lighter: tuple[str, ...] = ()
    realtime: bool | None = None

    def __post_init__(self) -> None:
        for name in ("max_staleness_s", "answer_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ArgumentError(f"{name} is a number of seconds above 0, got {value!r}")
        if self.target_fps is not None and not 0 < self.target_fps < _FASTEST_FPS:
            raise ArgumentError(
                f"target_fps is a number of frames a second above 0, got {self.target_fps:g}"
            )


class InputKind(StrEnum):
    """Kind of an input."""

    IMAGE = "image"
    FOLDER = "folder"
    GLOB = "glob"
    VIDEO = "video"
    STREAM = "stream"  # a camera, a network stream, a pipe, a generator


def input_kind(source: str) -> InputKind:
    """Return the kind of an input that is a path or pattern.

    Raises
    ------
    SourceError
        When nothing is there.
    """
    path = Path(source)
    if path.is_dir():
        return InputKind.FOLDER
    if path.exists():
        return InputKind.IMAGE if path.suffix.lower() in image_suffixes() else InputKind.VIDEO
    if glob.has_magic(source):
        return InputKind.GLOB
    raise SourceError(f"{source}: is not there; check the path")


def output_files(kind: InputKind, source: str, output: Path) -> list[Path]:
    """Return the files that a run will write.

    Raises
    ------
    SourceError
        When a folder or pattern holds no image.
    """
    if kind in (InputKind.FOLDER, InputKind.GLOB):
        return [output / path.name for path in image_paths(kind, source)]
    return [output]


def image_paths(kind: InputKind, source: str) -> list[Path]:
    """Return the image files of an image, a folder or a pattern, sorted.

    Raises
    ------
    SourceError
        When a folder or pattern holds no image.
    """
    if kind is InputKind.IMAGE:
        return [Path(source)]
    if kind is InputKind.FOLDER:
        candidates = list(Path(source).iterdir())
    else:
        candidates = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207 - a pattern may be absolute
    paths = sorted(
        path for path in candidates if path.suffix.lower() in image_suffixes() and path.is_file()
    )
    if not paths:
        raise SourceError(
            f"{source}: holds no image; images end in {' '.join(sorted(image_suffixes()))}"
        )
    return paths
