"""Translation of the errors of PyAV, OpenCV and the system into ours, at one place."""

from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from logging import CRITICAL, ERROR, LogRecord, NullHandler, getLogger
from pathlib import Path
from traceback import walk_tb

import cv2
from av import codecs_available, formats_available, logging
from av import error as _av

from ..errors import EdgerestoreError, SinkError, SourceError, first_line

__all__ = ["ROWS", "held_back", "listened", "silenced", "translate", "translated"]

_OURS = __name__.partition(".")[0] + "."
_NETWORK = "the connection failed; check the address and the network"
_SETTINGS = "its settings were refused; check --codec, --crf, --preset, --pix-fmt, or use .mkv"
_ENCODER = "its settings were refused; check --codec, --crf, --preset, --pix-fmt"
_CONTAINER = "the container refused it; use another file extension or --codec"
_MEMORY = "does not fit into memory; use a smaller picture"
_LATE = "did not answer in time; check that it is on", "did not answer in time"
_VARIANT = (
    "FFmpeg cannot read this variant; convert it first",
    "FFmpeg cannot write this; choose another --codec",
)
_PARENT = "a part of the path is a file; check the path"
_DAMAGED = "is damaged; check the file"

# PyAV's errors are also Python's of the same name. Each row stands before every row of a base of
# its error; a test holds us to it.
ROWS: dict[type[BaseException], tuple[str, str]] = {
    _av.HTTPUnauthorizedError: ("the server wants a login; put it in the address", _NETWORK),
    _av.HTTPForbiddenError: ("the server refuses access; check the login", _NETWORK),
    _av.HTTPNotFoundError: ("the server has no such address; check it", _NETWORK),
    _av.HTTPTooManyRequestsError: ("the server wants fewer requests; wait", _NETWORK),
    _av.HTTPClientError: ("the server refuses the request; check the address", _NETWORK),
    _av.HTTPServerError: ("the server failed; try again later", _NETWORK),
    _av.HTTPError: ("the server answered with an error; check the address", _NETWORK),
    _av.DecoderNotFoundError: ("nothing here decodes it; convert it first", "no such codec"),
    _av.EncoderNotFoundError: ("no such encoder", "no such encoder; choose another --codec"),
    _av.DemuxerNotFoundError: ("the file format is not known; convert it first", "no such format"),
    _av.MuxerNotFoundError: ("no such format", "the file format is not known; use .mp4 or .mkv"),
    _av.ProtocolNotFoundError: ("this kind of address is not known; use a file", "use a file"),
    _av.OptionNotFoundError: ("an option is not known", "the encoder has no such option"),
    _av.LookupError: (
        "a part of FFmpeg is missing; convert the file first",
        "choose another --codec",
    ),
    _av.InvalidDataError: (
        "is not a picture or video, or is damaged; check the file",
        "the container refused the data; choose another file extension or --codec",
    ),
    _av.EOFError: ("ends before its first frame; check the file", "the output ended early"),
    FileNotFoundError: ("is not there; check the path", "its folder is not there; create it"),
    PermissionError: (
        "may not be read; check its permissions",
        "may not be written; check the folder's permissions",
    ),
    IsADirectoryError: ("is a folder; name a file", "is a folder; name a file"),
    NotADirectoryError: (_PARENT, _PARENT),
    FileExistsError: ("exists", "exists; add --overwrite or choose another name"),
    TimeoutError: _LATE,
    # What a time-out of PyAV's own ends with.
    _av.ExitError: _LATE,
    BrokenPipeError: (_NETWORK, "nobody reads the output any more"),
    ConnectionError: (_NETWORK, _NETWORK),
    BlockingIOError: ("has no data yet; try again", "is busy; try again"),
    InterruptedError: ("reading was interrupted; try again", "writing was interrupted; try again"),
    MemoryError: (_MEMORY, _MEMORY),
    _av.ExperimentalError: (
        "needs an experimental decoder; convert it first",
        "the encoder is experimental; choose another --codec",
    ),
    _av.ExternalError: ("the decoder's library failed; convert the file first", _SETTINGS),
    _av.ArgumentError: ("FFmpeg refused it; check the file", _SETTINGS),
    _av.NotImplementedError: _VARIANT,
    _av.PatchWelcomeError: _VARIANT,
    OSError: ("cannot be read; check the disk", "cannot be written; check the disk"),
    _av.FFmpegError: ("FFmpeg failed; check the file", "FFmpeg failed; choose another --codec"),
    cv2.error: (
        "OpenCV cannot read it; check the file",
        "OpenCV cannot write it; choose another extension",
    ),
}
"""Error of a library -> the message in its place where something is read, and is written."""

