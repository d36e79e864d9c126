"""Locks on files and folders that are being written, which end with the process."""

from __future__ import annotations

import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows, which refuses to rename or remove a file in use anyway
    fcntl = None  # type: ignore[assignment]

__all__ = ["lock_if_free"]


def lock_if_free(path: Path) -> int | None:
    """Lock a file or a folder that no living process is writing.

    Returns
    -------
    int or None
        A descriptor to close, which gives the lock back; ``None`` where another process has it.
    """
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
