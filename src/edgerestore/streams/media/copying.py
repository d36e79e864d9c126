"""The streams beside the video, from one container to another without re-encoding."""

from __future__ import annotations

import io
from collections.abc import Callable

import av

from .facts import VideoFacts
from .frames import Passthrough

__all__ = ["StreamCopier", "copied_tags"]

# What a container writes about itself, or about the stream as it was encoded before.
_STALE = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "bps"}
_STALE_STARTS = ("_statistics_", "number_of_")


class StreamCopier:
    """Adds the other streams to an output and writes their packets, untouched.

    Parameters
    ----------
    output : av.container.OutputContainer
        Its header is not written yet.
    facts : VideoFacts
    audio : bool
        Copy the sound.
    notice : callable
        Told of each stream that the container cannot hold.
    where : object
        The output, for messages.
    """

    def __init__(
        self,
        output: av.container.OutputContainer,
        facts: VideoFacts,
        *,
        audio: bool,
        notice: Callable[[str], None],
        where: object,
    ) -> None:
        self._output = output
        self._streams: dict[int, av.stream.Stream] = {}
        self._last_dts: dict[int, int] = {}
        for stream in facts.others:
            if stream.type == "audio" and not audio:
                continue
            if _is_chapter_track(stream, facts):
                continue
            if not _fits(output.format.name, stream):
                notice(
                    f"{where}: stream {stream.index} ({_describe(stream)}) is left out;"
                    f" a {output.format.name} file cannot hold it"
                )
                continue
            copy = _add(output, stream)
            copy.metadata.update(copied_tags(stream.metadata))
            copy.disposition = stream.disposition
            self._streams[stream.index] = copy

    def write(self, item: Passthrough) -> None:
        """Write a packet of a stream that is copied; any other is let go."""
        stream = self._streams.get(item.stream)
        packet = item.packet
        if stream is None:
            return
        if packet.dts is None:
            packet.dts = packet.pts
        # A container refuses time that stands still or runs back, and the whole job would
        # end for one packet of a damaged sound track.
        if packet.dts is None or packet.dts <= self._last_dts.get(item.stream, packet.dts - 1):
            return
        self._last_dts[item.stream] = packet.dts
        packet.stream = stream
        self._output.mux(packet)


def copied_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags that stay true in another file."""
    return {
        key: value
        for key, value in tags.items()
        if key.lower() not in _STALE and not key.lower().startswith(_STALE_STARTS)
    }


def _add(output: av.container.OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    return output.add_stream_from_template(stream, opaque=True)


def _is_chapter_track(stream: av.stream.Stream, facts: VideoFacts) -> bool:
    # mp4 keeps the chapters' titles in a track, which the output gets anew with its chapters.
    return stream.type == "data" and 0 < stream.frames == len(facts.chapters)


def _fits(container: str, stream: av.stream.Stream) -> bool:
    # Only a header that was written proves it: for some containers and streams FFmpeg
    # answers the question itself wrongly.
    trial = av.open(io.BytesIO(), "w", format=container)
    try:
        _add(trial, stream)
        trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    finally:
        _forget(trial)
    return True


def _forget(container: av.container.OutputContainer) -> None:
    try:
        container.close()
    except (av.error.FFmpegError, ValueError):
        return


def _describe(stream: av.stream.Stream) -> str:
    return f"{stream.type} {getattr(stream, 'name', None) or ''}".strip()