# The cause that a number tells better than a class does.
_BY_NUMBER = {
    errno.ENOSPC: "the disk is full; free some space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up; free some space or write elsewhere",
    errno.EFBIG: "the file grew past the largest size allowed here; write elsewhere",
    errno.EROFS: "the disk is read-only; write elsewhere",
    errno.EIO: "the disk failed; check it",
    errno.ENOMEM: _MEMORY,
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "the name is too long; shorten it",
}


def translate(
    error: BaseException, kind: type[EdgerestoreError], where: object
) -> EdgerestoreError | None:
    """Return the error of ours for an error of a library.

    Parameters
    ----------
    error : BaseException
    kind : type
        `SourceError` or `SinkError`.
    where : object
        The file or address, for the message.

    Returns
    -------
    EdgerestoreError or None
        ``None`` where the error is no library's: a mistake of ours, to surface as it is.
    """
    row = next((row for kind_, row in ROWS.items() if isinstance(error, kind_)), None)
    if row is None:
        if not _raised_by_library(error):
            return None
        said = f"{type(error).__name__}: {first_line(error)}"
        check = "choose another --codec" if issubclass(kind, SinkError) else "check the file"
        return kind(f"{where}: FFmpeg's binding failed ({said}); {check}")
    number = getattr(error, "errno", None)
    advice = _BY_NUMBER.get(number) if isinstance(number, int) else None
    if isinstance(error, _av.FFmpegError):
        advice = _of_ffmpeg(error, where, writes=issubclass(kind, SinkError)) or advice
    if advice is None:
        who, said = _said(error)
        line = row[issubclass(kind, SinkError)]
        if issubclass(kind, SinkError) and who in codecs_available:
            line = _ENCODER
        elif issubclass(kind, SinkError) and who in formats_available:
            line = _CONTAINER
        what, _, then = line.partition("; ")
        advice = f"{what} ({said})" if said else what
        if then:
            advice += f"; {then}"
        if str(where).lower().endswith(".mkv"):
            advice = advice.removesuffix(", or use .mkv")
    return kind(f"{where}: {advice}")


def _of_ffmpeg(error: _av.FFmpegError, where: object, *, writes: bool) -> str | None:
    """Return what an error of FFmpeg means where its number is that of another cause."""
    if not writes and error.errno == errno.EIO and _reads_to_its_end(Path(str(where))):
        return _DAMAGED  # its readers of Matroska and others say so of nonsense
    if not writes and error.errno == errno.EBUSY:
        return "its header is of no picture that there can be; check the file"
    # Libraries that encode say nothing of why; what is refused for its value, they log.
    unsaid = isinstance(error, _av.ExternalError) and not _said(error)[1]
    return _MEMORY if writes and unsaid and not _has_memory() else None


