"""Zarr store that is written by whole shards, goes on where it stopped, and is verified."""

from __future__ import annotations

import itertools
import logging
import math
import os
import secrets
import shutil
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ..errors import ArgumentError, MissingExtraError, SinkError, counted
from ..extensions import install_command
from ..imaging.arrays import Image
from ..imaging.error_translation import translated
from .journal import Journal, WrittenShard

if TYPE_CHECKING:
    from zarr import Array

__all__ = [
    "COMPRESSIONS",
    "ArrayLayout",
    "ShardedArray",
    "ShardedStore",
    "check_store",
    "import_zarr",
    "partial_store",
]

_logger = logging.getLogger(__name__)

_METADATA = frozenset({"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"})
_ZSTD_LEVEL = 1  # twice as fast as 3, a tenth larger
COMPRESSIONS = ("zstd", "blosc", "gzip", "none")
"""Compressions of chunks, each with its usual level or, as in ``zstd:5``, with one of its own."""


def import_zarr() -> Any:
    """Return the zarr package.

    Raises
    ------
    MissingExtraError
        When it is not installed, or is of a version without shards.
    """
    try:
        import zarr
        from zarr.storage import MemoryStore  # noqa: F401 - zarr 3
    except ImportError as error:
        raise MissingExtraError(
            f"Zarr stores need zarr 3.1 or newer: {install_command('microscopy')}"
        ) from error
    return zarr


@dataclass(frozen=True)
class ArrayLayout:
    """Layout of an array in a store.

    Parameters
    ----------
    path : str
        In the store: ``0``, or ``0/1`` in a group.
    shape, chunks : tuple of int
    dtype : numpy.dtype
    shards : tuple of int or None
        Multiples of the chunks; None where each chunk is a file of its own, as in Zarr 2.
    dimension_names : tuple of str or None
        Of Zarr 3.
    compression : str
        See `COMPRESSIONS`.
    zarr_format : int
        2 or 3.
    """

    path: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    shards: tuple[int, ...] | None = None
    dimension_names: tuple[str, ...] | None = None
    compression: str = "zstd"
    zarr_format: Literal[2, 3] = 3


