"""Stores that are written by whole shards: nothing is lost, whatever ends the writing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.errors import ArgumentError, SinkError
from edgerestore.microscopy.sharded_store import ArrayLayout, ShardedStore, partial_store


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """What waits for the disk is told by no test: only a power cut does."""
    monkeypatch.setattr(os, "fsync", lambda _file: None)


FACTS = {"strength": 0.7, "model": "abc"}


def layout(**changes):
    values = {
        "path": "0",
        "shape": (2, 150, 170),
        "chunks": (1, 32, 32),
        "dtype": np.dtype("uint16"),
        "shards": (1, 64, 64),
        "dimension_names": ("c", "y", "x"),
        **changes,
    }
    return ArrayLayout(**values)


def noise(shape, dtype="uint16", seed=0):
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def box(array, index):
    start = [at * part for at, part in zip(index, array.shard, strict=True)]
    ends = zip(start, array.shard, array.shape, strict=True)
    return start, tuple(slice(at, min(at + part, whole)) for at, part, whole in ends)


def fill(store, array, data, only=lambda _number: True):
    for number, index in enumerate(array.indices()):
        start, spot = box(array, index)
        if only(number) and not store.is_done(array, start, data[spot].shape):
            store.write(array, start, data[spot])


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("compression", ["zstd", "zstd:5", "blosc", "gzip:1", "none"])
@pytest.mark.parametrize("form", [2, 3])
def test_what_was_written_is_there_under_its_final_name(tmp_path, form, compression):
    final, data = tmp_path / "a.zarr", noise((2, 150, 170))
    with ShardedStore(final, FACTS) as store:
        shards = (1, 64, 64) if form == 3 else None
        array = store.array(layout(zarr_format=form, shards=shards, compression=compression))
        fill(store, array, data)
        assert not final.exists()
        store.commit()
    np.testing.assert_array_equal(zarr.open_array(final / "0", mode="r")[...], data)
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(1, 90), min_size=2, max_size=4),
    st.integers(1, 20),
    st.integers(1, 3),
    st.sampled_from(["uint8", "uint16", "float32"]),
)
def test_any_shape_and_shard(tmp_path_factory, shape, chunk, several, dtype):
    final = tmp_path_factory.mktemp("any") / "a.zarr"
    # Few shards: each is a file that is waited for.
    chunks = tuple(min(max(chunk, -(-side // (2 * several))), side) for side in shape)
    data = noise(shape, dtype)
    with ShardedStore(final, FACTS) as store:
        array = store.array(
            layout(
                shape=tuple(shape),
                chunks=chunks,
                shards=tuple(several * one for one in chunks),
                dtype=np.dtype(dtype),
                dimension_names=None,
            )
        )
        # All in one call where it fits, shard by shard else.
        store.write(array, [0] * len(shape), data)
        assert store.is_done(array, [0] * len(shape), shape)
        np.testing.assert_array_equal(array.read([0] * len(shape), shape), data)
        store.commit()


def test_shards_of_zeros_are_files_too(tmp_path):
    with ShardedStore(tmp_path / "a.zarr", FACTS) as store:
        array = store.array(layout())
        fill(store, array, np.zeros((2, 150, 170), np.uint16))
        assert not store.lost()
        store.commit()
    found = zarr.open_array(tmp_path / "a.zarr/0", mode="r")
    assert not np.any(found[...])
    assert len([name for name in files(tmp_path / "a.zarr") if "/c/" in name]) == 2 * 3 * 3


def test_eight_writers_lose_nothing(tmp_path):
    data = noise((2, 600, 600))
    with ShardedStore(tmp_path / "a.zarr", FACTS) as store:
        array = store.array(layout(shape=data.shape))
        todo = list(array.indices())

        def work():
            while True:
                try:
                    index = todo.pop()
                except IndexError:
                    return
                start, spot = box(array, index)
                store.write(array, start, data[spot])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        store.commit()
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr/0", mode="r")[...], data)


def unbroken(folder, data):
    with ShardedStore(folder / "whole.zarr", FACTS) as store:
        fill(store, store.array(layout()), data)
        store.commit()
    return files(folder / "whole.zarr")


def torn(root, journal):
    path = root / "0/c/0/0/1"
    path.write_bytes(path.read_bytes()[:-7])


def deleted(root, journal):
    (root / "0/c/0/1/0").unlink()


def flipped(root, journal):
    path = root / "0/c/0/0/2"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def strays(root, journal):
    (root / "0/c/0/0/.1.abcd.partial").write_bytes(b"half")
    (root / "0/c/1/2").mkdir(parents=True, exist_ok=True)
    (root / "0/c/1/2/2").write_bytes(b"not in the journal")


def torn_line(root, journal):
    journal.write_bytes(journal.read_bytes()[:-9])


def garbled_line(root, journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], b'{"shard": 12\n', *lines[3:]]))


@pytest.mark.parametrize("damage", [torn, deleted, flipped, strays, torn_line, garbled_line])
def test_what_an_ended_run_left_damaged_is_written_again(tmp_path, damage):
    data = noise((2, 150, 170))
    wanted = unbroken(tmp_path, data)
    final = tmp_path / "a.zarr"
    with ShardedStore(final, FACTS) as store:
        fill(store, store.array(layout()), data, lambda number: number < 7)
    damage(partial_store(final), tmp_path / "a.partial.zarr.journal")
    with ShardedStore(final, FACTS, resume=True) as store:
        assert store.resumed
        fill(store, store.array(layout()), data)
        store.commit()
    assert files(final) == wanted


def test_only_what_is_missing_is_written_again(tmp_path):
    data, final = noise((2, 150, 170)), tmp_path / "a.zarr"
    with ShardedStore(final, FACTS) as store:
        fill(store, store.array(layout()), data, lambda number: number < 7)
    with ShardedStore(final, FACTS, resume=True) as store:
        array = store.array(layout())
        todo = [
            index
            for index in array.indices()
            if not store.is_done(array, box(array, index)[0], data[box(array, index)[1]].shape)
        ]
        assert len(todo) == 18 - 7


KILLED = """
import sys, numpy as np
sys.path.insert(0, sys.argv[2])
from test_sharded_store import FACTS, fill, layout, noise
from edgerestore.microscopy.sharded_store import ShardedStore
from pathlib import Path
with ShardedStore(Path(sys.argv[1]), FACTS, resume=True) as store:
    array = store.array(layout())
    print("begun", flush=True)
    fill(store, array, noise((2, 150, 170)))
    store.commit()
