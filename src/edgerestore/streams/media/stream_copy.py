"""Stream copy: the other streams of a source, added to an output without re-encoding."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition

from ...errors import counted
from .decoded_sound import USUAL_LAYOUTS, DecodedSound, stored_codec
from .encoding import ADVISED
from .frames import Passthrough, VideoInfo
from .rotation import HOLD_MATRIX

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

# What a transport stream has a number for; FFmpeg writes anything else as private data, which
# nothing recognises.
_NUMBERED_IN_TS = {
    *("mpeg1video", "mpeg2video", "mpeg4", "h264", "hevc", "vvc", "cavs", "avs2", "avs3", "dirac"),
    *("vc1", "jpeg2000", "mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus"),
    *("s302m", "dvb_subtitle", "dvb_teletext", "arib_caption"),
    *("hdmv_pgs_subtitle", "hdmv_text_subtitle"),
}


# Their sound would last minutes, or less than a second: FFmpeg's AVI counts them by a size of
# packets that PyAV does not hand on.
_UNTIMED_IN_AVI = ("eac3", "adpcm_")


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
        self._lost: Counter[int] = Counter()
        self._filters: dict[int, BitStreamFilterContext] = {}
        self._decoded: dict[int, DecodedSound] = {}
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
                other = next((one for one, name in ADVISED.items() if _fits(name, stream)), None)
                codec = stored_codec(output, stream)
                _logger.warning(
                    "%s: stream %d (%s) is %s; it does not go into %s%s",
                    where,
                    stream.index,
                    f"{stream.type} {getattr(stream, 'name', None) or ''}".strip(),
                    f"decoded and stored as {codec}" if codec else "left out",
                    f"{Path(str(where)).suffix} as it is" if codec else Path(str(where)).suffix,
                    f", but into {other}" if other else "",
                )
                if codec is None or not isinstance(stream, av.AudioStream):
                    continue
                self._decoded[stream.index] = sound = DecodedSound(output, stream, codec)
                copy: av.stream.Stream = sound.stream
            else:
                copy = _added(output, stream)
                form = _form(output.format.name, stream)
                if form is not None:
                    self._filters[stream.index] = BitStreamFilterContext(form, stream)
            copy.metadata.update(copied_tags(stream.metadata))
            copy.disposition = stream.disposition
            self._streams[stream.index] = copy

    def write(self, item: Passthrough) -> None:
        """Write a packet of a stream that is copied; any other is let go."""
        stream, clock = self._streams.get(item.stream), item.packet.time_base
        if stream is None:
            return
        bitstream, sound = self._filters.get(item.stream), self._decoded.get(item.stream)
        try:
            if sound is not None:
                self._mux_all(sound.packets(item.packet), item.stream)
                return
            for packet in bitstream.filter(item.packet) if bitstream else [item.packet]:
                self._mux(packet, item.stream, stream, clock)
        except (av.error.InvalidDataError, av.error.ArgumentError):
            self._lost[item.stream] += 1

    def finish(self) -> None:
        """Write what decoders hold back; the container is closed next."""
        for index, sound in self._decoded.items():
            self._mux_all(sound.packets(None), index)

    def report(self) -> None:
        """Tell what was changed of the packets."""
        moved = "stood still or ran back in time; moved behind the one before"
        for counts, what in (
            (self._moved, moved),
            (self._lost, "lost; FFmpeg could not write them"),
        ):
            for index, count in counts.items():
                _logger.warning(
                    "%s: stream %d (%s): %s %s",
                    self._where,
                    index,
                    self._streams[index].type,
                    counted(count, "packet"),
                    what,
                )

    def _mux_all(self, packets: Iterable[av.Packet[Any]], index: int) -> None:
        for packet in packets:
            self._mux(packet, index, self._streams[index], packet.time_base)

    def _mux(
        self, packet: av.Packet[Any], index: int, stream: av.stream.Stream, clock: Fraction | None
    ) -> None:
        if clock and stream.time_base:
            by = clock / stream.time_base
            packet.pts, packet.dts = (
                None if one is None else round(one * by) for one in (packet.pts, packet.dts)
            )
            packet.duration = round((packet.duration or 0) * by)
            packet.time_base = stream.time_base
        self._give_time(packet, index, stream)
        packet.stream = stream
        self._output.mux(packet)

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
            # Or an mp4 would end before its last packet.
            if not packet.duration and last is not None and stream.type != "subtitle":
                packet.duration = packet.dts - last
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


def _form(container: str, stream: av.stream.Stream) -> str | None:
    """Return the filter that gives packets the form of a container whose muxer does not.

    AVI has no place for the parameters that mp4 and Matroska keep in the header; transport streams
    repeat those of AAC in each packet, and a muxer of fragments leaves them there.
    """
    codec, context = _codec(stream), stream.codec_context
    if container == "avi" and codec == "h264":
        return "h264_mp4toannexb"
    bare = codec == "aac" and container in HOLD_MATRIX and not context.extradata
    return "aac_adtstoasc" if bare else None


def _codec(stream: av.stream.Stream) -> str | None:
    context = stream.codec_context
    return None if context is None else context.codec.canonical_name


def _fits(container: str, stream: av.stream.Stream) -> bool:
    codec = _codec(stream)
    if container == "mpegts" and codec is not None and codec not in _NUMBERED_IN_TS:
        return False
    if container == "avi" and codec is not None and codec.startswith(_UNTIMED_IN_AVI):
        return False
    if container == "mov" and stream.disposition & Disposition.attached_pic:
        return False  # FFmpeg writes covers into mp4 alone, and says nothing
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


# Where the tag says the pixel format of uncompressed frames, in the same letters.
_PIXELS_BY_TAG = ("avi", "matroska")


def _added(output: av.container.OutputContainer, stream: av.stream.Stream) -> av.stream.Stream:
    """Add a stream like another one."""
    if isinstance(stream, av.AudioStream) and stream.codec_context.name.startswith("pcm_"):
        # An AVI counts channels and does not name them; mp4 wants names.
        layout = USUAL_LAYOUTS.get(stream.codec_context.layout.nb_channels)
        if layout is not None:
            stream.codec_context.layout = layout
            copy = output.add_stream_from_template(stream, opaque=False)
            copy.codec_context.layout = layout
            return copy
    codec = _codec(stream)
    counted_by_size = output.format.name == "avi" and codec in ("aac", "ac3")
    if codec and counted_by_size and isinstance(stream, av.AudioStream):
        # An AVI states a size of its packets, by which an AVI would count time.
        context = stream.codec_context
        sound = output.add_stream(codec, rate=context.sample_rate, layout=context.layout.name)
        if context.extradata:
            sound.codec_context.extradata = context.extradata
        if context.bit_rate:
            sound.codec_context.bit_rate = context.bit_rate
        return sound
    other = output.add_stream_from_template(stream, opaque=True)
    if _codec(stream) == "rawvideo" and output.format.name in _PIXELS_BY_TAG:
        other.codec_context.codec_tag = stream.codec_context.codec_tag
    return other
