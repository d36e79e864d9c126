"""Making of a dataset: pairs drawn by several processes, resumable after any interruption."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import math
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from multiprocessing import get_context
from pathlib import Path

import cv2
import msgspec
import numpy as np

from ..bundle.locks import lock_if_free
from ..errors import ArgumentError, SinkError, SourceError
from ..imaging.error_translation import translated
from ..imaging.image_files import encode_image
from ..runtimes.machine import tool_versions
from .collection import collect
from .contact_sheet import contact_sheet
from .dataset import (
    FORMAT,
    MANIFEST_NAME,
    ArrayFile,
    Dataset,
    DatasetManifest,
    SplitArrays,
    SplitName,
    read_manifest,
)
from .pairs import Pairs
from .pictures import Photograph, Pictures, reduced

__all__ = ["SAMPLES_NAME", "make_dataset"]

_BLOCK = 16  # pairs that a process draws before it comes back for more
_HELD_OUT = 10  # training pairs for each validation pair, and each test pair
_MOST_HELD_OUT = 300  # pairs of a held-out split: validation takes its time
_LEAST_SIDE_PX = 16
SAMPLES_NAME = "samples.jpg"

# Inside the folder until the dataset is complete.
_DECODED, _MADE, _LOCK = ".decoded", ".made.json", ".lock"

_log = logging.getLogger(__name__)

Tick = Callable[[int, int, str], None]
Mix = Mapping[SplitName, Pairs]
Shape = tuple[int, int, int, int]
Block = tuple[SplitName, int, int]


def _ignore(*_: object) -> None:
    """Report nothing."""


def make_dataset(
    folder: Path,
    recipe: str,
    pairs: Pairs,
    photographs: Sequence[Path],
    *,
    option: str = "--photographs",
    objects: Path | None = None,
    exclude: Collection[str] = (),
    count: int = 4000,
    seed: int = 0,
    workers: int = 1,
    tick: Tick = _ignore,
) -> Dataset:
    """Make a dataset, go on with one that was interrupted, or add pairs to a smaller one.

    Pair ``i`` of a split is a function of the pictures, the mix, the seed, the split and ``i``
    alone: the number of processes and interruptions change nothing.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    recipe : str
        Name of the recipe, for the manifest.
    pairs : Pairs
    photographs : sequence of Path
        Folders.
    option : str
        Their option, named in messages.
    objects : Path or None
        Folder of cut-outs with transparency.
    exclude : collection of str
        Stems of photographs that are not read.
    count : int
        Training pairs. Validation and test have a tenth of it each, at least one and at most 300.
    seed : int
    workers : int
        Processes that draw pairs; with 1 this one does.
    tick : callable
        Called with the number of pairs done, the total, and the split: before the first pair is
        drawn, and after every few.

    Returns
    -------
    Dataset

    Raises
    ------
    ArgumentError
        For values out of range, pictures of the test set, and a folder that holds something else
        or a dataset of other pictures, another mix or seed.
    SourceError, SinkError
        For what cannot be read or written. Pairs that are made stay, and the same call goes on.
    """
    _check(pairs, objects, count, seed, workers)
    mix = {name: pairs if name is SplitName.TRAIN else pairs.held_out() for name in SplitName}
    with _locked(folder), _decoded_pictures(folder) as store:
        found = collect(
            option,
            photographs,
            exclude=exclude,
            least_px=max(one.least_px for one in mix.values()),
            keep=store.keep,
        )
        cutouts = objects and collect("--objects", [objects], alpha=True, keep=store.keep)
        held_out = min(_MOST_HELD_OUT, max(1, count // _HELD_OUT))
        manifest = DatasetManifest(
            format=FORMAT,
            recipe=recipe,
            pairs={name: one.describe() for name, one in mix.items()},
            seed=seed,
            counts={name: count if name is SplitName.TRAIN else held_out for name in SplitName},
            tools={**tool_versions(), "opencv": cv2.__version__},
            photographs=found.entries,
            objects=cutouts.entries if cutouts else (),
        )
        there = read_manifest(folder)
        made = {} if there is None else _resumed(folder, there, manifest)
        if there is None or not there.arrays or there.counts != manifest.counts:
            with translated(SinkError, folder):
                _allocate(folder, manifest, mix)
                _write(folder / _MADE, msgspec.json.encode(made))
                _write_manifest(folder, manifest)
            _draw_all(folder, manifest, mix, made, workers, tick)
            with translated(SinkError, folder):
                _complete(folder, manifest, mix)
    return Dataset.open(folder)


def _check(pairs: Pairs, objects: Path | None, count: int, seed: int, workers: int) -> None:
    if count < 1:
        raise ArgumentError(f"--count {count}: expected 1 pair or more")
    if seed < 0:
        raise ArgumentError(f"--seed {seed}: expected 0 or more")
    if workers < 1:
        raise ArgumentError(f"--workers {workers}: expected 1 process or more")
    if pairs.side_px < _LEAST_SIDE_PX:
        raise ArgumentError(f"--side {pairs.side_px}: expected {_LEAST_SIDE_PX} pixels or more")
    if pairs.needs_objects and objects is None:
        raise ArgumentError("this recipe composites objects: add --objects DIR with cut-outs")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make a folder, and keep other makers out of it."""
    with translated(SinkError, folder):
        others = folder.is_dir() and any(folder.iterdir())
        if others and not any((folder / name).exists() for name in (MANIFEST_NAME, _LOCK)):
            raise ArgumentError(f"{folder}: holds something else; name a new or empty folder")
        folder.mkdir(parents=True, exist_ok=True)
        lock = folder / _LOCK
        lock.touch()
        descriptor = lock_if_free(lock)
    if descriptor is None:
        raise ArgumentError(f"{folder}: is being made by another process; wait for it")
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()


