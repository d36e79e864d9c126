"""Options and input of a run: one value from the command line to the source and the sinks."""

from __future__ import annotations

import glob
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ..engine.family import check_quality
from ..errors import ArgumentError, SourceError, counted
from ..imaging.error_translation import translated
from ..imaging.image_files import (
    NOT_READ,
    check_readable,
    holds_picture,
    image_suffixes,
    is_animation,
    written_name,
)
from ..imaging.stated_size import MAX_PIXELS
from .events import EventLog
from .frame_buffer import Overrun
from .media.encoding import VideoOptions
from .media.frames import VideoInfo, nearest_rate
from .protocols import Controls

__all__ = [
    "VIDEO_SUFFIXES",
    "InputKind",
    "LiveOptions",
    "Overrun",
    "RawFormat",
    "SinkOptions",
    "SourceOptions",
    "VideoOptions",
    "image_paths",
    "input_kind",
    "left_out",
    "output_files",
    "paths_to_do",
]

VIDEO_SUFFIXES = frozenset(
    {
        *(".apng", ".avi", ".gif", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpg"),
        *(".ts", ".webm", ".y4m"),
    }
)
"""Extensions of video that no file is opened to tell; other videos are known by their content."""

_FASTEST_FPS = 1e4


@dataclass(frozen=True)
class RawFormat:
    """Format of raw frames on a pipe, one after the other without a header.

    Parameters
    ----------
    pix_fmt : str
        FFmpeg's name: ``rgb24``, ``gray16le``, ``yuv420p``, ...
    width, height : int
    rate : Fraction
        Frames per second.

    Raises
    ------
    ArgumentError
        On a size or rate that is not above 0, or a pixel format that is not known.
    """

    pix_fmt: str
    width: int
    height: int
    rate: Fraction = Fraction(25)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1 or self.rate <= 0:
            raise ArgumentError(
                f"raw frames of {self.width} x {self.height} at {self.rate} a second;"
                " all three are above 0"
            )
        try:
            av.VideoFormat(self.pix_fmt, self.width, self.height)
        except ValueError as error:
            line = f"pixel format {self.pix_fmt!r} is not known; use rgb24, gray, yuv420p, ..."
            raise ArgumentError(line) from error

    @property
    def options(self) -> dict[str, str]:
        """Options of FFmpeg's rawvideo demuxer."""
        return {
            "pixel_format": self.pix_fmt,
            "video_size": f"{self.width}x{self.height}",
            "framerate": str(self.rate),
        }


@dataclass(frozen=True)
class SourceOptions:
    """Options of sources; each kind uses those that concern it.

    Parameters
    ----------
    width, height : int or None
        Requested of a camera.
    fps : float or None
        Requested of a camera; elsewhere the rate of a stream that states none or a wrong one.
    fourcc : str or None
        Requested of a camera: ``MJPG``, ``YUYV``, ...
    rtsp_transport : str
        ``tcp`` or ``udp``.
    open_timeout_s : float
        To connect, and as much again to find video.
    stall_s : float
        Connected and silent for so long is taken for lost.
    retries : int or None
        Further attempts in a row after which a live source is given up; ``None`` never.
    raw : RawFormat or None
        What comes on standard input, where it has no header.
    paced : bool
        Hand out a file in real time, as a stand-in for a camera.
    live : bool
        An iterable's frames come whether or not they are taken.
    owned : bool
        An iterable's arrays are not used again by the caller.
    threads : int
        Threads that decode.
    keep_gaps : bool
        A pause of a whole transport stream stays as long as the file says; else more than 10 s
        are taken for a jump of its clock.
    deinterlace : bool
        Interlaced pictures of a file or stream become whole ones.
    max_pixels : int or None
        A picture that states more is not decoded; ``None`` allows any.
    hold_damaged : bool
        Of a network stream: after a damaged picture, nothing is handed out before a key frame.

    Raises
    ------
    ArgumentError
        On a value that is not usable.
    """

    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fourcc: str | None = None
    rtsp_transport: str = "tcp"
    open_timeout_s: float = 10.0
    stall_s: float = 10.0
    retries: int | None = None
    raw: RawFormat | None = None
    paced: bool = False
    live: bool = False
    owned: bool = False
    threads: int = field(default_factory=lambda: min(4, os.cpu_count() or 1))
    keep_gaps: bool = False
    deinterlace: bool = True
    max_pixels: int | None = MAX_PIXELS
    hold_damaged: bool = False

    def __post_init__(self) -> None:
        names = ("width", "height", "fps", "open_timeout_s", "stall_s", "threads", "max_pixels")
        for name in names:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ArgumentError(f"{name} is a number above 0, got {value!r}")
        if self.retries is not None and self.retries < 0:
            raise ArgumentError(f"retries is 0 or more, got {self.retries}")
        if self.rtsp_transport not in ("tcp", "udp"):
            raise ArgumentError(f"rtsp_transport is tcp or udp, got {self.rtsp_transport!r}")
        if self.fourcc is not None and not (len(self.fourcc) == 4 and self.fourcc.isascii()):
            raise ArgumentError(f"fourcc is four letters such as MJPG, got {self.fourcc!r}")

    @property
    def rate(self) -> Fraction | None:
        """``fps`` as a fraction, the broadcasters' 29.97 as 30000/1001."""
        return None if self.fps is None else nearest_rate(self.fps)


@dataclass(frozen=True)
class SinkOptions:
    """Options of sinks; each uses those that concern it.

    Parameters
    ----------
    log : EventLog or None
        Receives what happens to outputs while the stream runs, as events.
    video : VideoOptions
    segment_s : float or None
        Length of a recording's files; ``None`` for one file.
    overwrite : bool
    threads : int
        Threads of an encoder.
    info : VideoInfo or None
        Of a source that is a file: the output is then one whole file. ``None`` for a live
        source, whose frames bring it.
    size : (int, int) or None
        Width and height of restored frames, where ``info`` is there.
    inputs : sequence of Path
        Files that must not be replaced.
    controls : Controls or None
        What the keys and the slider of a window turn.
    max_staleness_s : float or None
        A frame older than this is not shown to a slow watcher; ``None`` for any age.
    cut_short : callable
        Whether the run was stopped before its source ended; asked when a file is finished, which
        is then called ``name.partial.mp4``. Of a live source it never is.
    resumed : (int, int) or None
        Width and height of the encoded frames of an earlier run that come first (`DONE`).
    """

    log: EventLog | None = None
    video: VideoOptions = field(default_factory=VideoOptions)
    segment_s: float | None = None
    overwrite: bool = False
    threads: int = 1
    info: VideoInfo | None = None
    size: tuple[int, int] | None = None
    inputs: Sequence[Path] = ()
    controls: Controls | None = None
    max_staleness_s: float | None = 1.0
    cut_short: Callable[[], bool] = lambda: False
    resumed: tuple[int, int] | None = None


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
    skip_existing : bool
        Of several images, restore those whose outputs are not there.
    resume : bool
        Go on with the ``name.partial.mp4`` of a video, made of the same input with the same
        settings; without one, begin.
    settings : mapping of JSON values
        Noted beside a video that was ended early, and compared when it is resumed.
    compare : str or None
        ``split`` or ``side``: outputs show the original beside the restored.
    target_fps : float or None
        Lower the work in steps to keep up with this rate.
    lighter : tuple of str
        Models to fall back to, in this order, when nothing else keeps up; by default the smaller
        models of the family.
    image_quality : int or None
        Of JPEG, WebP and AVIF files, 1 to 100; by default 95, and lossless for WebP.
    quality : str or None
        Replace the model by another one of its family when the first frame is there: ``fast``,
        ``balanced`` (the largest that holds ``target_fps``, else the source's rate) or ``best``.
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
    skip_existing: bool = False
    resume: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    compare: str | None = None
    image_quality: int | None = None
    target_fps: float | None = None
    lighter: tuple[str, ...] = ()
    quality: str | None = None
    realtime: bool | None = None

    def __post_init__(self) -> None:
        for name in ("max_staleness_s", "answer_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise ArgumentError(f"{name} is a number of seconds above 0, got {value!r}")
        if self.compare not in (None, "split", "side"):
            raise ArgumentError(f"compare is split or side, got {self.compare!r}")
        if self.image_quality is not None and not 1 <= self.image_quality <= 100:
            raise ArgumentError(f"image_quality is from 1 to 100, got {self.image_quality}")
        if self.quality is not None:
            check_quality(self.quality)
        if self.target_fps is not None and not 0 < self.target_fps < _FASTEST_FPS:
            raise ArgumentError(
                f"target_fps is a number of frames a second above 0, got {self.target_fps:g}"
            )


class InputKind(StrEnum):
    """Kind of an input."""

    IMAGE = "image"
    FOLDER = "folder"
    GLOB = "glob"
    IMAGES = "images"  # several files, each named
    PLANES = "planes"  # of a TIFF or OME-Zarr, into another one
    VIDEO = "video"
    STREAM = "stream"  # a camera, a network stream, a pipe, a generator

    @property
    def of_images(self) -> bool:
        """Whether it is image files."""
        return self not in (InputKind.VIDEO, InputKind.STREAM)


def input_kind(source: str, output: Path | None = None) -> InputKind:
    """Return the kind of an input that is a path or pattern.

    Parameters
    ----------
    source : str
    output : Path, optional
        An animation is a stream where it goes into another format than a picture's.

    Raises
    ------
    SourceError
        When nothing is there.
    """
    path = Path(source)
    if path.is_dir():
        return InputKind.FOLDER
    if path.exists():
        pictures = image_suffixes() | NOT_READ.keys()
        suffix = path.suffix.lower()
        is_picture = suffix in pictures or (suffix not in VIDEO_SUFFIXES and holds_picture(path))
        if not is_picture:
            return InputKind.VIDEO
        of_pictures = output is None or output.suffix.lower() in image_suffixes() or output.is_dir()
        return InputKind.IMAGE if of_pictures or not is_animation(path) else InputKind.STREAM
    if glob.has_magic(source):
        return InputKind.GLOB
    raise SourceError(f"{source}: is not there; check the path")


def output_files(kind: InputKind, source: str | Sequence[str], output: Path) -> list[Path]:
    """Return the files that a run will write.

    Raises
    ------
    SourceError
        When a folder or pattern holds no image.
    """
    if kind.of_images and kind is not InputKind.IMAGE:
        return [output / written_name(path) for path in image_paths(kind, source)]
    return [output]


def paths_to_do(
    kind: InputKind, source: str | Sequence[str], output: Path, *, skip_existing: bool
) -> list[Path]:
    """Return the image files whose outputs are not there, all where ``skip_existing`` is off.

    Raises
    ------
    SourceError
        As `image_paths`.
    """
    paths = image_paths(kind, source)
    if not skip_existing:
        return paths
    pairs = zip(paths, output_files(kind, source, output), strict=True)
    return [path for path, made in pairs if not made.exists()]


def image_paths(kind: InputKind, source: str | Sequence[str]) -> list[Path]:
    """Return the image files of an image, of several, or of a folder or pattern, sorted.

    Hidden files of a folder are left out.

    Raises
    ------
    SourceError
        When a folder or pattern holds no image, or what is named is none, or of a format that
        is not read.
    """
    if not isinstance(source, str):
        for one in source:
            if input_kind(one) is not InputKind.IMAGE:
                raise SourceError(
                    f"{one}: is no image file; several inputs are images, all into one folder"
                )
            check_readable(Path(one))
        return [Path(one) for one in source]
    if kind is InputKind.IMAGE:
        check_readable(Path(source))
        return [Path(source)]
    paths = sorted(path for path in _candidates(kind, source) if _is_image(path))
    if not paths:
        raise SourceError(
            f"{source}: holds no image; images end in {' '.join(sorted(image_suffixes()))}"
        )
    return paths


def left_out(kind: InputKind, source: str | Sequence[str]) -> str:
    """Return what a folder or pattern holds besides its images, in words; empty if nothing."""
    if kind not in (InputKind.FOLDER, InputKind.GLOB) or not isinstance(source, str):
        return ""

    others = [path for path in _candidates(kind, source) if not _is_image(path)]
    folders = sum(path.is_dir() for path in others)
    hidden = sum(path.name.startswith(".") and not path.is_dir() for path in others)
    endings = Counter(
        path.suffix.lower() or "without extension"
        for path in others
        if not path.is_dir() and not path.name.startswith(".")
    )
    parts = [counted(folders, "subfolder")] if folders else []
    parts += [counted(hidden, "hidden file")] if hidden else []
    return ", ".join(parts + [f"{count} {ending}" for ending, count in sorted(endings.items())])


def _candidates(kind: InputKind, source: str) -> list[Path]:
    if kind is InputKind.FOLDER:
        with translated(SourceError, source):
            return list(Path(source).iterdir())
    return [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207 - a pattern may be absolute


def _is_image(path: Path) -> bool:
    suffix = path.suffix.lower()
    return suffix in image_suffixes() and not path.name.startswith(".") and path.is_file()
