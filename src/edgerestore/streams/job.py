"""One call from a path to a restored file or folder: what the command line runs."""

from __future__ import annotations

import glob
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..errors import SourceError
from ..imaging.image_files import IMAGE_SUFFIXES
from .media.encoding import VideoOptions
from .pipeline import Restores, run_pipeline
from .progress import Progress
from .protocols import Sink, Source
from .sinks.files import ImageFileSink, ImageFolderSink, VideoFileSink
from .sources.files import ImageFilesSource, VideoFileSource
from .telemetry import Snapshot, Telemetry

__all__ = [
    "InputKind",
    "JobSummary",
    "codec_threads",
    "input_kind",
    "output_files",
    "restore_path",
    "summarize",
]

_INTERRUPTED = 130


class InputKind(StrEnum):
    """What an input turned out to be."""

    IMAGE = "image"
    FOLDER = "folder"
    GLOB = "glob"
    VIDEO = "video"
    STREAM = "stream"  # a camera, a network stream, a pipe, a generator


@dataclass(frozen=True)
class JobSummary:
    """How a run went.

    Parameters
    ----------
    kind : InputKind
    frames_in, frames_out : int
        Frames (or images) read, and written.
    frames_lost : dict of str to int
        Frames that were there and could not be read, by cause.
    seconds, fps : float
    latency_ms : dict of str to float
        ``p50``, ``p95``, ``p99``, from a frame read to the same frame written.
    frames_dropped : dict of str to int
        Frames of a live stream that were read and not written, by cause.
    interrupted : bool
        Ended early on demand; the output is whole as far as it goes.
    failed : tuple of Path
        Images of a folder or pattern that were skipped.
    """

    kind: InputKind
    frames_in: int
    frames_out: int
    frames_lost: dict[str, int]
    seconds: float
    fps: float
    latency_ms: dict[str, float]
    frames_dropped: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    failed: tuple[Path, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, 1 where images had to be skipped, 130 where it was interrupted."""
        if self.interrupted:
            return _INTERRUPTED
        return 1 if self.failed else 0


def restore_path(
    restorer: Restores,
    source: str,
    output: Path,
    *,
    overwrite: bool = False,
    progress: str = "auto",
    video: VideoOptions | None = None,
    notice: Callable[[str], None],
    stop: threading.Event | None = None,
) -> JobSummary:
    """Restore an image, a folder or pattern of images, or a video.

    Parameters
    ----------
    restorer : Restores
        A `Restorer`, or anything with its ``submit`` and ``depth``.
    source : str
        Path of an image or video, a folder of images, or a pattern such as ``tiles/*.tif``.
    output : Path
        A file for a file; a folder for a folder or pattern, whose images keep their names.
    overwrite : bool
        Replace what is there. The input itself is never replaced.
    progress : str
        ``auto``, ``json`` or ``none``.
    video : VideoOptions or None
    notice : callable
        Takes one line about anything worth knowing that is no failure; called from any
        thread.
    stop : threading.Event or None
        Ends the run early once set: what was read is finished and gets its name.

    Returns
    -------
    JobSummary

    Raises
    ------
    SourceError, SinkError, ArgumentError, InferenceError
        The first failure. Nothing unfinished is left behind, nothing was overwritten.
    """
    stop = stop or threading.Event()
    kind = input_kind(source)
    telemetry = Telemetry(restorer)
    with Progress(progress, telemetry, str(output)) as reporter:

        def tell(line: str) -> None:
            reporter.make_room()
            notice(line)

        if kind is InputKind.VIDEO:
            opened = _open_video(restorer, Path(source), output, video, overwrite, tell)
        else:
            opened = _open_images(kind, source, output, overwrite, tell)
        frames, sink = opened
        telemetry.frames_expected = frames.expected_frames
        try:
            run_pipeline(frames, restorer, sink, telemetry, stop)
        finally:
            frames.close()
        telemetry.set_lost(frames.lost)
        telemetry.end()
        reporter.done(stop.is_set())
    failed = tuple(frames.failed) if isinstance(frames, ImageFilesSource) else ()
    counts = telemetry.snapshot()
    if failed:
        notice(f"{source}: {len(failed)} of {len(failed) + counts.frames_in} images were skipped")
    return summarize(kind, counts, interrupted=stop.is_set(), failed=failed)


def summarize(
    kind: InputKind, counts: Snapshot, *, interrupted: bool, failed: tuple[Path, ...] = ()
) -> JobSummary:
    """Return how a run went, from its last counts."""
    return JobSummary(
        kind=kind,
        frames_in=counts.frames_in,
        frames_out=counts.frames_out,
        frames_lost=counts.frames_lost,
        seconds=counts.seconds,
        fps=counts.fps,
        latency_ms=counts.latency_ms,
        frames_dropped=counts.frames_dropped,
        interrupted=interrupted,
        failed=failed,
    )


def input_kind(source: str) -> InputKind:
    """Tell what an input is, by its path alone.

    Raises
    ------
    SourceError
        When nothing is there.
    """
    path = Path(source)
    if path.is_dir():
        return InputKind.FOLDER
    if path.exists():
        return InputKind.IMAGE if path.suffix.lower() in IMAGE_SUFFIXES else InputKind.VIDEO
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
        return [output / path.name for path in _image_paths(kind, source)]
    return [output]


def _open_images(
    kind: InputKind, source: str, output: Path, overwrite: bool, notice: Callable[[str], None]
) -> tuple[Source, Sink]:
    paths = _image_paths(kind, source)
    frames = ImageFilesSource(paths, notice)
    if kind is InputKind.IMAGE:
        return frames, ImageFileSink(output, overwrite=overwrite, inputs=paths)
    names = [path.name for path in paths]
    return frames, ImageFolderSink(output, names, overwrite=overwrite, inputs=paths)


def _image_paths(kind: InputKind, source: str) -> list[Path]:
    if kind is InputKind.IMAGE:
        return [Path(source)]
    if kind is InputKind.FOLDER:
        candidates = list(Path(source).iterdir())
    else:
        candidates = [Path(name) for name in glob.glob(source, recursive=True)]  # noqa: PTH207 - a pattern may be absolute
    paths = sorted(
        path for path in candidates if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not paths:
        raise SourceError(
            f"{source}: holds no image; images end in {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return paths


def _open_video(
    restorer: Restores,
    path: Path,
    output: Path,
    options: VideoOptions | None,
    overwrite: bool,
    notice: Callable[[str], None],
) -> tuple[Source, Sink]:
    threads = codec_threads(os.cpu_count() or 1)
    frames = VideoFileSource(path, notice, threads=threads)
    try:
        scale = _upscale(restorer)
        info = frames.info
        sink = VideoFileSink(
            output,
            info,
            options or VideoOptions(),
            size=(info.width * scale, info.height * scale),
            overwrite=overwrite,
            inputs=[path],
            notice=notice,
            threads=threads,
        )
    except BaseException:
        frames.close()
        raise
    return frames, sink


def codec_threads(cores: int) -> int:
    """Return the threads for a decoder or an encoder.

    They cost no more of the processor than one does, and fill what the model leaves idle.
    """
    return min(4, cores)


def _upscale(restorer: Any) -> int:
    """Return how much larger restored frames are; 1 where the restorer does not say."""
    bundle = getattr(restorer, "bundle", None)
    return int(bundle.manifest.output.upscale) if bundle is not None else 1
