"""Stream copy: the other streams of a source, added to an output without re-encoding."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from typing import Any

import av

from ...errors import counted
from .encoding import HOLD_MATRIX
from .frames import Passthrough, VideoInfo

__all__ = ["StreamCopier", "copied_tags", "is_chapter_track"]

_logger = logging.getLogger(__name__)

# What a container writes about itself, or about the stream as it was encoded before.
_STALE = {
    "alpha_mode",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "bps",
}
_STALE_STARTS = ("_statistics_", "number_of_")


_TS_NONSTRICT = 0x20000  # AVFMT_TS_NONSTRICT: times need not increase


class StreamCopier:
    """Stream copy: the other streams of a source, added to an output without re-encoding.

    Parameters
    ----------
    output : av.container.OutputContainer
        Its header is not written yet.
    info : VideoInfo
    audio : bool
        Copy the sound.
    where : object
        The output, for messages.
    """

    def __init__(
        self, output: av.container.OutputContainer, info: VideoInfo, *, audio: bool, where: object
    ) -> None:
        self._output, self._where = output, where
        self._streams: dict[int, av.stream.Stream] = {}
        self._last_dts: dict[int, int] = {}
        self._moved: Counter[int] = Counter()
        self._strict = not output.format.flags & _TS_NONSTRICT
        for stream in info.others:
            if stream.type == "audio" and not audio:
                continue
            if is_chapter_track(stream, info) or _is_timecode(stream, info, output.format.name):
                continue
            picture = info.covers.get(stream.index)
            if picture is not None and output.format.name == "matroska":
                name, kind = _cover_name(stream)
                output.add_attachment(name, kind, picture)
                continue
            if not _fits(output.format.name, stream):
                _logger.warning(
                    "%s: stream %d (%s) is left out; a %s file cannot take it",
                    where,
                    stream.index,
                    f"{stream.type} {getattr(stream, 'name', None) or ''}".strip(),
                    output.format.name,
                )
                continue
            copy = _added(output, stream)
            copy.metadata.update(copied_tags(stream.metadata))
            copy.disposition = stream.disposition
            self._streams[stream.index] = copy

    def write(self, item: Passthrough) -> None:
        """Write a packet of a stream that is copied; any other is let go."""
        stream, packet = self._streams.get(item.stream), item.packet
        if stream is None:
            return
        if packet.time_base and stream.time_base:
            by = packet.time_base / stream.time_base
            packet.pts, packet.dts = (
                None if one is None else round(one * by) for one in (packet.pts, packet.dts)
            )
            packet.duration = round((packet.duration or 0) * by)
            packet.time_base = stream.time_base
        self._give_time(packet, item.stream, stream)
        packet.stream = stream
        self._output.mux(packet)

    def report(self) -> None:
        """Tell what was changed of the packets."""
        for index, count in self._moved.items():
            _logger.warning(
                "%s: stream %d (%s): %s stood still or ran back in time;"
                " moved behind the one before",
                self._where,
                index,
                self._streams[index].type,
                counted(count, "packet"),
            )

    def _give_time(self, packet: av.Packet[Any], index: int, stream: av.stream.Stream) -> None:
        """Give a packet a time that the container takes: later than the one before, mostly."""
        last = self._last_dts.get(index)
        if packet.pts is None and packet.dts is None:  # a cover has none
            packet.pts = packet.dts = 0 if last is None else last + 1
        if packet.dts is None:
            if stream.type == "video":
                return  # the muxer works it out from the order of what is shown
            packet.dts = packet.pts
        # Lines that begin together are no fault, nor are units shorter than a tick.
        strict = self._strict and stream.type in ("audio", "video")
        least = None if last is None else last + strict
        if packet.dts is not None and least is not None and packet.dts < least:
            if packet.pts is not None and packet.pts >= packet.dts:
                packet.pts = max(packet.pts, least)
            packet.dts = least
            self._moved[index] += 1
        if packet.dts is not None:
            self._last_dts[index] = packet.dts


def _cover_name(stream: av.stream.Stream) -> tuple[str, str]:
    """Return the file name and the media type of a picture that is attached."""
    codec = stream.codec_context.name if stream.codec_context is not None else "jpg"
    ending = {"mjpeg": "jpg"}.get(codec, codec)
    usual = f"cover.{ending}", f"image/{'jpeg' if ending == 'jpg' else ending}"
    return stream.metadata.get("filename", usual[0]), stream.metadata.get("mimetype", usual[1])


def copied_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags that stay true in another file."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_STARTS)
    }


def is_chapter_track(stream: av.stream.Stream, info: VideoInfo) -> bool:
    """Return whether a stream holds mp4's chapter titles: the output gets it with its chapters."""
    return stream.type == "data" and 0 < stream.frames == len(info.chapters)


def _is_timecode(stream: av.stream.Stream, info: VideoInfo, container: str) -> bool:
    """Return whether a stream is QuickTime's timecode, which the muxer makes from its tag."""
    tagged = "timecode" in stream.metadata and "timecode" in info.stream_metadata
    return stream.type == "data" and tagged and container in HOLD_MATRIX


def _fits(container: str, stream: av.stream.Stream) -> bool:
    # Only a header that was written proves it: for some containers and streams FFmpeg
    # answers the question itself wrongly.
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        _added(trial, stream)
        trial.start_encoding()
        trial.close()  # mp4 looks at a stream when it writes its index
    except (av.error.FFmpegError, ValueError):
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            trial.close()
        return False
    return True


_USUAL_LAYOUTS = {1: "mono", 2: "stereo"}


def _added(output: av.container.OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    """Add a stream like another one."""
    if isinstance(stream, av.AudioStream) and stream.codec_context.name.startswith("pcm_"):
        # An AVI counts channels and does not name them; mp4 wants names.
        layout = _USUAL_LAYOUTS.get(stream.codec_context.layout.nb_channels)
        if layout is not None:
            stream.codec_context.layout = layout
            copy = output.add_stream_from_template(stream, opaque=False)
            copy.codec_context.layout = layout
            return copy
    return output.add_stream_from_template(stream, opaque=True)