def _reads_to_its_end(path: Path) -> bool:
    """Return whether the disk gives a file's bytes; the first GiB of them is enough to ask for."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            for _ in range(64):
                file.read(1 << 24)
    except OSError:
        return False
    return True


def _has_memory() -> bool:
    """Return whether as much address space as an encoder takes for large frames is left."""
    try:
        mmap.mmap(-1, 1 << 29).close()
    except (OSError, MemoryError, ValueError):
        return False
    return True


def _said(error: BaseException) -> tuple[str, str]:
    """Return who of FFmpeg spoke of an error, and its line, where it was listened to."""
    _, who, line = getattr(error, "log", None) or (0, "", "")
    return who, " ".join(f"{who}: {line}".removeprefix(": ").rstrip(" .\n:").split())


def _raised_by_library(error: BaseException) -> bool:
    """Return whether PyAV raised an error: no code of ours ran between its call and the error."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    inner = takewhile(
        lambda frame: not frame.f_globals.get("__name__", "").startswith(_OURS), reversed(frames)
    )
    # Frames of compiled modules have no globals, but the path of their source in the package.
    return any("av" in Path(frame.f_code.co_filename).parts[:-1] for frame in inner)


@contextmanager
def translated(kind: type[SourceError | SinkError], where: object) -> Iterator[None]:
    """Raise libraries' errors in the block as ``kind``: one line, with the error as its cause."""
    try:
        yield
    except EdgerestoreError:
        raise
    except Exception as error:
        ours = translate(error, kind, where)
        if ours is None:
            raise
        raise ours from error


@contextmanager
def listened() -> Iterator[None]:
    """Have FFmpeg's errors in the block bring its own line; keep the line off the terminal.

    Neither around decoding, which would call Python from the decoder's threads for each damaged
    picture, nor beside a muxer with a thread of its own: who waits for such a thread and holds
    Python's lock would wait for ever.
    """
    with _listening:
        logging.set_level(logging.ERROR)
        try:
            with logging.Capture(local=True) as lines:
                yield
        except _av.FFmpegError as error:
            if isinstance(error.log, tuple):  # the last line; the first tells the cause
                first = next(one for one in (*lines, error.log) if one[1] == error.log[1])
                error.args = (*error.args[:3], first)
            raise
        finally:
            # Not `set_level(None)`: a decoder's thread that is about to speak compares with it.
            logging.restore_default_callback()


_listening = threading.RLock()
_QUIET = -8  # of FFmpeg; PyAV has no name for it
logging.set_libav_level(_QUIET)
# What decoders of other threads say while one listens goes to the host's handlers, where it has
# any, and not to the terminal.
getLogger("libav").addHandler(NullHandler())


@contextmanager
def held_back(logger_name: str, upto: int = CRITICAL) -> Iterator[list[str]]:
    """Hold back what a logger says in this thread, up to a level; give its lines of errors."""
    thread, logger, errors = threading.get_ident(), getLogger(logger_name), list[str]()

    def passes(record: LogRecord) -> bool:
        if record.thread == thread and record.levelno >= ERROR:
            errors.append(record.getMessage().partition("\n")[0])
        return record.thread != thread or record.levelno > upto

    logger.addFilter(passes)
    try:
        yield errors
    finally:
        logger.removeFilter(passes)


@contextmanager
def silenced() -> Iterator[None]:
    """Keep the decoders' own remarks on a damaged file off the terminal: an error says it.

    libpng and libtiff write to the file descriptor, which no Python-level redirection and no
    log level of OpenCV's reaches; so what other threads write meanwhile is lost too.
    """
    with _silencing:
        _Silence.depth += 1
        if _Silence.depth == 1:
            _Silence.kept = _divert()
    try:
        yield
    finally:
        with _silencing:
            _Silence.depth -= 1
            if _Silence.depth == 0 and _Silence.kept is not None:
                os.dup2(_Silence.kept, 2)
                os.close(_Silence.kept)


_silencing = threading.Lock()


class _Silence:
    """Blocks that are silenced now, of all threads, and where standard error went before."""

    depth = 0
    kept: int | None = None


def _divert() -> int | None:
    """Send standard error nowhere; return where it went, None where there is none."""
    try:
        kept = os.dup(2)
    except OSError:
        return None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    return kept