@dataclass(frozen=True)
class _Store:
    """Decoded pictures in files, which all processes map instead of each holding them all."""

    folder: Path

    def keep(self, digest: str, image: Photograph) -> None:
        """Write a picture, and a photograph's reduced copy."""
        with translated(SinkError, self.folder):
            np.save(self.folder / f"{digest}.npy", image)
            if image.shape[2] == 3:
                np.save(self.folder / f"{digest}-reduced.npy", reduced(image))

    def pictures(self, manifest: DatasetManifest, split: SplitName) -> Pictures:
        """Return the pictures of a split."""
        photographs, objects = (
            [entry.sha256 for entry in entries if entry.split is split]
            for entries in (manifest.photographs, manifest.objects)
        )
        return Pictures(
            [self._mapped(digest) for digest in photographs],
            [self._mapped(digest) for digest in objects],
            [self._mapped(f"{digest}-reduced") for digest in photographs],
        )

    def _mapped(self, name: str) -> Photograph:
        mapped: Photograph = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return mapped


@contextlib.contextmanager
def _decoded_pictures(folder: Path) -> Iterator[_Store]:
    store = _Store(folder / _DECODED)
    shutil.rmtree(store.folder, ignore_errors=True)  # of a maker that was killed
    with translated(SinkError, store.folder):
        store.folder.mkdir()
    try:
        yield store
    finally:
        shutil.rmtree(store.folder, ignore_errors=True)


def _resumed(folder: Path, there: DatasetManifest, wanted: DatasetManifest) -> dict[SplitName, int]:
    """Return how many pairs of each split a folder has already.

    Raises
    ------
    ArgumentError
        When it holds another dataset, or more pairs.
    """
    for name, words in _IDENTITY.items():
        if getattr(there, name) != getattr(wanted, name):
            raise ArgumentError(f"{folder}: was made {words}; give that again, or another folder")
    if there.counts[SplitName.TRAIN] > wanted.counts[SplitName.TRAIN]:
        raise ArgumentError(
            f"{folder}: is one of {there.counts[SplitName.TRAIN]} training pairs, more than"
            f" --count {wanted.counts[SplitName.TRAIN]}; give as many or more, or another folder"
        )
    if there.tools != wanted.tools:
        changed = sorted({name for name, _ in there.tools.items() ^ wanted.tools.items()})
        _log.warning("%s: begun with other versions of %s", folder, ", ".join(changed))
    return dict(there.counts) if there.arrays else _read_made(folder / _MADE)


