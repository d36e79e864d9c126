"""Where compiled models and measured settings are kept between runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(part: str) -> Path:
    """Return a folder for one kind of cached thing, made if it is not there.

    ``EDGERESTORE_CACHE`` names the place; without it the XDG cache is used, and where
    that cannot be written (a read-only home), a folder under the temporary directory.
    """
    named = os.environ.get("EDGERESTORE_CACHE")
    xdg = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = (Path(named) if named else xdg / "edgerestore") / part
    try:
        folder.mkdir(parents=True, exist_ok=True)
        usable = os.access(folder, os.W_OK)
    except OSError:
        usable = False
    if not usable:
        folder = Path(tempfile.gettempdir()) / f"edgerestore-{os.getuid()}" / part
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
