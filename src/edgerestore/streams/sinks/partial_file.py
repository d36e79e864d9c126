"""Output file that gets its final name only once it is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from ...errors import SinkError
from ...imaging.error_translation import translated

try:
    import fcntl
except ImportError:  # not on Windows, which refuses to rename or remove a file in use anyway
    fcntl = None  # type: ignore[assignment]

__all__ = ["PartialFile", "check_output", "lock_if_free"]


def lock_if_free(path: Path) -> int | None:
    """Lock a file that no living process is writing.

    Returns
    -------
    int or None
        A descriptor to close, which gives the lock back; ``None`` where another process has it.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


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
        self.path = final.with_name(f".{final.stem}.part-{secrets.token_hex(4)}{final.suffix}")
        with translated(SinkError, final):
            self.path.touch(exist_ok=False)
            # A file system without locks gives none; nobody else can have taken it.
            self._lock = lock_if_free(self.path)

    def commit(self) -> None:
        """Put what was written on the disk and give it the final name.

        Raises
        ------
        SinkError
            When the disk refuses, or a file of that name has appeared meanwhile.
        """
        with translated(SinkError, self._final):
            with self.path.open("rb") as written:
                os.fsync(written.fileno())
            check_output(self._final, overwrite=self._overwrite)
            self.path.replace(self._final)
        self.leave()

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
