"""Frames, and the packets beside them, into a video file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.stream import Disposition

from ...errors import SinkError
from ...imaging.arrays import Image
from ...imaging.library_errors import translated
from ..media.color import FromRgb
from ..media.copying import StreamCopier, copied_tags
from ..media.display import Display
from ..media.facts import VideoFacts
from ..media.frames import Frame, Item, Passthrough
from ..media.options import Encoding, VideoOptions, check_size, choose_encoding
from .encoder import prepare_encoder
from .partial_file import PartialFile

if TYPE_CHECKING:
    from av.container.core import Chapter

__all__ = ["VideoFileSink"]

# AV_CODEC_FLAG_FRAME_DURATION: the last frame of a file is shown as long as it was.
_KEEP_DURATIONS = 1 << 8

# The largest clock that the mp4 header holds.
_LARGEST_TIMESCALE = 2**31 - 1


class VideoFileSink:
    """A `Sink` that encodes frames and copies the other streams.

    Parameters
    ----------
    output : Path
        Its extension chooses the container.
    facts : VideoFacts
        Of the source.
    options : VideoOptions
    size : (int, int) or None
        Width and height that restored frames will have, where that is known already; what
        cannot be encoded is then refused at once. The first frame decides in any case.
    overwrite : bool
    inputs : iterable of Path
        Files that must not be replaced.
    notice : callable
        Told of streams that are left out.
    threads : int
        Threads of the encoder.
    key_frames_s : float or None
        Seconds from one key frame to the next; ``None`` leaves it to the encoder.
    container_options : mapping of str
        For FFmpeg's muxer; what it does not know is ignored.

    Raises
    ------
    SinkError
    """

    skips = False
    wants_original = False

    def __init__(
        self,
        output: Path,
        facts: VideoFacts,
        options: VideoOptions,
        *,
        size: tuple[int, int] | None = None,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
        notice: Callable[[str], None],
        threads: int = 1,
        key_frames_s: float | None = None,
        container_options: Mapping[str, str] | None = None,
    ) -> None:
        self._output = output
        self._facts = facts
        self._threads = threads
        self._key_frames_s = key_frames_s
        self._early: list[Passthrough] = []
        self._from_rgb: FromRgb | None = None
        self._file = PartialFile(output, overwrite=overwrite, inputs=inputs)
        try:
            self._container = self._open(facts, container_options or {})
            self._encoding = choose_encoding(self._container, options, facts.bits, output)
            self._display = Display(facts, self._container.format.name)
            if size is not None:
                check_size(self._encoding, *self._display.stored_size(*size), output)
            with translated(SinkError, output):
                self._stream = _video_stream(self._container, self._encoding, facts)
                self._copier = StreamCopier(
                    self._container, facts, audio=options.audio, notice=notice, where=output
                )
        except BaseException:
            self._file.discard()
            raise

    @property
    def partial_path(self) -> Path:
        """Where it is written until it is finished."""
        return self._file.path

    def write(self, item: Item) -> None:
        """Encode a frame, or copy a packet."""
        with translated(SinkError, self._output):
            if isinstance(item, Frame):
                self._encode(item)
            elif self._from_rgb is None:
                # The header, which comes before any packet, needs the size of a frame.
                self._early.append(item)
            else:
                self._copier.write(item)

    def close(self) -> None:
        """Flush the encoder, finish the file and rename it."""
        if self._from_rgb is None:
            raise SinkError(f"{self._output}: got no frame, so there is nothing to write")
        with translated(SinkError, self._output):
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._file.commit()

    def abort(self) -> None:
        """Let go of the encoder and remove the file."""
        self._let_go()
        self._file.discard()

    def leave(self) -> None:
        """Let go of the encoder and leave the unfinished file as it stands. Never raises."""
        self._let_go()
        self._file.leave()

    def _let_go(self) -> None:
        with contextlib.suppress(Exception):
            self._container.close()

    def _open(
        self, facts: VideoFacts, container_options: Mapping[str, str]
    ) -> av.container.OutputContainer:
        clock = facts.time_base.denominator
        options = dict(container_options)
        if clock <= _LARGEST_TIMESCALE:
            # Ignored by every container but mp4 and its kin, which would pick a clock of
            # their own otherwise.
            options["video_track_timescale"] = str(clock)
        with translated(SinkError, self._output):
            try:
                return av.open(str(self._file.path), "w", container_options=options)
            except ValueError as error:
                raise SinkError(
                    f"{self._output}: the extension names no video format; use .mp4 or .mkv"
                ) from error

    def _encode(self, frame: Frame) -> None:
        image = self._display.stored(frame.image)
        from_rgb = self._from_rgb or self._start(frame, image)
        picture = from_rgb(image)
        picture.pts = frame.pts
        picture.time_base = frame.time_base
        picture.duration = frame.duration
        self._container.mux(self._stream.encode(picture))

    def _start(self, frame: Frame, image: Image) -> FromRgb:
        facts, encoding = self._facts, self._encoding
        height, width = image.shape[:2]
        check_size(encoding, width, height, self._output)
        if image.dtype not in (np.uint8, np.uint16):
            raise SinkError(
                f"{self._output}: a video holds no {image.dtype} frames; use .tif images"
            )
        from_rgb = FromRgb(
            encoding.pix_fmt, facts.color, (facts.width, facts.height), encoding.codec
        )
        aspect = facts.sample_aspect_ratio
        prepare_encoder(
            self._stream,
            size=(width, height),
            pix_fmt=encoding.pix_fmt,
            clock=frame.time_base,
            tags=from_rgb.tags_for(width, height),
            aspect=None if aspect is None else self._display.stored_aspect(aspect),
            threads=self._threads,
        )
        context = self._stream.codec_context
        if self._key_frames_s is not None:
            context.gop_size = max(1, round(facts.rate * Fraction(self._key_frames_s)))
        context.flags |= _KEEP_DURATIONS
        if self._display.matrix is not None:
            self._stream.set_display_matrix(self._display.matrix)
        self._stream.metadata.update(copied_tags(dict(facts.stream_metadata)))
        self._stream.disposition = Disposition(facts.disposition)
        self._container.metadata.update(copied_tags(dict(facts.metadata)))
        self._container.set_chapters([cast("Chapter", one) for one in facts.chapters])
        self._container.start_encoding()
        for early in self._early:
            self._copier.write(early)
        self._early.clear()
        self._from_rgb = from_rgb
        return from_rgb


def _video_stream(
    container: av.container.OutputContainer, encoding: Encoding, facts: VideoFacts
) -> av.VideoStream:
    stream = container.add_stream(encoding.codec, rate=facts.rate, options=encoding.options)
    if not isinstance(stream, av.VideoStream):
        raise TypeError(f"{encoding.codec} made a {stream.type} stream")
    return stream
