"""Cache of compiled models and of measurements between runs."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

__all__ = [
    "Measure",
    "cache_folder",
    "keep",
    "measured",
    "recall",
    "recorded",
    "remember",
    "temporary_cache",
]

_logger = logging.getLogger(__name__)
_Kept = TypeVar("_Kept")

Measure = Annotated[float, Meta(gt=0, le=1e12)]
"""A time, or another number that was measured: neither 0 nor infinite."""

_TEMPORARY: ContextVar[str | None] = ContextVar("temporary cache", default=None)


def cache_folder(part: str) -> Path:
    """Return a folder for one kind of cached thing, made if it is not there.

    ``EDGERESTORE_CACHE`` names the place; without it the XDG cache is used, and where
    that cannot be written (a read-only home, no home at all), a folder under the temporary
    directory. What lies there is loaded and run, so it is used only where it is this user's alone;
    else one that this process makes and removes, and a line says so.
    """
    named = _TEMPORARY.get() or os.environ.get("EDGERESTORE_CACHE")
    folder = None
    with suppress(OSError, RuntimeError):  # no HOME, and no entry in the user database
        xdg = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = (Path(named) if named else xdg / "edgerestore") / part
        folder.mkdir(parents=True, exist_ok=True)
    if folder is None or not os.access(folder, os.W_OK):
        folder = _fallback() / part
        folder.mkdir(exist_ok=True)
    return folder


def _fallback() -> Path:
    """Return this user's own folder under the temporary directory."""
    shared = Path(tempfile.gettempdir()) / f"edgerestore-{os.getuid()}"
    with suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
    try:
        found = shared.lstat()
        own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if own and not found.st_mode & 0o077:
            return shared
    except OSError:
        pass
    return _uncached(shared)


@cache
def _uncached(instead_of: Path) -> Path:
    """Make a folder of this process, once; tell why nothing is kept."""
    _logger.warning(
        "%s: is not this user's alone, so nothing is cached between runs; remove it, or name"
        " a folder by EDGERESTORE_CACHE",
        instead_of,
    )
    folder = Path(tempfile.mkdtemp(prefix="edgerestore-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextmanager
def temporary_cache() -> Iterator[None]:
    """Cache in a folder that is removed at the end, for models that are compiled only once.

    Holds for the calling thread alone.
    """
    with tempfile.TemporaryDirectory(prefix="edgerestore-") as folder:
        before = _TEMPORARY.set(folder)
        try:
            yield
        finally:
            _TEMPORARY.reset(before)


def recall(path: Path, kind: type[_Kept]) -> _Kept | None:
    """Return what `remember` kept, or None where nothing whole of that type is there."""
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), kind)
    except (OSError, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def remember(path: Path, content: Mapping[str, Any]) -> None:
    """Keep a measurement, whole or not at all.

    A full or read-only disk is no error: it is measured again next time.
    """
    beside = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(content), encoding="utf-8")
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


class _Entry(msgspec.Struct):
    """Measurement as it is cached."""

    machine: str
    measured: Any


def measured(
    part: str, key: str, machine: str, measure: Callable[[], _Kept], kind: type[_Kept]
) -> _Kept:
    """Return a measurement of this machine, from the cache or made now.

    Parameters
    ----------
    part, key : str
        Kind of measurement, and what was measured; may hold any character of a device's name.
    machine : str
        Of another machine, what is cached is measured again.
    measure : callable
    kind : type
        Of what it returns, which msgspec converts; what is cached and does not fit, or is empty,
        is measured again.
    """
    path = cache_folder(part) / f"{_as_name(key)}.json"
    kept = recall(path, _Entry)
    if kept is not None and kept.machine == machine and kept.measured:
        with suppress(msgspec.ValidationError):
            return msgspec.convert(kept.measured, kind)
    value = measure()
    keep(part, key, machine, value)
    return value


def keep(part: str, key: str, machine: str, value: object) -> None:
    """Keep a measurement of this machine in the place of an earlier one."""
    path = cache_folder(part) / f"{_as_name(key)}.json"
    remember(path, {"machine": machine, "measured": msgspec.to_builtins(value)})


def recorded(part: str, key: str, machine: str, kind: type[_Kept]) -> list[_Kept]:
    """Return the cached measurements whose key and machine begin like these, the latest first.

    Nothing is measured.
    """
    files = [(path.stat().st_mtime, path) for path in cache_folder(part).glob(f"{_as_name(key)}*")]
    kept = [recall(path, _Entry) for _, path in sorted(files, reverse=True)]
    found = []
    for one in kept:
        with suppress(msgspec.ValidationError):
            if one is not None and one.machine.startswith(machine):
                found.append(msgspec.convert(one.measured, kind))
    return found


def _as_name(key: str) -> str:
    return key.replace(":", "_").replace(",", "_")