class ShardedArray:
    """Array whose shards are each written once, as a whole. Any thread may call its methods.

    A shard is the file that is written at a time; where the array has none, that is a chunk.

    Attributes
    ----------
    path : str
    shape, shard : tuple of int
        Of the array, and of one of its shards.
    dtype : numpy.dtype
    """

    def __init__(self, root: Path, path: str) -> None:
        zarr = import_zarr()
        with translated(SinkError, root):
            self._array: Array[Any] = zarr.open_array(root / path, mode="r")
        self._folder, self.path = root / path, path
        self.shape: tuple[int, ...] = tuple(self._array.shape)
        self.dtype: np.dtype[Any] = np.dtype(self._array.dtype)
        self.shard: tuple[int, ...] = tuple(self._array.shards or self._array.chunks)
        self._metadata = {
            name: (self._folder / name).read_bytes()
            for name in sorted(_METADATA)
            if (self._folder / name).is_file()
        }

    def indices(self) -> Iterator[tuple[int, ...]]:
        """Yield the indices of all shards, the last axis fastest."""
        counts = (-(-whole // part) for whole, part in zip(self.shape, self.shard, strict=True))
        return itertools.product(*map(range, counts))

    def key(self, index: Sequence[int]) -> str:
        """Return the path of a shard's file in the store."""
        return f"{self.path}/{self._array.metadata.encode_chunk_key(tuple(index))}"

    def covered(
        self, start: Sequence[int], shape: Sequence[int]
    ) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield the shards in a box, each with its place there.

        Raises
        ------
        ArgumentError
            When the box does not hold whole shards: it begins at one, and ends at one or with
            the array.
        """
        sides = list(zip(start, shape, self.shape, self.shard, strict=True))
        if any(
            first % part or first + length > whole or (length % part and first + length != whole)
            for first, length, whole, part in sides
        ):
            raise ArgumentError(
                f"{self.path}: {tuple(shape)} at {tuple(start)} is not of whole shards of"
                f" {self.shard} in {self.shape}"
            )
        spans = (range(first // part, -(-(first + n) // part)) for first, n, _, part in sides)
        for index in itertools.product(*spans):
            places = (
                slice(at * part - first, min((at + 1) * part - first, length))
                for at, (first, length, _, part) in zip(index, sides, strict=True)
            )
            yield index, tuple(places)

    def write(self, start: Sequence[int], data: Image) -> list[WrittenShard]:
        """Write whole shards to the disk, in place of what is there of them.

        Nothing of the array is read, and no reader ever meets half a shard. Who calls it notes
        what was written in the journal; two threads must not write the same shard.

        Parameters
        ----------
        start : sequence of int
        data : ndarray
            From there on; whole shards, less what lies beyond the end of the array.

        Raises
        ------
        ArgumentError
            When it is not of whole shards.
        SinkError
            When the disk refuses.
        """
        return [self._write(index, data[place]) for index, place in self.covered(start, data.shape)]

    def _write(self, index: tuple[int, ...], data: Image) -> WrittenShard:
        first = tuple(at * part for at, part in zip(index, self.shard, strict=True))
        content = self._encoded(first, data)
        key = self.key(index)
        path = self._folder.parent.joinpath(*key.split("/")[self.path.count("/") :])
        with translated(SinkError, path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, content)
        return WrittenShard(key, len(content), zlib.crc32(content))

    def _encoded(self, first: tuple[int, ...], data: Image) -> bytes:
        """Return the bytes of a shard's file: zarr writes it to a store in memory."""
        zarr = import_zarr()
        from zarr.core.buffer import default_buffer_prototype
        from zarr.storage import MemoryStore

        buffer = default_buffer_prototype().buffer
        kept = {name: buffer.from_bytes(held) for name, held in self._metadata.items()}
        array = zarr.open_array(MemoryStore(kept), mode="r+", config={"write_empty_chunks": True})
        spot = tuple(slice(at, at + n) for at, n in zip(first, data.shape, strict=True))
        array[spot] = data
        made = [held for name, held in kept.items() if name not in self._metadata]
        # Shards of nothing but zeros are files too, so that a missing one tells of a loss.
        return bytes(made[0].to_bytes()) if made else self._blank()

    def _blank(self) -> bytes:
        """Return a shard of zeros, which zarr leaves out: an index of chunks that are not there."""
        from google_crc32c import value

        chunks = (whole // part for whole, part in zip(self.shard, self._array.chunks, strict=True))
        index = b"\xff" * (16 * math.prod(chunks))
        return index + int(value(index)).to_bytes(4, "little")

    def read(self, start: Sequence[int], shape: Sequence[int]) -> Image:
        """Return a box of what was written; what was not is zeros.

        Raises
        ------
        SinkError
            When it cannot be read.
        """
        spot = tuple(slice(at, at + n) for at, n in zip(start, shape, strict=True))
        with translated(SinkError, self._folder):
            read: Image = np.asarray(self._array[spot])
        return read


class ShardedStore:
    """Zarr store in the making, beside its final name, with a journal beside it.

    A run that is killed leaves both; one of the same facts goes on with it. A context manager:
    leaving it closes the journal, and all stays. Any thread may call its methods.

    Parameters
    ----------
    final : Path
        Name of the finished store.
    facts : mapping of JSON values
        What it is made of and with: settings, the model's hash, the input's.
    overwrite : bool
        Replace a store of that name, and begin again where an unfinished one is there.
    resume : bool
        Go on with an unfinished one. Where none is there it is begun.
    inputs : sequence of Path
        What must not be replaced.

    Attributes
    ----------
    path : Path
        Of the store in the making.
    resumed : bool
        Something of it was there.

    Raises
    ------
    SinkError
        When the final name is taken, or the unfinished store is of other facts, which are named.
    """

    def __init__(
        self,
        final: Path,
        facts: Mapping[str, Any],
        *,
        overwrite: bool = False,
        resume: bool = False,
        inputs: Sequence[Path] = (),
    ) -> None:
        self.final, self.path = final, partial_store(final)
        check_store(final, overwrite=overwrite, resume=resume, inputs=inputs)
        self._overwrite = overwrite
        self._arrays: dict[str, ShardedArray] = {}
        self._lock = threading.Lock()
        journal = self.path.with_name(f"{self.path.name}.journal")
        with translated(SinkError, final):
            if not (resume and journal.exists()):
                _refuse_running(journal)
                shutil.rmtree(self.path, ignore_errors=True)
                journal.unlink(missing_ok=True)
            self.path.mkdir(exist_ok=True)
        self._journal, self._journal_path = Journal(journal, facts), journal
        self.resumed = self._journal.resumed
        try:
            if self.resumed:
                self._clear()
        except BaseException:
            self._journal.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if error is not None and not len(self._journal):
            self.discard()
        self._journal.close()
        if error is not None and len(self._journal) and self.path.exists():
            _logger.warning(
                "%s: %s of it kept; add --resume to go on",
                self.final,
                counted(len(self._journal), "shard"),
            )

    def group(self, path: str, attributes: Mapping[str, Any], zarr_format: Literal[2, 3]) -> None:
        """Create a group, or leave it where it is there."""
        zarr = import_zarr()
        folder = self.path / path
        with translated(SinkError, folder):
            if not any((folder / name).is_file() for name in ("zarr.json", ".zgroup")):
                zarr.create_group(
                    folder, attributes=dict(attributes), zarr_format=zarr_format, overwrite=False
                )

    def array(self, layout: ArrayLayout) -> ShardedArray:
        """Create an array, or open the one that is there, whose chunks and shards stay.

        Raises
        ------
        SinkError
            When one is there of another shape or dtype.
        """
        zarr = import_zarr()
        folder = self.path / layout.path
        with translated(SinkError, folder):
            if not any((folder / name).is_file() for name in ("zarr.json", ".zarray")):
                zarr.create_array(
                    folder,
                    shape=layout.shape,
                    dtype=layout.dtype,
                    chunks=layout.chunks,
                    shards=layout.shards,
                    compressors=_compressor(layout.compression, layout.zarr_format),
                    filters=None,
                    zarr_format=layout.zarr_format,
                    dimension_names=layout.dimension_names if layout.zarr_format == 3 else None,
                    chunk_key_encoding=(
                        {"name": "v2", "separator": "/"} if layout.zarr_format == 2 else None
                    ),
                    fill_value=0,
                )
        made = ShardedArray(self.path, layout.path)
        if (made.shape, made.dtype) != (layout.shape, layout.dtype):
            raise SinkError(f"{folder}: is of another run; begin again with --overwrite")
        with self._lock:
            self._arrays[layout.path] = made
        return made

    def is_done(self, array: ShardedArray, start: Sequence[int], shape: Sequence[int]) -> bool:
        """Return whether all shards in a box are written."""
        return all(array.key(index) in self._journal for index, _ in array.covered(start, shape))

    def write(self, array: ShardedArray, start: Sequence[int], data: Image) -> None:
        """Write whole shards and note them: when it returns they are there for good.

        See `ShardedArray.write`.
        """
        self.note(array.write(start, data))

    def note(self, shards: Sequence[WrittenShard]) -> None:
        """Note shards that another process has written."""
        self._journal.add(shards)

    def lost(self) -> list[str]:
        """Return the shards that are missing or are not what was written, and forget them.

        Reads all of the store.
        """
        bad = [one.key for one in self._journal.shards() if not _is_sound(self.path, one)]
        self._journal.forget(bad)
        missing = [
            key
            for array in self._arrays.values()
            for key in map(array.key, array.indices())
            if key not in self._journal and key not in set(bad)
        ]
        return [*bad, *missing]

    def commit(self) -> Path:
        """Give the store its final name, and remove the journal.

        Raises
        ------
        SinkError
            When a shard is missing or not what was written, or the disk refuses.
        """
        if lost := self.lost():
            raise SinkError(
                f"{self.path}: {counted(len(lost), 'shard')} of it, the first {lost[0]}, cannot be"
                " read as written; check the disk, then add --resume"
            )
        check_store(self.final, overwrite=self._overwrite, resume=True)
        with translated(SinkError, self.final):
            old = None
            if self.final.exists():
                old = self.final.with_name(f".{self.final.name}.{secrets.token_hex(4)}.old")
                self.final.rename(old)
            self.path.rename(self.final)
            _sync_folder(self.final.parent)
            self._journal.close()
            self._journal_path.unlink(missing_ok=True)
            if old is not None:
                _remove(old)
        return self.final

    def discard(self) -> None:
        """Remove what was written, and the journal. Never raises."""
        self._journal.close()
        self._journal_path.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def _clear(self) -> None:
        """Delete what is not in the journal, or is not what was written."""
        bad = [one.key for one in self._journal.shards() if not _is_sound(self.path, one)]
        self._journal.forget(bad)
        cleared = len(bad)
        with translated(SinkError, self.path):
            for folder, _, names in os.walk(self.path):
                for name in names:
                    path = Path(folder) / name
                    key = path.relative_to(self.path).as_posix()
                    if name not in _METADATA and key not in self._journal and _is_shard(path, self):
                        path.unlink()
                        cleared += key not in bad
        if cleared:
            _logger.info(
                "%s: %s that was not whole is written again",
                self.final,
                counted(cleared, "file"),
            )


def partial_store(final: Path) -> Path:
    """Return the name of a store in the making."""
    return final.with_name(f"{final.stem}.partial{final.suffix}")


def check_store(
    final: Path, *, overwrite: bool, resume: bool = False, inputs: Sequence[Path] = ()
) -> None:
    """Refuse the name of a store that would destroy something.

    Raises
    ------
    SinkError
        When it is an input, its folder is not there, or it exists, finished or not, and neither
        ``overwrite`` nor, of an unfinished one, ``resume`` is on.
    """
    with translated(SinkError, final):
        if not final.parent.is_dir():
            raise SinkError(f"{final}: the folder {final.parent} is not there; create it")
        for one in inputs:
            if final.exists() and one.exists() and final.samefile(one):
                raise SinkError(f"{final}: is the input; choose another name")
        if final.exists() and not overwrite:
            raise SinkError(f"{final}: exists; add --overwrite or choose another name")
        if final.exists() and not _is_store(final):
            raise SinkError(f"{final}: is there and no Zarr store; choose another name")
        begun = partial_store(final)
        if begun.exists() and not (resume or overwrite):
            raise SinkError(
                f"{final}: an unfinished run left {begun.name}; add --resume to go on with it, or"
                " --overwrite to begin again"
            )


def _is_store(path: Path) -> bool:
    return any((path / name).is_file() for name in _METADATA)


def _is_shard(path: Path, store: ShardedStore) -> bool:
    """Return whether a file lies in the folder of an array."""
    folder = path.parent
    while folder != store.path:
        if any((folder / name).is_file() for name in ("zarr.json", ".zarray")):
            return _is_array(folder)
        folder = folder.parent
    return False


def _is_array(folder: Path) -> bool:
    if (folder / ".zarray").is_file():
        return True
    return b'"array"' in (folder / "zarr.json").read_bytes()


def _is_sound(root: Path, shard: WrittenShard) -> bool:
    try:
        content = (root / shard.key).read_bytes()
    except OSError:
        return False
    return len(content) == shard.size_bytes and zlib.crc32(content) == shard.crc32


def _refuse_running(journal: Path) -> None:
    from ..bundle.locks import lock_if_free

    if journal.exists():
        descriptor = lock_if_free(journal)
        if descriptor is None:
            raise SinkError(f"{journal}: another run is writing its store; wait for it")
        os.close(descriptor)


def _replace(path: Path, content: bytes) -> None:
    """Write a file, on the disk and whole, in place of one of that name."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _compressor(name: str, zarr_format: int) -> Any:
    import numcodecs
    from zarr import codecs

    kind, _, given = name.partition(":")
    usual = {"zstd": _ZSTD_LEVEL, "blosc": 3, "gzip": 3, "none": 0}
    most = {"zstd": 22, "blosc": 9, "gzip": 9, "none": 0}
    if kind not in usual or (given and not (given.isdigit() and int(given) <= most[kind])):
        raise ArgumentError(
            f"compression is one of {', '.join(COMPRESSIONS)}, or with a level such as zstd:5, got"
            f" {name!r}"
        )
    level = int(given) if given else usual[kind]
    if kind == "none":
        return None
    if zarr_format == 2:
        if kind == "blosc":
            return numcodecs.Blosc("zstd", level, numcodecs.Blosc.BITSHUFFLE)
        return numcodecs.Zstd(level=level) if kind == "zstd" else numcodecs.GZip(level=level)
    if kind == "blosc":
        return codecs.BloscCodec(cname="zstd", clevel=level, shuffle="bitshuffle")
    return codecs.ZstdCodec(level=level) if kind == "zstd" else codecs.GzipCodec(level=level)