"""


def test_killed_at_random_moments(tmp_path):
    """Each run does something before it is killed; what is left goes on byte for byte."""
    wanted = unbroken(tmp_path, noise((2, 150, 170)))
    rng = np.random.default_rng(3)
    final = tmp_path / "a.zarr"
    here = str(Path(__file__).parent)
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(final), here], stdout=subprocess.PIPE
        ) as run:
            assert run.stdout is not None
            if run.stdout.readline():
                time.sleep(float(rng.uniform(0, 0.03)))
            run.kill()
        if final.exists():
            break
    if not final.exists():
        subprocess.run([sys.executable, "-c", KILLED, str(final), here], check=True)
    assert files(final) == wanted


def test_another_run_is_refused_by_what_differs(tmp_path):
    final = tmp_path / "a.zarr"
    with ShardedStore(final, FACTS) as store:
        fill(store, store.array(layout()), noise((2, 150, 170)), lambda number: number < 2)
    with pytest.raises(SinkError, match=r"strength was 0\.7 and is 0\.5"):
        ShardedStore(final, {**FACTS, "strength": 0.5}, resume=True)
    with pytest.raises(SinkError, match=r"an unfinished run left a\.partial\.zarr"):
        ShardedStore(final, FACTS)
    with ShardedStore(final, {**FACTS, "strength": 0.5}, overwrite=True) as store:
        assert not store.resumed


def test_a_run_that_goes_on_is_left_alone(tmp_path):
    with ShardedStore(tmp_path / "a.zarr", FACTS):
        for resume in (True, False):
            with pytest.raises(SinkError, match="another run is writing"):
                ShardedStore(tmp_path / "a.zarr", FACTS, resume=resume, overwrite=not resume)


def test_no_journal_of_ours(tmp_path):
    (tmp_path / "a.partial.zarr").mkdir()
    (tmp_path / "a.partial.zarr.journal").write_text("hello\n")
    with pytest.raises(SinkError, match="is no journal"):
        ShardedStore(tmp_path / "a.zarr", FACTS, resume=True)
    (tmp_path / "a.partial.zarr.journal").write_text(
        json.dumps({"format": 9, "key": "", "facts": {}}) + "\n"
    )
    with pytest.raises(SinkError, match="another version"):
        ShardedStore(tmp_path / "a.zarr", FACTS, resume=True)


def test_a_store_that_is_not_whole_gets_no_final_name(tmp_path):
    with ShardedStore(tmp_path / "a.zarr", FACTS) as store:
        array = store.array(layout())
        fill(store, array, noise((2, 150, 170)), lambda number: number != 4)
        with pytest.raises(SinkError, match=r"1 shard of it, the first 0/c/0/1/1"):
            store.commit()
    assert not (tmp_path / "a.zarr").exists()


def test_what_is_there_is_kept(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr/notes.txt").write_text("mine")
    with pytest.raises(SinkError, match="exists"):
        ShardedStore(tmp_path / "a.zarr", FACTS)
    with pytest.raises(SinkError, match="no Zarr store"):
        ShardedStore(tmp_path / "a.zarr", FACTS, overwrite=True)
    with pytest.raises(SinkError, match="is not there; create it"):
        ShardedStore(tmp_path / "missing/a.zarr", FACTS)


def test_a_finished_store_is_replaced_when_that_is_asked(tmp_path):
    for seed in range(2):
        with ShardedStore(tmp_path / "a.zarr", FACTS, overwrite=True) as store:
            store.group("", {}, 3)
            fill(store, store.array(layout()), noise((2, 150, 170), seed=seed))
            store.commit()
    found = zarr.open_array(tmp_path / "a.zarr/0", mode="r")[...]
    np.testing.assert_array_equal(found, noise((2, 150, 170), seed=1))
    assert [one.name for one in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("start", [(0, 1, 0), (0, 0, 64)])
def test_parts_of_shards_are_refused(tmp_path, start):
    with ShardedStore(tmp_path / "a.zarr", FACTS) as store:
        array = store.array(layout())
        with pytest.raises(ArgumentError, match="not of whole shards"):
            store.write(array, start, noise((1, 64, 63)))


def test_compressions_that_are_not_known(tmp_path):
    with ShardedStore(tmp_path / "a.zarr", FACTS) as store:
        for name in ("lzw", "zstd:99", "none:1"):
            with pytest.raises(ArgumentError, match="compression is one of zstd"):
                store.array(layout(compression=name))
