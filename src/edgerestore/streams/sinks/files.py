"""Sinks that write files: image files and video files."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.stream import Disposition

from ...errors import SinkError
from ...imaging.animations import Picture, encode_animation
from ...imaging.error_translation import listened, silenced, translated
from ...imaging.image_files import ImageTags, check_format, encode_image, image_suffixes
from ..media.encoding import VideoEncoder, check_size, choose_encoding, constant_clock
from ..media.frames import DONE, Frame, Item, Passthrough, VideoInfo, file_address
from ..media.stream_copy import StreamCopier, copied_tags
from ..options import VIDEO_SUFFIXES, SinkOptions
from .partial_file import PartialFile, check_output

if TYPE_CHECKING:
    from av.container.core import Chapter

__all__ = ["ImageFileSink", "ImageFolderSink", "VideoFileSink", "check_video_file"]

_logger = logging.getLogger(__name__)


class ImageFileSink:
    """`Sink` for one image file; the pictures of an animation are one.

    Parameters
    ----------
    output : Path
        Its extension chooses the format.
    overwrite : bool
    inputs : iterable of Path
        Files that must not be replaced.
    quality : int or None
        From 1 to 100, of formats that have one.
    """

    skips = False
    wants_original = False

    def __init__(
        self,
        output: Path,
        *,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
        quality: int | None = None,
    ) -> None:
        check_format(output)
        self._output, self._quality = output, quality
        self._frames: list[Frame] = []
        self._file = PartialFile(output, overwrite=overwrite, inputs=inputs)

    def write(self, item: Item) -> None:
        """Write the frame, once; or the animation, when it is complete."""
        if not isinstance(item, Frame):
            return
        tags = item.tags or ImageTags()
        if len(self._frames) == tags.pictures:
            raise SinkError(f"{self._output}: holds one image; name a folder for several")
        self._frames.append(item)
        if not self.complete:
            return
        if tags.pictures == 1:
            data = encode_image(item.image, item.tags, self._output, self._quality)
        else:
            pictures = [Picture(one.image, one.duration) for one in self._frames]
            data = encode_animation(pictures, tags, self._output, self._quality)
        with translated(SinkError, self._output):
            self._file.path.write_bytes(data)

    def close(self) -> None:
        """Give the file its name."""
        if not self._frames:
            raise SinkError(f"{self._output}: got no frame, so there is nothing to write")
        if not self.complete:
            raise SinkError(f"{self._output}: stopped within the animation; nothing is written")
        self._file.commit()

    @property
    def complete(self) -> bool:
        """Whether it has every picture of its file."""
        tags = self._frames[-1].tags if self._frames else None
        return len(self._frames) == (tags or ImageTags()).pictures

    def abort(self) -> None:
        """Remove the file."""
        self._file.discard()


class ImageFolderSink:
    """`Sink` for a folder: each frame becomes a file of the name it carries.

    Every file is whole as soon as it has its name, and stays when a later one fails. The
    folder is created with its first file.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        Every name to come, checked before any work is done.
    overwrite : bool
    inputs : iterable of Path
        Files that must not be replaced.
    quality : int or None
        From 1 to 100, of formats that have one.
    """

    skips = False
    wants_original = False

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
        quality: int | None = None,
    ) -> None:
        self._folder, self._quality = folder, quality
        self._overwrite = overwrite
        self._inputs = {path.name: path for path in inputs}
        self._file: ImageFileSink | None = None  # while it waits for the rest of an animation
        if folder.exists() and not folder.is_dir():
            raise SinkError(f"{folder}: is a file; name a folder for several images")
        if not folder.exists() and folder.suffix.lower() in image_suffixes() | VIDEO_SUFFIXES:
            raise SinkError(
                f"{folder}: several images go into a folder, and this is the name of a file;"
                f" use -o {folder.with_suffix('')}"
            )
        if not folder.parent.is_dir():
            raise SinkError(f"{folder}: the folder {folder.parent} is not there; create it")
        if len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise SinkError(f"{folder}: two inputs are called {twice}; restore them separately")
        if folder.is_dir():
            for name in names:
                check_output(folder / name, overwrite=overwrite, inputs=self._input(name))

    def write(self, item: Item) -> None:
        """Write one frame to its file, whole."""
        if not isinstance(item, Frame):
            return
        with translated(SinkError, self._folder):
            self._folder.mkdir(exist_ok=True)
        one = self._file or ImageFileSink(
            self._folder / item.name,
            overwrite=self._overwrite,
            inputs=self._input(item.name),
            quality=self._quality,
        )
        try:
            one.write(item)
            self._file = None if one.complete else one
            if one.complete:
                one.close()
        except BaseException:
            one.abort()
            raise

    def close(self) -> None:
        """Finish: every file is, but an animation that was not complete."""
        if self._file is not None:
            self._file.abort()
            _logger.warning("%s: stopped within an animation, which is not written", self._folder)

    def abort(self) -> None:
        """Remove an animation that is not complete; every file that is there is whole."""
        if self._file is not None:
            self._file.abort()

    def _input(self, name: str) -> list[Path]:
        return [self._inputs[name]] if name in self._inputs else []


def check_video_file(output: Path, options: SinkOptions) -> None:
    """Refuse a video file that could not be written, before there is a frame.

    Raises
    ------
    SinkError
        As `check_output`, for an extension or an encoder that is not usable, and for a folder
        that may not be written to.
    """
    check_output(output, overwrite=options.overwrite, inputs=options.inputs)
    if not os.access(output.parent, os.W_OK):
        raise SinkError(f"{output}: may not be written; check the folder's permissions")
    try:
        trial = av.open(file_address(output), "w")  # opens no file before its header is written
    except ValueError as error:
        raise SinkError(
            f"{output}: the extension names no video format; use .mp4 or .mkv"
        ) from error
    with translated(SinkError, output):
        choose_encoding(trial, options.video, 8, output)
        trial.close()


# AV_CODEC_FLAG_FRAME_DURATION: the last frame of a file is shown as long as it was.
_KEEP_DURATIONS = 1 << 8

# The largest clock that the mp4 header holds.
_LARGEST_TIMESCALE = 2**31 - 1


# The index of mp4 and its kin goes to the front, so that a player need not have the whole file.
_FROM_THE_START = {"movflags": "faststart"}


class VideoFileSink:
    """`Sink` that encodes frames and copies the other streams.

    Parameters
    ----------
    output : Path
        Its extension chooses the container.
    info : VideoInfo
        Of the source.
    options : SinkOptions
        Its ``size`` refuses at once what cannot be encoded; the first frame decides in any
        case.
    key_frames_s : float or None
        Seconds from one key frame to the next; ``None`` leaves it to the encoder.
    container_options : mapping of str
        For FFmpeg's muxer; what it does not know is ignored.
    even : bool
        As of `VideoEncoder`.

    Raises
    ------
    SinkError
    """

    skips = False
    wants_original = False

    def __init__(
        self,
        output: Path,
        info: VideoInfo,
        options: SinkOptions,
        *,
        key_frames_s: float | None = None,
        container_options: Mapping[str, str] | None = None,
        even: bool = False,
    ) -> None:
        self._output = output
        self._info = info
        self._threads = options.threads
        self._key_frames_s = key_frames_s
        self._cut_short, self._resumed = options.cut_short, options.resumed
        self._last_dts_s: Fraction | None = None
        self._early: list[Passthrough] = []
        self._clock: Fraction | None = None  # of a constant rate
        self._last_pts, self._moved_s = -1, Fraction(0)
        # A recording may run beside outputs with threads of their own.
        self._listened = contextlib.nullcontext if container_options else listened
        self._file = PartialFile(output, overwrite=options.overwrite, inputs=options.inputs)
        try:
            self._container = self._open(info, dict(container_options or _FROM_THE_START))
            encoding = choose_encoding(self._container, options.video, info.bits, output)
            with translated(SinkError, output):
                self._encoder = VideoEncoder(self._container, encoding, info, output, even=even)
                if options.size is not None:
                    stored = self._encoder.display.stored_size(*options.size)
                    check_size(encoding, *stored, output)
                self._copier = StreamCopier(
                    self._container, info, audio=options.video.audio, where=output
                )
        except BaseException:
            self._file.discard()
            raise

    def write(self, item: Item) -> None:
        """Encode a frame, or copy a packet."""
        with translated(SinkError, self._output):
            if isinstance(item, Frame):
                if not self._encoder.opened:
                    with silenced(), self._listened():  # x264 and others write by themselves
                        self._start(item)
                self._mux(self._encoder.encode(item, *self._when(item)))
            elif item.stream == DONE:
                self._join(item)
            elif not self._encoder.opened:
                # The header, which comes before any packet, needs the size of a frame.
                self._early.append(item)
            else:
                self._copier.write(item)

    def close(self) -> None:
        """Flush the encoder, finish the file and rename it."""
        if not self._encoder.opened:
            raise SinkError(f"{self._output}: got no frame, so there is nothing to write")
        with translated(SinkError, self._output), self._listened():
            self._mux(self._encoder.stream.encode(None))
            self._copier.finish()
            self._container.close()
        self._copier.report()
        if self._clock is not None and self._moved_s > self._clock / 4:
            _logger.warning(
                "%s: frames were moved by up to %.0f ms; this format or encoder has one constant"
                " rate, .mkv with libx264 has not",
                self._output,
                self._moved_s * 1000,
            )
        cut_short = self._cut_short()
        name = self._file.commit(cut_short=cut_short, resumed=self._resumed is not None)
        self._check_aspect(name)
        if cut_short:
            _logger.warning("%s: holds what was done when the run was stopped, not all", name)

    def _check_aspect(self, path: Path) -> None:
        """Tell where the shape of pixels did not arrive: some encoders and containers lack it."""
        wanted = self._encoder.display.stored_aspect(self._info.sample_aspect_ratio or Fraction(1))
        if wanted in (0, 1):
            return
        with translated(SinkError, path), av.open(file_address(path)) as written:
            if written.streams.video[0].sample_aspect_ratio == wanted:
                return
        _logger.warning(
            "%s: the shape of its pixels (%s) is not in the file: FFmpeg's binding cannot write it"
            " with %s there; use --codec libx264, or .mp4",
            path,
            str(wanted).replace("/", ":"),
            self._encoder.stream.codec_context.name,
        )

    def abort(self) -> None:
        """Close the encoder and remove the file."""
        with contextlib.suppress(Exception):
            self._container.close()
        self._file.discard()

    def leave(self) -> Path:
        """Close the encoder; leave the unfinished file as it stands, and return where."""
        with contextlib.suppress(Exception):
            self._container.close()
        self._file.leave()
        return self._file.path

    def _when(self, frame: Frame) -> tuple[int, Fraction, int]:
        """Return a frame's timestamp, its clock, and how long it lasts."""
        if self._clock is None:
            return frame.pts, frame.time_base, frame.duration
        at = frame.pts * frame.time_base / self._clock
        pts = max(self._last_pts + 1, round(at))
        self._moved_s = max(self._moved_s, abs(pts - at) * self._clock)
        self._last_pts = pts
        return pts, self._clock, 1

    def _join(self, item: Passthrough) -> None:
        """Copy a frame that an earlier run encoded with the same settings."""
        if not self._encoder.opened and self._resumed is not None:
            width, height = self._encoder.display.stored_size(*self._resumed)
            blank = np.zeros((height, width, 3), np.uint8)  # for its size alone
            self._start(Frame(blank, 0, self._info.time_base))
        item.packet.stream = self._encoder.stream
        self._mux([item.packet])

    def _mux(self, packets: Sequence[av.Packet[Any]]) -> None:
        for packet in packets:
            if self._resumed is not None and packet.dts is not None:
                # Where the two meet, the delay of reordered frames is met twice.
                at_s = packet.dts * (packet.time_base or self._info.time_base)
                if self._last_dts_s is not None and at_s <= self._last_dts_s:
                    clock = packet.time_base or self._info.time_base
                    packet.dts = int(self._last_dts_s / clock) + 1
                    at_s = packet.dts * clock
                self._last_dts_s = at_s
            self._container.mux(packet)

    def _open(self, info: VideoInfo, options: dict[str, str]) -> av.container.OutputContainer:
        clock = info.time_base.denominator
        if clock <= _LARGEST_TIMESCALE:
            # Ignored by every container but mp4 and its kin, which would pick a clock of
            # their own otherwise.
            options["video_track_timescale"] = str(clock)
        if info.loops is not None:
            options["loop"] = str(info.loops)  # ignored by every container but GIF
        with translated(SinkError, self._output):
            try:
                return av.open(file_address(self._file.path), "w", container_options=options)
            except ValueError as error:
                raise SinkError(
                    f"{self._output}: the extension names no video format; use .mp4 or .mkv"
                ) from error

    def _start(self, frame: Frame) -> None:
        info, encoder = self._info, self._encoder
        self._clock = constant_clock(
            self._container.format.name,
            encoder.stream.codec_context.name,
            frame.time_base,
            info.rate,
        )
        encoder.open(
            frame.image,
            self._clock or frame.time_base,
            threads=self._threads,
            key_frames_s=self._key_frames_s,
        )
        stream = encoder.stream
        stream.codec_context.flags |= _KEEP_DURATIONS
        if encoder.display.matrix is not None:
            stream.set_display_matrix(encoder.display.matrix)
        stream.metadata.update(copied_tags(dict(info.stream_metadata)))
        stream.disposition = Disposition(info.disposition)
        self._container.metadata.update(copied_tags(dict(info.metadata)))
        self._container.set_chapters([cast("Chapter", one) for one in info.chapters])
        self._container.start_encoding()
        for early in self._early:
            self._copier.write(early)
        self._early.clear()
