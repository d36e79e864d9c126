"""The names of a recording's files, and what a killed process left of them."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import av

from ...errors import SinkError
from ...imaging.library_errors import translated
from .partial_file import lock_if_free

__all__ = ["RecordingNames", "recover_partial", "recover_partials"]

# Between the creation of a partial file and its lock lies a moment.
_JUST_CREATED_S = 5.0


class RecordingNames:
    """Hands out ``name-0001.mp4``, ``name-0002.mp4``, ...: each once, none that is taken.

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
        while True:
            self._last += 1
            name = f"{self._output.stem}-{self._last:04}{self._output.suffix}"
            path = self._output.with_name(name)
            if not path.exists() and not self._being_written():
                return path

    def _being_written(self) -> bool:
        """Return whether another process is at the file of the last number."""
        stem, suffix = (glob.escape(one) for one in (self._output.stem, self._output.suffix))
        return any(self._output.parent.glob(f".{stem}-{self._last:04}.part-*{suffix}"))


def recover_partials(output: Path, notice: Callable[[str], None]) -> list[Path]:
    """Give the unfinished files of a killed recording names, as far as they play.

    Files that a living process is still writing are left alone.

    Parameters
    ----------
    output : Path
        What the recording was called, ``name.mp4``; its numbered files are looked for too.
    notice : callable
        Takes a line about each file that was kept or removed.

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
    kept = [recover_partial(partial, notice) for partial in found if not _just_created(partial)]
    return [path for path in kept if path is not None]


def recover_partial(partial: Path, notice: Callable[[str], None]) -> Path | None:
    """Do as `recover_partials`, for one unfinished file. Never raises for what it holds."""
    try:
        lock = lock_if_free(partial)
    except OSError as error:
        notice(f"{partial}: an unfinished recording that cannot be opened ({error.strerror})")
        return None
    if lock is None:
        return None
    try:
        plays = _plays(partial)
        if plays is None:
            notice(f"{partial}: an unfinished recording that cannot be read now; left alone")
            return None
        if not plays:
            partial.unlink()
            notice(f"{partial}: removed; an unfinished recording without a frame that plays")
            return None
        name = _free_name(partial)
        partial.rename(name)
    except OSError as error:
        notice(f"{partial}: an unfinished recording that cannot be moved ({error.strerror})")
        return None
    finally:
        os.close(lock)
    notice(f"{name}: recovered; the recording ended without being finished")
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
        with av.open(str(path), metadata_errors="replace") as container:
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


def _free_name(partial: Path) -> Path:
    stem = partial.name[1:].rpartition(".part-")[0]
    tries = 1
    while True:
        again = "" if tries == 1 else f"-{tries}"
        name = partial.with_name(f"{stem}.recovered{again}{partial.suffix}")
        if not name.exists():
            return name
        tries += 1
