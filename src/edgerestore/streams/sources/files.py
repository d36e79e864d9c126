"""Source over a video file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from ...errors import SourceError, counted
from ...imaging.arrays import Image
from ...imaging.error_translation import translated
from ...imaging.image_files import check_readable, image_suffixes
from ...imaging.stated_size import MAX_PIXELS, decoder_options, refuse_pixels
from ..media.color import ToRgb, picture_tags, sample_bits, stream_tags
from ..media.deinterlacing import Deinterlacer
from ..media.display import captions_of, display_matrix, letterboxed
from ..media.frames import ColorTags, Frame, Item, Passthrough, VideoInfo, file_address
from ..media.hdr import HdrMetadata, hdr_metadata
from .file_clock import FileClock, shift
from .h264 import joined

__all__ = ["VideoFileSource"]

_logger = logging.getLogger(__name__)


_GIF_LOOPS = b"NETSCAPE2.0\x03\x01"


def _loops_of(path: Path) -> int:
    """Return how often a GIF is repeated, as FFmpeg's muxer takes it: -1 never, 0 for ever."""
    _, found, rest = path.read_bytes().partition(_GIF_LOOPS)
    return int.from_bytes(rest[:2], "little") if found else -1


# Of files of the ISO format that hold one picture: HEIC and AVIF.
_PICTURE_BRANDS = ("avif", "heic", "heim", "heis", "heix", "mif1", "mif2")

# More than stands between two packets of a Matroska file.
_LARGEST_HEADER = 1024
# Frames after a hole that may come out of order or want a reference.
_NEAR = 32

# Frames without a time that are held until one has it.
_MOST_EARLY = 32

# Reading goes on behind a damaged place; this many failures in a row mean the end.
_FAILURES_IN_A_ROW = 64