_IDENTITY = {
    "recipe": "by another recipe",
    "seed": "with another seed",
    "pairs": "with another mix or side of pairs",
    "photographs": "of other photographs",
    "objects": "of other objects",
}
"""Field of a manifest that may not change -> how an error says that it did."""


def _read_made(path: Path) -> dict[SplitName, int]:
    if not path.exists():
        return {}
    with translated(SourceError, path):
        return msgspec.json.decode(path.read_bytes(), type=dict[SplitName, int])


def _shapes(pairs: Pairs, count: int) -> dict[str, Shape]:
    large = pairs.side_px * pairs.upscale
    return {
        "inputs": (count, pairs.side_px, pairs.side_px, pairs.channels),
        "targets": (count, large, large, pairs.target_channels),
    }


def _header(shape: Shape) -> bytes:
    """Return the head of an array's file; it leaves room for more rows, so its length stays."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return head.getvalue()


def _allocate(folder: Path, manifest: DatasetManifest, mix: Mix) -> None:
    """Make the arrays' files or lengthen them, so that the disk cannot fill up on the way.

    Raises
    ------
    SinkError
        When the disk has no room; nothing is changed then.
    """
    heads, sizes = dict[Path, bytes](), dict[Path, int]()
    for split in SplitName:
        (folder / split).mkdir(exist_ok=True)
        for kind, shape in _shapes(mix[split], manifest.counts[split]).items():
            path = folder / split / f"{kind}.npy"
            heads[path] = _header(shape)
            sizes[path] = len(heads[path]) + math.prod(shape)
    missing = sum(
        size - (path.stat().st_size if path.exists() else 0) for path, size in sizes.items()
    )
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise SinkError(
            f"{folder}: needs {missing / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free;"
            " lower --count or write elsewhere"
        )
    for path, size in sizes.items():
        with path.open("ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    for path, head in heads.items():
        with path.open("r+b") as file:
            file.write(head)


def _draw_all(
    folder: Path,
    manifest: DatasetManifest,
    mix: Mix,
    made: dict[SplitName, int],
    workers: int,
    tick: Tick,
) -> None:
    """Draw what is missing of every split."""
    blocks = [
        (split, first, min(first + _BLOCK, manifest.counts[split]))
        for split in SplitName
        for first in range(made.get(split, 0), manifest.counts[split], _BLOCK)
    ]
    total = sum(manifest.counts.values())
    tick(sum(made.values()), total, SplitName.TRAIN)
    try:
        with _drawing(_Drawer(folder, manifest, mix), min(workers, len(blocks))) as draw:
            # Blocks come back in their order: what is recorded has no gaps.
            for split, _, end in draw(blocks):
                made[split] = end
                with translated(SinkError, folder):
                    _write(folder / _MADE, msgspec.json.encode(made))
                tick(sum(made.values()), total, split)
    except BrokenProcessPool as error:
        raise SinkError(
            f"{folder}: a process that draws pairs was killed, for want of memory perhaps; start"
            " again with fewer --workers, and it goes on"
        ) from error
    except KeyboardInterrupt:
        done = sum(made.values())
        _log.warning("%s: has %d of %d pairs; the same command goes on", folder, done, total)
        raise


class _Drawer:
    """Draws blocks of pairs into the arrays' files.

    Parameters
    ----------
    folder : Path
    manifest : DatasetManifest
    mix : dict of SplitName to Pairs
    """

    def __init__(self, folder: Path, manifest: DatasetManifest, mix: Mix) -> None:
        self._folder, self._manifest, self._mix = folder, manifest, dict(mix)
        self._pictures: dict[SplitName, Pictures] = {}

    @property
    def pairs(self) -> Pairs:
        """The training pairs."""
        return self._mix[SplitName.TRAIN]

    def draw(self, block: Block) -> Block:
        """Draw the pairs of a block, and wait until the disk has them."""
        split, first, end = block
        if split not in self._pictures:
            store = _Store(self._folder / _DECODED)
            self._pictures = {split: store.pictures(self._manifest, split)}
        order = list(SplitName).index(split)
        drawn = [
            self._mix[split].draw(
                self._pictures[split], np.random.default_rng([self._manifest.seed, order, index])
            )
            for index in range(first, end)
        ]
        shapes = _shapes(self._mix[split], self._manifest.counts[split])
        for which, (kind, shape) in enumerate(shapes.items()):
            rows = np.stack([pair[which] for pair in drawn])
            if rows.shape[1:] != shape[1:] or rows.dtype != np.uint8:
                raise ArgumentError(
                    f"{kind} that were drawn are {rows.dtype} {rows.shape[1:]}, and the recipe's"
                    f" pairs say uint8 {shape[1:]}; see Pairs.draw"
                )
            path = self._folder / split / f"{kind}.npy"
            with translated(SinkError, path), path.open("r+b") as file:
                file.seek(len(_header(shape)) + first * math.prod(shape[1:]))
                file.write(rows.data)
                file.flush()
                os.fdatasync(file.fileno())
        return block


@contextlib.contextmanager
def _drawing(
    drawer: _Drawer, workers: int
) -> Iterator[Callable[[Sequence[Block]], Iterable[Block]]]:
    """Give a function that draws blocks, in this process or in several."""
    threads = cv2.getNumThreads()
    if workers < 2:
        cv2.setNumThreads(1)  # pictures are too small to share
        try:
            yield lambda blocks: map(drawer.draw, blocks)
        finally:
            cv2.setNumThreads(threads)
        return
    context = get_context("spawn")  # a fork would inherit locks of threads that it has not
    initial = (_own_module(drawer.pairs), pickle.dumps(drawer))
    pool = ProcessPoolExecutor(workers, context, _begin_worker, initial)
    try:
        yield lambda blocks: pool.map(_draw_in_worker, blocks)
    finally:
        pool.shutdown(cancel_futures=True)


def _own_module(pairs: Pairs) -> tuple[str, str] | None:
    """Return name and file of a recipe's module that nothing but its file leads to."""
    name = type(pairs).__module__
    file = getattr(sys.modules[name], "__file__", None)
    return None if file is None or PathFinder.find_spec(name.partition(".")[0]) else (name, file)


