"""Compiled models between runs: found whole or not at all, however many processes start at once."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TypeVar

from ..bundle.locks import lock_if_free
from .cache import cache_folder, recall, remember

__all__ = ["cached_compilation"]

_logger = logging.getLogger(__name__)
_Compiled = TypeVar("_Compiled")

_DIGESTS, _OWN = "digests.json", "part-"
_PATIENCE_S, _POLL_S = 60.0, 0.02  # for another process that compiles the same


def cached_compilation(
    part: str, key: str, compile_in: Callable[[Path | None], _Compiled]
) -> _Compiled:
    """Compile a model, with a folder for the runtime to keep it in.

    The runtime reads and writes in a folder of this call's own: what is kept there is moved to
    its place once it is whole, and what was kept before is linked into it once its digests are
    compared, behind a lock, so that processes that start together compile once. Where any of this
    fails (a full disk, a file system without links), the model is compiled without it.

    Parameters
    ----------
    part : str
        Of the cache.
    key : str
        Everything that the compiled model depends on.
    compile_in : callable
        Compiles, caching in a folder, or nowhere with None.

    Raises
    ------
    RuntimeError
        Where ``compile_in`` raises it without a cache, too.
    """
    with ExitStack() as stack:
        own = None
        with suppress(OSError):
            entry = cache_folder(part) / hashlib.sha256(key.encode()).hexdigest()[:24]
            entry.mkdir(exist_ok=True)
            _lock(entry, stack)
            for left in entry.glob(f"{_OWN}*"):  # by a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            cleaned = tempfile.TemporaryDirectory(
                prefix=_OWN, dir=entry, ignore_cleanup_errors=True
            )
            folder = Path(stack.enter_context(cleaned))
            before = _linked(entry, folder)
            own = folder
        if own is not None:
            with suppress(RuntimeError):
                compiled = compile_in(own)
                with suppress(OSError):
                    _keep(entry, own, before)
                return compiled
    return compile_in(None)


def _lock(entry: Path, stack: ExitStack) -> None:
    """Lock a folder until the stack is unwound; `TimeoutError` where another process keeps it."""
    until_s = time.monotonic() + _PATIENCE_S
    while (descriptor := lock_if_free(entry)) is None:
        if time.monotonic() >= until_s:
            raise TimeoutError
        time.sleep(_POLL_S)
    stack.callback(os.close, descriptor)


def _linked(entry: Path, own: Path) -> dict[str, int]:
    """Link what was kept into a folder, unless any of it is damaged; return names and inodes."""
    digests = recall(entry / _DIGESTS, dict[str, str]) or {}
    inodes = {}
    try:
        for name, digest in digests.items():
            os.link(entry / name, own / name)
            inodes[name] = (own / name).stat().st_ino
            if _digest(own / name) != digest:
                raise FileNotFoundError
    except FileNotFoundError:
        _logger.warning("%s: is damaged; the model is compiled anew", entry)
        for path in own.iterdir():
            path.unlink()
        return {}
    return inodes


def _keep(entry: Path, own: Path, before: dict[str, int]) -> None:
    """Move what was written to its place, where that is another thing than before."""
    files = [path for path in own.iterdir() if path.is_file()]
    if {path.name: path.stat().st_ino for path in files} == before:
        return
    digests = {path.name: _digest(path) for path in files}
    for path in files:
        path.replace(entry / path.name)
    remember(entry / _DIGESTS, digests)
    for path in entry.iterdir():
        if path.is_file() and path.name not in {_DIGESTS, *digests}:
            path.unlink()  # of another release of the runtime


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