class VideoFileSource:
    """`Source` over a video file that FFmpeg can open.

    The first frame is decoded by the constructor, so a file without one fails there.

    Parameters
    ----------
    path : Path
    threads : int
        Threads that decode.
    keep_gaps : bool
        Pauses of the whole file are kept where its clock may jump (`FileClock`).
    deinterlace : bool
        Interlaced pictures become whole ones.
    max_pixels : int or None
        Larger pictures are not decoded.

    Raises
    ------
    SourceError
        When the file is missing, empty, no video, or holds no frame that can be decoded.
    """

    live = interruptible = False

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        keep_gaps: bool = False,
        deinterlace: bool = True,
        max_pixels: int | None = MAX_PIXELS,
    ) -> None:
        self.lost: Counter[str] = Counter()
        self.expected_frames: int | None = None
        self._path = path
        if path.is_file() and path.stat().st_size == 0:
            raise SourceError(f"{path}: is empty; check the file")
        check_readable(path)
        with translated(SourceError, path):
            self._container = av.open(file_address(path), metadata_errors="replace")
        try:
            self._refuse_picture()
            self._video = self._choose()
            self._video.thread_type = "AUTO"
            context = self._video.codec_context
            context.thread_count = threads
            refuse_pixels(context.width, context.height, path, max_pixels)
            context.options = decoder_options(max_pixels)
            self._packets_read = 0
            self._end_s = Fraction(0)
            self._clock = FileClock(self._container, keep_gaps=keep_gaps)
            self._deinterlacer = Deinterlacer(self._time_base) if deinterlace else None
            self._noted: Counter[str] = Counter()
            self._hdr: HdrMetadata | None = None
            self._size: tuple[int, int] | None = None
            self._bits = 8
            self._looks: tuple[ColorTags, Fraction | None] | None = None
            self._last_pts: int | None = None
            self._matrix: tuple[int, ...] | None = None
            self._info: VideoInfo | None = None
            self._repaired = 0
            self._early: list[Frame] = []
            self._lead_s = Fraction(0)
            self._first_dts: int | None = None
            self._shown: int | None = None
            self._behind: int | None = None
            self._near_hole = 0
            self._in_order = self._container.format.name == "avi"
            # Only these two list every packet up front, and so betray a file that was cut off.
            name = self._container.format.name
            indexed = len(self._video.index_entries) if "mov" in name or "avi" in name else 0
            self._expected_packets = indexed or None
            self._tags = stream_tags(self._video)
            self._to_rgb = ToRgb(self._tags, self._video.codec_context.name)
            self._items = self._read()
            self._head, first = self._take_first()
            self._info = self.info = self._look_at(first)
            self._head.append(replace(first, info=self.info))
        except BaseException:
            self._container.close()
            raise

    def __iter__(self) -> Iterator[Item]:
        """Yield what is left, as the protocol says."""
        while self._head:
            yield self._head.pop(0)
        with translated(SourceError, self._path):
            yield from self._items

    def close(self) -> None:
        """Close the file."""
        self._items.close()
        self._container.close()

    @property
    def _has_lengths(self) -> bool:
        """Whether units of H.264 bring their lengths, instead of start codes between them."""
        return (self._video.codec_context.extradata or b"")[:1] == b"\1"

    def _refuse_picture(self) -> None:
        """Refuse a picture under a name that is no picture's: FFmpeg reads some of them wrong."""
        name = self._container.format.name
        brand = self._container.metadata.get("major_brand", "")
        if name == "image2" or name.endswith("_pipe") or brand in _PICTURE_BRANDS:
            what = brand if brand in _PICTURE_BRANDS else name.removesuffix("_pipe")
            raise SourceError(
                f"{self._path}: is a picture ({what}) whose name does not say so; name it by its"
                f" format, one of {' '.join(sorted(image_suffixes()))}"
            )

    def _choose(self) -> av.VideoStream:
        streams = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
        ]
        if not streams:
            raise SourceError(f"{self._path}: holds no video; check the file")
        chosen = next((one for one in streams if one.disposition & Disposition.default), streams[0])
        if chosen.codec_context is None:
            raise SourceError(f"{self._path}: nothing here decodes its video; convert it first")
        if len(streams) > 1:
            _logger.info(
                "%s: holds %d video streams; number %d is restored, the others are copied",
                self._path,
                len(streams),
                chosen.index,
            )
        return chosen

    def _missing_at_end(self, video_end_s: Fraction) -> int:
        """Return how many frames the file promised and does not hold."""
        if self._expected_packets is not None:
            return self._expected_packets - self._packets_read
        promised = self._container.duration
        if promised is None or promised < 0 or self._clock.jumps:
            return 0
        rate = self._video.guessed_rate or Fraction(25)
        # Sound behind a hole may reach the end where pictures do not.
        ended_s = video_end_s if self._near_hole else self._end_s
        missing_s = self._clock.end_s(promised) - ended_s
        # Half a second: streams seldom end together, and headers round.
        return round(missing_s * rate) if missing_s > Fraction(1, 2) else 0

    def _take_first(self) -> tuple[list[Item], Frame]:
        """Return the first frame, and the packets before it."""
        before: list[Item] = []
        with translated(SourceError, self._path):
            for item in self._items:
                if isinstance(item, Frame):
                    for one in before:
                        if isinstance(one, Passthrough):
                            shift(one.packet, self._lead_s)
                    return before, item
                before.append(item)
        raise SourceError(f"{self._path}: no frame of its video can be decoded; check the file")

    def _look_at(self, first: Frame) -> VideoInfo:
        video, container = self._video, self._container
        context = video.codec_context
        rate = video.guessed_rate or video.average_rate or Fraction(25)
        # What an edit list leaves out is decoded and not shown.
        indexed = video.index_entries if self._expected_packets else ()
        shown = sum(not entry.is_discard for entry in indexed)
        self.expected_frames = shown or video.frames or None
        if self.expected_frames is None and container.duration:
            ends_s = self._clock.end_s(container.duration)
            self.expected_frames = max(1, round((ends_s - first.pts * first.time_base) * rate))
        height, width = first.image.shape[:2]
        pix_fmt = av.VideoFormat(context.pix_fmt or "yuv420p")
        # VP8 and VP9 keep it beside the picture, and only the tag says so.
        hidden = {"alpha_mode", "ALPHA_MODE"} & video.metadata.keys()
        if hidden or any(part.is_alpha for part in pix_fmt.components):
            _logger.warning("%s: its transparency is left out", self._path)
        return VideoInfo(
            width=width,
            height=height,
            time_base=self._time_base,
            rate=rate,
            bits=sample_bits(pix_fmt),
            color=self._tags,
            sample_aspect_ratio=video.sample_aspect_ratio,
            display_matrix=self._matrix,
            hdr=self._hdr,
            metadata=dict(container.metadata),
            loops=_loops_of(self._path) if container.format.name == "gif" else None,
            stream_metadata=dict(video.metadata),
            disposition=int(video.disposition),
            chapters=tuple(dict(one) for one in container.chapters()),
            others=tuple(one for one in container.streams if one.index != video.index),
            covers={  # FFmpeg hands these out first
                item.stream: bytes(item.packet)
                for item in self._head
                if isinstance(item, Passthrough)
                and item.packet.stream.disposition & Disposition.attached_pic
            },
        )

    @property
    def _time_base(self) -> Fraction:
        return self._video.time_base or Fraction(1, 90_000)

    def _read(self) -> Generator[Item, None, None]:
        # A frame lasts until the next one: what mp4 says is in decoding order, and wrong
        # for a frame that is shown in another. So each waits for its successor.
        waiting: Frame | None = None
        packets = self._packets()
        if self._video.codec_context.name == "h264" and not self._has_lengths:
            packets = joined(packets, self._video.index)
        for packet in packets:
            # One that was joined has no stream.
            if packet.stream is not None and packet.stream.index != self._video.index:
                if packet.size:
                    yield Passthrough(packet, packet.stream.index)
                continue
            for frame in self._decode(packet):
                if waiting is not None:
                    lasts = frame.pts - waiting.pts
                    self._count_hole(lasts)
                    yield replace(waiting, duration=lasts, info=self._info)
                waiting = frame
        ended = 0
        if waiting is not None:
            ended = waiting.pts + self._usual_duration
            yield replace(waiting, duration=self._last_duration(waiting), info=self._info)
        self._report_end(ended * self._time_base)

    def _last_duration(self, frame: Frame) -> int:
        start, duration = self._video.start_time, self._video.duration
        if start is not None and duration is not None and not self._clock.jumps:
            clock = self._time_base
            left = round(self._clock.place_s((start + duration) * clock) / clock) - frame.pts
            if left > 0:
                return left
        return frame.duration

    def _packets(self) -> Iterator[av.Packet[Any]]:
        """Yield every packet, going on behind places that cannot be read."""
        failures = 0
        while True:
            try:
                for packet in self._container.demux():
                    failures = 0
                    self._look_for_hole(packet)
                    self._clock.set(packet)
                    if packet.pts is not None and packet.time_base is not None:
                        ends = (packet.pts + (packet.duration or 0)) * packet.time_base
                        self._end_s = max(self._end_s, ends)
                    yield packet
                return
            except av.error.InvalidDataError:
                failures += 1
                if failures == 1:
                    self.lost["damaged place in the file"] += 1
                if failures >= _FAILURES_IN_A_ROW:
                    flush: av.Packet[Any] = av.Packet()
                    flush.stream, flush.time_base = self._video, self._time_base
                    yield flush
                    return

    def _look_for_hole(self, packet: av.Packet[Any]) -> None:
        """Note where FFmpeg skipped bytes of a Matroska file, which it does without a word."""
        if packet.pos is None or not packet.size or "matroska" not in self._container.format.name:
            return
        if self._behind is not None and packet.pos - self._behind > _LARGEST_HEADER:
            self._near_hole = _NEAR
        self._behind = max(self._behind or 0, packet.pos + packet.size)

    def _count_hole(self, lasts: int) -> None:
        """Count the frames that a hole swallowed, by the times of those around it."""
        if self._near_hole:
            self._near_hole -= 1
            missing = round(lasts / self._usual_duration) - 1
            if missing > 0:
                self.lost["damaged place in the file"] += missing

    def _decode(self, packet: av.Packet[Any]) -> Iterator[Frame]:
        if packet.size:
            self._packets_read += 1
        try:
            pictures = self._video.decode(packet if packet.size else None)
        except av.error.EOFError:
            return
        except (av.error.InvalidDataError, av.error.PatchWelcomeError):
            self.lost["broken packet"] += 1
            return
        for picture in self._whole_pictures(pictures, last=not packet.size):
            frame = Frame(
                self._fitted(self._to_rgb(picture)),
                0,
                self._time_base,
                picture.duration or 0,
                captions=captions_of(picture),
            )
            yield from self._stamped(frame, picture.pts)
        if not packet.size:
            yield from self._placed_early(0)

    def _whole_pictures(
        self, pictures: Sequence[av.VideoFrame], *, last: bool
    ) -> Iterator[av.VideoFrame]:
        """Yield the decoded pictures, deinterlaced, and note what they bring besides."""
        for picture in pictures:
            self._note(picture)
            if self._in_order:
                picture.pts = self._shown_at(picture)
            if self._deinterlacer is None:
                yield picture
            else:
                yield from self._deinterlacer(picture)
        if last and self._deinterlacer is not None:
            yield from self._deinterlacer.flush()

    def _note(self, picture: av.VideoFrame) -> None:
        size, bits = (picture.width, picture.height), sample_bits(picture.format)
        if self._size is None:
            self._size, self._bits = size, bits
            self._matrix, self._hdr = display_matrix(picture), hdr_metadata(picture)
            self._tags = stream_tags(self._video, picture)
            self._to_rgb = ToRgb(self._tags, self._video.codec_context.name)
        if size != self._size:
            here, first = ("x".join(map(str, one)) for one in (size, self._size))
            line = f"of {here} pixels; scaled to {first}, the size of the first, with black bars"
            self._noted[line] += 1
        if bits > self._bits:
            self._noted[f"of {bits} bits a sample; written as the first, of {self._bits}"] += 1
        looks = picture_tags(picture), self._video.codec_context.sample_aspect_ratio
        self._looks = self._looks or looks
        if looks[0] != self._looks[0]:
            self._noted["with other colour tags; taken for and tagged as the first"] += 1
        if looks[1] and self._looks[1] and looks[1] != self._looks[1]:
            self._noted["with pixels of another shape; the first one's is kept"] += 1
        if picture.is_corrupt:
            self._noted["damaged: a part of each is missing; restored as they are"] += 1
        if self._deinterlacer is None and picture.interlaced_frame:
            self._noted["interlaced; restored as they are, and marked progressive"] += 1

    def _fitted(self, image: Image) -> Image:
        """Return a picture in the size of the first one, its proportions as they are shown."""
        if self._size is None or image.shape[1::-1] == self._size:
            return image
        own, first = self._video.codec_context.sample_aspect_ratio, (self._looks or (None, None))[1]
        return letterboxed(image, *self._size, float((own or 1) / (first or 1)))

    def _shown_at(self, picture: av.VideoFrame) -> int | None:
        """Return the time of a picture in a file that has the times of decoding alone."""
        if self._first_dts is None:
            self._first_dts = picture.dts
        if picture.dts is None or self._first_dts is None:  # held back until the end
            shown = None if self._shown is None else self._shown + self._usual_duration
        else:
            shown = picture.dts - self._first_dts
        self._shown = shown
        return shown

    def _stamped(self, frame: Frame, pts: int | None) -> Iterator[Frame]:
        """Yield a frame with a timestamp later than the last, its own where it has one."""
        last = self._last_pts
        if pts is None and last is None:
            # The first time that is known decides.
            self._early.append(frame)
            if len(self._early) == _MOST_EARLY:
                yield from self._placed_early(0)
            return
        if self._early and pts is not None:
            lead = len(self._early) * self._usual_duration
            moved = max(0, lead - pts)
            self._lead_s = moved * self._time_base
            self._clock.shift(self._lead_s)
            pts += moved
            yield from self._placed_early(pts - lead)
            last = self._last_pts
        if pts is None:
            pts = (last or 0) + self._usual_duration
            self._repaired += 1
        elif last is not None and pts <= last:
            pts = last + 1
            self._repaired += 1
        self._last_pts = pts
        yield replace(frame, pts=pts)

    def _placed_early(self, first: int) -> Iterator[Frame]:
        """Yield the frames before the first time that is known, from a timestamp on."""
        early, self._early = self._early, []
        for index, frame in enumerate(early):
            self._last_pts = first + index * self._usual_duration
            self._repaired += 1
            yield replace(frame, pts=self._last_pts)

    @property
    def _usual_duration(self) -> int:
        rate = self._video.guessed_rate or Fraction(25)
        return max(1, round(1 / (rate * self._time_base)))

    def _report_end(self, video_end_s: Fraction) -> None:
        missing = self._missing_at_end(video_end_s)
        if missing > 0:
            cause = "damaged place in the file" if self._near_hole else "file cut off"
            self.lost[cause] += missing
        self._clock.report(self._path)
        if self._repaired:
            _logger.warning(
                "%s: %s had no usable time; it was filled in",
                self._path,
                counted(self._repaired, "frame"),
            )
        if self._deinterlacer is not None and self._deinterlacer.count:
            self._noted["interlaced; deinterlaced (--deinterlace off keeps them)"] += (
                self._deinterlacer.count
            )
        for note, count in self._noted.items():
            _logger.warning("%s: %s %s", self._path, counted(count, "frame"), note)
        for cause, count in self.lost.items():
            _logger.warning(
                "%s: %s lost (%s); went on behind", self._path, counted(count, "frame"), cause
            )