_drawer: _Drawer | None = None
"""What a worker process draws with."""


def _begin_worker(module: tuple[str, str] | None, drawer: bytes) -> None:
    global _drawer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    cv2.setNumThreads(1)
    if module is not None:
        spec = spec_from_file_location(*module)
        assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - it was loaded once
        sys.modules[module[0]] = made = module_from_spec(spec)
        spec.loader.exec_module(made)
    _drawer = pickle.loads(drawer)  # noqa: S301 - from our own process


def _draw_in_worker(block: Block) -> Block:
    assert _drawer is not None  # noqa: S101 - set when the process began
    return _drawer.draw(block)


def _complete(folder: Path, manifest: DatasetManifest, mix: Mix) -> None:
    """Write the contact sheet and the manifest with its digests."""
    arrays = {}
    for split in SplitName:
        files = {}
        for kind, shape in _shapes(mix[split], manifest.counts[split]).items():
            name = f"{split}/{kind}.npy"
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            files[kind] = ArrayFile(name, digest, shape)
        arrays[split] = SplitArrays(**files)
    done = msgspec.structs.replace(manifest, arrays=arrays)
    dataset = Dataset(folder, done)
    sheet = contact_sheet([dataset.split(split) for split in SplitName])
    _write(folder / SAMPLES_NAME, encode_image(sheet, None, folder / SAMPLES_NAME))
    _write_manifest(folder, done)
    (folder / _MADE).unlink(missing_ok=True)


def _write_manifest(folder: Path, manifest: DatasetManifest) -> None:
    _write(folder / MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def _write(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all."""
    beside = path.with_name(f"{path.name}.part")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
