"""Output file that gets its final name only once it is complete."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import time
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path

from ...bundle.locks import lock_if_free
from ...errors import SinkError
from ...imaging.error_translation import translated

__all__ = [
    "PartialFile",
    "check_output",
    "clear_partials",
    "free_name",
    "partial_name",
]

_logger = logging.getLogger(__name__)

_PARTIAL = re.compile(r"\.(?P<stem>.+)\.part-[0-9a-f]{8}(?P<suffix>\.[^.]*)?")
_JUST_CREATED_S = 5.0
_LONGEST_NAME_BYTES = 255  # of nearly every file system
_MARK_BYTES = len("..part-01234567")


def check_output(final: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a final name that would destroy something.

    Raises
    ------
    SinkError
        When it is an input (by whatever name or link), a folder, in a folder that is not
        there, or exists and ``overwrite`` is off.
    """
    with translated(SinkError, final):
        if final.is_dir():
            raise SinkError(f"{final}: is a folder; name a file")
        if not final.parent.is_dir():
            raise SinkError(f"{final}: the folder {final.parent} is not there; create it")
        if not final.exists():
            return
        for one in inputs:
            if one.exists() and final.samefile(one):
                raise SinkError(f"{final}: is the input; choose another name")
        if not overwrite:
            raise SinkError(f"{final}: exists; add --overwrite or choose another name")


def _stem_of(final: Path) -> str:
    """Return the stem, cut so that a mark of ours beside it is no longer than names may be."""
    room_bytes = _LONGEST_NAME_BYTES - _MARK_BYTES - len(os.fsencode(final.suffix))
    return os.fsencode(final.stem)[:room_bytes].decode(errors="ignore")


def partial_name(final: Path) -> Path:
    """Return the name of a video that was ended early."""
    return final.with_name(f"{_stem_of(final)}.partial{final.suffix}")


def free_name(final: Path, word: str) -> Path:
    """Return ``name.WORD.mp4``, or ``name.WORD-2.mp4`` and so on, whichever is free."""
    endings = chain([""], (f"-{number}" for number in count(2)))
    names = (final.with_name(f"{_stem_of(final)}.{word}{end}{final.suffix}") for end in endings)
    return next(name for name in names if not name.exists())


def clear_partials(finals: Iterable[Path]) -> None:
    """Remove what killed runs left of files, all of one folder, and log it. Never raises.

    Files that a living process is still writing are left alone.
    """
    stems = {(_stem_of(final), final.suffix): final for final in finals}
    folder = next(iter(stems.values())).parent if stems else Path()
    with contextlib.suppress(OSError):
        for path in folder.iterdir() if stems else ():
            found = _PARTIAL.fullmatch(path.name)
            if found and (found["stem"], found["suffix"]) in stems and not _just_created(path):
                _clear(path)


def _clear(path: Path) -> None:
    lock = lock_if_free(path)
    if lock is None:
        return
    try:
        path.unlink()
        _logger.warning("%s: removed; an unfinished file of a run that was killed", path)
    finally:
        os.close(lock)


def _just_created(path: Path) -> bool:
    """Return whether its lock may be about to be taken."""
    state = path.stat()
    return state.st_size == 0 and time.time() - state.st_mtime < _JUST_CREATED_S


class PartialFile:
    """Hidden file beside its final name, to be renamed or removed.

    It stays locked until then, so that others can tell it from what a killed process left.

    Parameters
    ----------
    final : Path
    overwrite : bool
        Replace a file of that name.
    inputs : iterable of Path
        Files that must not be replaced.

    Raises
    ------
    SinkError
        As `check_output`, and when nothing can be created there.
    """

    def __init__(self, final: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
        check_output(final, overwrite=overwrite, inputs=inputs)
        self._final = final
        self._overwrite = overwrite
        # The extension stays last: encoders choose their container by it.
        self.path = final.with_name(f".{_stem_of(final)}.part-{secrets.token_hex(4)}{final.suffix}")
        with translated(SinkError, final):
            self.path.touch(exist_ok=False)
            # A file system without locks gives none; nobody else can have taken it.
            self._lock = lock_if_free(self.path)

    def commit(self, *, cut_short: bool = False, resumed: bool = False) -> Path:
        """Put what was written on the disk and give it the final name.

        Parameters
        ----------
        cut_short : bool
            It is not all: ``name.partial.mp4`` in place of ``name.mp4``, or the next free name.
        resumed : bool
            It begins with the ``name.partial.mp4`` that is there, and replaces that.

        Returns
        -------
        Path
            The name that it has now.

        Raises
        ------
        SinkError
            When the disk refuses, or a file of that name has appeared meanwhile.
        """
        with translated(SinkError, self._final):
            with self.path.open("rb") as written:
                os.fsync(written.fileno())
            final = self._final
            if cut_short:
                final = partial_name(final) if resumed else free_name(final, "partial")
            check_output(final, overwrite=self._overwrite or (cut_short and resumed))
            self.path.replace(final)
        self.leave()
        return final

    def discard(self) -> None:
        """Remove what was written. Never raises."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Unlock the file and leave it as it stands. Never raises."""
        descriptor, self._lock = self._lock, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
