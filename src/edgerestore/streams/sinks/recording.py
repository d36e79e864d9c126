"""Recording of a live stream into video files, segmented and crash-safe."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av

from ...bundle.locks import lock_if_free
from ...errors import ArgumentError, SinkError
from ...imaging.error_translation import translated
from ..events import EventKind
from ..media.encoding import info_of, stream_kind
from ..media.frames import Frame, Item, Passthrough, VideoInfo, file_address
from ..media.stream_copy import is_chapter_track
from ..options import SinkOptions
from .files import VideoFileSink, check_video_file
from .partial_file import free_name

__all__ = ["RecordingNames", "RecordingSink", "recover_partial", "recover_partials"]

_logger = logging.getLogger(__name__)

# Between the creation of a partial file and its lock lies a moment.
_JUST_CREATED_S = 5.0


class RecordingNames:
    """Numbered file names ``name-0001.mp4``, ``name-0002.mp4``, ...; none that is taken.

    Parameters
    ----------
    output : Path
        ``name.mp4``.
    first : int
        The lowest number.
    """

    def __init__(self, output: Path, first: int = 1) -> None:
        self._output = output
        taken = [first - 1]
        numbered = re.compile(
            rf"\.?{re.escape(output.stem)}-(\d{{4,9}})(\..*)?{re.escape(output.suffix)}"
        )
        with translated(SinkError, output):
            for name in os.listdir(output.parent):  # noqa: PTH208 - names are all it takes
                found = numbered.fullmatch(name)
                if found is not None:
                    taken.append(int(found[1]))
        self._last = max(taken)

    def next(self) -> Path:
        """Return the next name."""
        folder, stem, suffix = self._output.parent, self._output.stem, self._output.suffix
        while True:
            self._last += 1
            path = folder / f"{stem}-{self._last:04}{suffix}"
            # Another process may be writing the file of this number.
            partial = f".{glob.escape(path.stem)}.part-*{glob.escape(suffix)}"
            if not path.exists() and not any(folder.glob(partial)):
                return path


def recover_partials(output: Path) -> list[Path]:
    """Rename the unfinished files of a killed recording, as far as they play.

    Files that a living process is still writing are left alone. What is kept or removed is
    logged.

    Parameters
    ----------
    output : Path
        What the recording was called, ``name.mp4``; its numbered files are looked for too.

    Returns
    -------
    list of Path
        What was kept, as ``name.recovered.mp4`` or ``name-0003.recovered.mp4``.
    """
    unfinished = re.compile(
        rf"\.{re.escape(output.stem)}(-\d{{4,9}})?\.part-[0-9a-f]{{8}}{re.escape(output.suffix)}"
    )
    if not output.parent.is_dir():
        return []
    with translated(SinkError, output):
        found = sorted(p for p in output.parent.iterdir() if unfinished.fullmatch(p.name))
    kept = [recover_partial(partial) for partial in found if not _just_created(partial)]
    return [path for path in kept if path is not None]


def recover_partial(partial: Path) -> Path | None:
    """Do as `recover_partials`, for one unfinished file. Never raises for what it holds."""
    cannot = "%s: an unfinished recording that cannot be %s"
    try:
        lock = lock_if_free(partial)
    except OSError as error:
        _logger.warning(cannot, partial, f"opened ({error.strerror})")
        return None
    if lock is None:
        return None
    try:
        plays = _plays(partial)
        if plays:
            stem = partial.name[1:].rpartition(".part-")[0]
            name = free_name(partial.with_name(stem + partial.suffix), "recovered")
            partial.rename(name)
        elif plays is None:
            _logger.warning(cannot, partial, "read now; left alone")
        else:
            partial.unlink()
            removed = "%s: removed; an unfinished recording without a frame that plays"
            _logger.warning(removed, partial)
    except OSError as error:
        _logger.warning(cannot, partial, f"moved ({error.strerror})")
        return None
    finally:
        os.close(lock)
    if not plays:
        return None
    _logger.warning("%s: recovered; the recording ended without being finished", name)
    return name


def _just_created(partial: Path) -> bool:
    try:
        state = partial.stat()
    except OSError:
        return False
    return state.st_size == 0 and time.time() - state.st_mtime < _JUST_CREATED_S


def _plays(path: Path) -> bool | None:
    """Return whether any frame can be decoded; None where the file cannot be read at all."""
    try:
        with av.open(file_address(path), metadata_errors="replace") as container:
            if not container.streams.video:
                return False
            for packet in container.demux(video=0):
                # A damaged place is followed by what plays.
                with contextlib.suppress(av.error.FFmpegError):
                    if packet.decode():
                        return True
    except (av.error.InvalidDataError, av.error.EOFError):
        return False
    except av.error.FFmpegError:
        return None
    return False


# How finely a player can seek.
_KEY_FRAMES_S = 2.0
# mp4 and its kin: in fragments while it is written, so that what stands there plays; turned
# into a regular, seekable file by its end, without writing it a second time. The header waits
# for the first fragment, because only then does it know the delay of reordered frames.
# Matroska: a cluster a second. Everything goes to the system as soon as it is there.
_CONTAINER = {
    "movflags": "hybrid_fragmented+delay_moov+default_base_moof",
    "frag_duration": "1000000",
    "cluster_time_limit": "1000",
    "flush_packets": "1",
}
# The index of these is held in memory until the file ends, some 200 MB a day at 25 frames a
# second; so a recording of weeks goes on in another file now and then.
_INDEXED = (".mp4", ".m4v", ".mov")
_LONGEST_INDEXED_S = 12 * 3600
# A frame before a gap lasts until the next one, but no segment is drawn out by a longer gap.
_LONGEST_GAP_S = 1

# A length in seconds that is no binary fraction is meant as it is written.
_FINEST = 1_000_000


@dataclass
class _Part:
    """File of a recording: where it begins in the stream, and for what kind of frames."""

    sink: VideoFileSink
    path: Path
    start_s: Fraction
    ends_s: Fraction | None
    kind: tuple[object, ...]
    frames: int = 0


class RecordingSink:
    """`Sink` that records a live stream into one file, or one after the other.

    Every file begins with a key frame at time 0. It is written beside its name and gets it
    when it is finished; until then what is written plays too (`recover_partials`), but for
    the last second or two. A new file is begun where a segment is full, and where the frames'
    size, clock or colours change. An mp4 or mov of twelve hours is followed by another one.

    `close` and `abort` both finish the running file: a recording is worth keeping, whatever
    ended the stream. One that cannot be finished (a full disk) is kept as far as it plays, as
    ``name.recovered.mp4``. A stream without a frame leaves no file, and that is no error.

    Parameters
    ----------
    output : Path
        ``name.mp4``; or ``name.mkv``, ...
    options : SinkOptions
        With ``segment_s``, the length of a file, counted from the first frame of the stream,
        files are called ``name-0001.mp4`` and so on, after the numbers that exist already.
        Without, all goes into ``name.mp4``, and what has to go elsewhere into
        ``name-0002.mp4`` and so on. ``overwrite`` replaces ``name.mp4``; numbered files are
        never replaced. ``log`` receives each file after the first.

    Attributes
    ----------
    files : list of Path
        What was begun, in order.

    Raises
    ------
    SinkError
    ArgumentError
        For a ``segment_s`` that is no length.
    """

    skips = False
    wants_original = False

    def __init__(self, output: Path, options: SinkOptions) -> None:
        self.files: list[Path] = []
        self._output = output
        self._options = options
        segment_s = options.segment_s
        self._numbered = segment_s is not None
        if segment_s is not None and not 1 / _FINEST <= segment_s < float("inf"):
            raise ArgumentError(f"a segment lasts some seconds, got {segment_s!r}")
        if segment_s is None and output.suffix.lower() in _INDEXED:
            segment_s = _LONGEST_INDEXED_S
        self._segment_s = (
            None if segment_s is None else Fraction(segment_s).limit_denominator(_FINEST)
        )
        self._check()
        self._names = RecordingNames(output, 1 if self._numbered else 2)
        self._origin_s: Fraction | None = None
        self._part: _Part | None = None
        self._held: Frame | None = None
        self._early: list[Passthrough] = []  # of a file that is not begun yet
        self._closing = False
        self._last_duration = 0
        # On a thread: a slow disk would hold up the frames of the next file.
        self._finisher = ThreadPoolExecutor(1, thread_name_prefix="edgerestore-finish")
        self._finishing: list[Future[None]] = []

    def write(self, item: Item) -> None:
        """Take a frame, which is encoded when the next one tells how long it lasts."""
        self._check_finished()
        if isinstance(item, Passthrough):
            self._hand_through(item)
            return
        held, self._held = self._held, None
        if held is not None:
            self._encode(held, item)
        self._held = item

    def close(self) -> None:
        """Finish the running file."""
        held, self._held = self._held, None
        try:
            if held is not None:
                self._encode(held, None)
            self._closing = True
            self._hand_early()
        finally:
            self._end_part()
            self._finisher.shutdown()
        self._check_finished()

    def abort(self) -> None:
        """Finish the running file, as far as that is possible. Never raises."""
        try:
            self.close()
        except Exception as error:
            _logger.warning("%s: the recording ended unfinished (%s)", self._output, error)

    def _check(self) -> None:
        """Refuse what can be refused before there is a frame."""
        overwrite = self._options.overwrite or self._numbered
        check_video_file(self._output, replace(self._options, overwrite=overwrite))

    def _encode(self, frame: Frame, follows: Frame | None) -> None:
        clock = frame.time_base
        at_s = frame.pts * clock
        duration = frame.duration or self._last_duration
        if follows is not None:
            duration = round((follows.pts * follows.time_base - at_s) / clock)
        part = self._part_for(replace(frame, duration=duration), at_s)
        if part.ends_s is not None and at_s + duration * clock > part.ends_s + _LONGEST_GAP_S:
            duration = max(1, round((part.ends_s - at_s) / clock))
        pts = round((at_s - part.start_s) / clock)
        part.sink.write(replace(frame, pts=pts, duration=duration))
        part.frames += 1
        self._last_duration = duration

    def _part_for(self, frame: Frame, at_s: Fraction) -> _Part:
        info = info_of(frame)
        kind = (*stream_kind(frame, info), frame.time_base, info.others)
        part = self._part
        if part is None:
            return self._begin(info, kind, at_s)
        if part.kind != kind:
            self._end_part()
            return self._begin(info, kind, at_s, "changed")
        if part.ends_s is not None and at_s >= part.ends_s:
            self._end_part()
            return self._begin(info, kind, at_s, "segment")
        return part

    def _begin(
        self, info: VideoInfo, kind: tuple[object, ...], at_s: Fraction, cause: str = ""
    ) -> _Part:
        self._check_finished()
        alone = not self._numbered and not self.files
        if not alone:  # the times of chapters are those of the whole
            others = tuple(one for one in info.others if not is_chapter_track(one, info))
            info = replace(info, chapters=(), others=others)
        path = self._output if alone else self._names.next()
        sink = VideoFileSink(
            path,
            info,
            replace(self._options, overwrite=self._options.overwrite and alone),
            key_frames_s=_KEY_FRAMES_S,
            container_options=_CONTAINER,
            even=True,  # a stream that runs for weeks does not end for an odd line of its picture
        )
        self._part = _Part(sink, path, at_s, self._bound_after(at_s), kind)
        self.files.append(path)
        log = self._options.log
        if cause and log is not None:
            log.record(EventKind.OUTPUT, f"recording goes on in {path}", cause, path=str(path))
        for stream, picture in info.covers.items():  # each file has them
            sink.write(Passthrough(av.Packet(picture), stream))
        self._hand_early()
        return self._part

    def _hand_early(self) -> None:
        early, self._early = self._early, []
        for item in early if self._part is not None else ():
            self._hand_through(item)

    def _bound_after(self, at_s: Fraction) -> Fraction | None:
        if self._origin_s is None:
            self._origin_s = at_s
        if self._segment_s is None:
            return None
        # Counted from the stream's first frame, so that no rounding adds up.
        full = (at_s - self._origin_s) // self._segment_s
        return self._origin_s + (full + 1) * self._segment_s

    def _hand_through(self, item: Passthrough) -> None:
        part, packet = self._part, item.packet
        if packet.pts is None or packet.time_base is None:
            return
        ends_s = None if part is None or self._closing else part.ends_s
        if part is None or (ends_s is not None and packet.pts * packet.time_base >= ends_s):
            self._early.append(item)  # packets come before the frames that are decoded meanwhile
            return
        start = round(part.start_s / packet.time_base)
        if packet.pts < start:
            return
        packet.pts -= start
        if packet.dts is not None:
            packet.dts -= start
        part.sink.write(item)

    def _end_part(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            wait(self._finishing)
            self._finishing.append(self._finisher.submit(self._finish, part))

    def _check_finished(self) -> None:
        """Raise the first failure of files that are done since the last check."""
        done = [one for one in self._finishing if one.done()]
        self._finishing = [one for one in self._finishing if one not in done]
        for one in done:
            one.result()

    def _finish(self, part: _Part) -> None:
        if not part.frames:
            part.sink.abort()
            return
        try:
            part.sink.close()
        except BaseException:
            recover_partial(part.sink.leave())
            raise
