"""Journal of a store that is written shard by shard: what of it is on the disk, for good."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle.locks import lock_if_free
from ..errors import SinkError, first_line
from ..imaging.error_translation import translated

__all__ = ["Journal", "WrittenShard", "key_of"]

_FORMAT = 1


@dataclass(frozen=True)
class WrittenShard:
    """A shard that is on the disk.

    Parameters
    ----------
    key : str
        Path of its file in the store.
    size_bytes : int
    crc32 : int
        Of the bytes of the file.
    """

    key: str
    size_bytes: int
    crc32: int


def key_of(facts: Mapping[str, Any]) -> str:
    """Return the hash of what a run is made of and with."""
    return hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode()).hexdigest()[:32]


class Journal:
    """Lines of JSON beside a store: what it is made of, then one for each shard written.

    A line is on the disk when `add` returns. A line that a crash cut off counts for nothing. The
    file is locked while it is open. Any thread may call its methods.

    Parameters
    ----------
    path : Path
        Created where it is not there.
    facts : mapping of JSON values
        What the store is made of and with: settings, model, input. Their hash is the key.

    Attributes
    ----------
    resumed : bool
        It was there.

    Raises
    ------
    SinkError
        When it is of other facts, which are named; when another process writes it, or it is no
        journal.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self._path, self._lock = path, threading.Lock()
        self._written: dict[str, WrittenShard] = {}
        with translated(SinkError, path):
            self.resumed = path.exists()
            self._file = path.open("r+b" if self.resumed else "x+b")
        try:
            self._locked = self._lock_file()
            if self.resumed:
                self._read(facts)
            if not self.resumed:
                head = {"format": _FORMAT, "key": key_of(facts), "facts": dict(facts)}
                self._append([head])
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._written)

    def __contains__(self, key: object) -> bool:
        return key in self._written

    def shards(self) -> list[WrittenShard]:
        """Return what was written, in the order of writing."""
        with self._lock:
            return list(self._written.values())

    def add(self, shards: Iterable[WrittenShard]) -> None:
        """Note shards, whose files are on the disk; they may have been noted before.

        Raises
        ------
        SinkError
            When the disk refuses.
        """
        shards = list(shards)
        lines = [{"shard": one.key, "bytes": one.size_bytes, "crc32": one.crc32} for one in shards]
        with self._lock:
            self._append(lines)
            self._written.update((one.key, one) for one in shards)

    def forget(self, keys: Iterable[str]) -> None:
        """Note that shards are not, or no longer, what was written."""
        keys = [key for key in keys if key in self]
        with self._lock:
            self._append([{"lost": key} for key in keys])
            for key in keys:
                del self._written[key]

    def close(self) -> None:
        """Close the file, which stays. May be called twice."""
        self._file.close()
        descriptor, self._locked = getattr(self, "_locked", None), None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _lock_file(self) -> int | None:
        descriptor = lock_if_free(self._path)
        if descriptor is None:
            raise SinkError(f"{self._path}: another run is writing its store; wait for it")
        return descriptor

    def _append(self, lines: list[dict[str, Any]]) -> None:
        if not lines:
            return
        with translated(SinkError, self._path):
            self._file.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self, facts: Mapping[str, Any]) -> None:
        with translated(SinkError, self._path):
            text = self._file.read()
        whole = text.rpartition(b"\n")[0] + b"\n" if b"\n" in text else b""
        lines = whole.splitlines()
        if not lines:  # a crash before the first line was there
            self.resumed = False
        else:
            self._check(lines[0], facts)
            for line in lines[1:]:
                self._take(line)
        with translated(SinkError, self._path):
            self._file.truncate(len(whole))
            self._file.seek(len(whole))

    def _check(self, head: bytes, facts: Mapping[str, Any]) -> None:
        try:
            found = json.loads(head)
            form, key, before = found["format"], found["key"], dict(found["facts"])
        except (ValueError, KeyError, TypeError) as error:
            raise SinkError(
                f"{self._path}: is no journal ({first_line(error)}); move it away"
            ) from error
        if form != _FORMAT:
            raise SinkError(
                f"{self._path}: is of another version of edgerestore (format {form}); finish with"
                " that, or begin again with --overwrite"
            )
        now = json.loads(json.dumps(dict(facts)))
        if key == key_of(facts) and before == now:
            return
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        told = ", ".join(_difference(name, before.get(name), now.get(name)) for name in names)
        raise SinkError(
            f"{self._path}: is of a run with other settings ({told or 'its key differs'}); use the"
            " same ones, or begin again with --overwrite"
        )

    def _take(self, line: bytes) -> None:
        # What is damaged inside counts for nothing: its shard is written once more.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            if "lost" in found:
                self._written.pop(found["lost"], None)
            else:
                one = WrittenShard(str(found["shard"]), int(found["bytes"]), int(found["crc32"]))
                self._written[one.key] = one


def _difference(name: str, before: object, now: object) -> str:
    told = [_short(one) for one in (before, now)]
    return f"{name} was {told[0]} and is {told[1]}" if told[0] != told[1] else f"{name} differs"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
