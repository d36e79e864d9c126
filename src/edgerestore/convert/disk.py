"""Folders that take no more: found before the work where that can be, else told in one line."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BundleError

__all__ = ["require_replaceable", "told_when_full"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require_replaceable(folder: Path) -> None:
    """Check that a bundle can be replaced, before hours of work.

    Parameters
    ----------
    folder : Path
        A bundle.

    Raises
    ------
    BundleError
        When it, or the folder that holds it, cannot be written.
    """
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        if not os.access(place, os.W_OK | os.X_OK):
            raise BundleError(f"{place}: cannot be written, so nothing was begun; copy the bundle")
    try:
        Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent)).rmdir()
    except OSError as error:
        raise BundleError(
            f"{folder.parent}: cannot be written ({error.strerror}), so nothing was begun; copy"
            " the bundle"
        ) from error


@contextmanager
def told_when_full(target: Path) -> Iterator[None]:
    """Raise a full disk as one line.

    Raises
    ------
    BundleError
    """
    try:
        yield
    except OSError as error:
        # Copying a folder collects its errors: (source, copy, reason).
        copying = isinstance(error, shutil.Error) and str(os.strerror(errno.ENOSPC)) in str(error)
        if error.errno not in _FULL and not copying:
            raise
        reason = error.strerror or os.strerror(errno.ENOSPC)
        raise BundleError(f"{target}: cannot be written: {reason}; free some space") from error
    except RuntimeError as error:
        if "iostream" not in str(error):  # what OpenVINO knows of it
            raise
        raise BundleError(f"{target}: cannot be written; free some space") from error
