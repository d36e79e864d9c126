"""The same run on several processes: the same bytes, whichever of them dies."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import threading
import time

import numpy as np
import pytest
import tifffile

import edgerestore
from edgerestore.errors import ArgumentError, BundleError, NoAnswerError
from edgerestore.microscopy import dask_run, memory_budget
from edgerestore.microscopy.restore_planes import PlanesOptions, restore_planes

from ..bundles import write_bundle

# Dask's own: sockets of processes that were killed on purpose.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("models") / "grey", channels=1, width=8)


@pytest.fixture
def restorer(bundle):
    with edgerestore.load(bundle.folder, precision="fp32", tile=256) as made:
        yield made


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A picture of twelve shards."""
    monkeypatch.setattr(memory_budget, "_SIDES_PX", (512,))
    image = np.random.default_rng(0).integers(100, 1000, (2000, 1500), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "in.ome.tif", image, tile=(256, 256), ome=True)
    return tmp_path / "in.ome.tif"


def files(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def workers_of(process):
    """Return the processes that a process started, and theirs."""
    found, todo = [], [process]
    while todo:
        parent = todo.pop()
        for entry in os.listdir("/proc"):  # noqa: PTH208
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/stat") as stat:  # noqa: PTH123
                        fields = stat.read().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[1]) == parent:
                    found.append(int(entry))
                    todo.append(int(entry))
    return found


def test_processes_write_the_bytes_of_one_though_one_is_killed(restorer, source, tmp_path):
    restore_planes(restorer, source, tmp_path / "one.zarr")
    killed = threading.Event()

    def tick(done, total):
        if done == 3 and not killed.is_set():
            # The youngest is a worker: its parent starts another one in its place.
            killed.set()
            os.kill(max(workers_of(os.getpid())), signal.SIGKILL)

    summary = restore_planes(
        restorer,
        source,
        tmp_path / "two.zarr",
        PlanesOptions(dask="local:2"),
        on_progress=tick,
    )
    assert killed.is_set()
    assert summary.regions == 12
    assert files(tmp_path / "two.zarr") == files(tmp_path / "one.zarr")


def test_a_scheduler_that_is_not_there_is_one_line(restorer, source, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_run, "_ANSWER_S", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    begun_s = time.monotonic()
    with pytest.raises(NoAnswerError, match=f"{address}: no Dask scheduler answers within 1 s"):
        restore_planes(restorer, source, tmp_path / "out.zarr", PlanesOptions(dask=address))
    assert time.monotonic() - begun_s < 30
    assert not [one for one in tmp_path.iterdir() if "partial" in one.name]


@pytest.mark.parametrize("address", ["local:0", "here", "tcp://host", "http://a:1"])
def test_no_address_of_a_scheduler(restorer, source, tmp_path, address):
    with pytest.raises(ArgumentError, match=r"--dask is tcp://HOST:PORT or local:N"):
        restore_planes(restorer, source, tmp_path / "out.zarr", PlanesOptions(dask=address))


def session(restorer, source, **changes):
    loader = restorer.loader
    made = dask_run.WorkerSession(
        loader,
        (dask_run.bundle_digest(restorer.bundle),),
        edgerestore.__version__,
        1.0,
        restorer.adjustments,
        restorer.order,
        source,
        source,
        None,
        512,
    )
    return dataclasses.replace(made, **changes)


def test_workers_with_another_model_or_version_are_refused(restorer, source):
    session(restorer, source).check()
    with pytest.raises(BundleError, match=r"another .*grey \(its hash is"):
        session(restorer, source, digests=("0123456789abcdef",)).check()
    with pytest.raises(BundleError, match=r"this run is of 0\.0; install the same"):
        session(restorer, source, version="0.0").check()


def test_the_refusal_of_a_worker_is_the_run_s(restorer, source, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_run, "bundle_digest", lambda _bundle: "0" * 16)
    with pytest.raises(BundleError, match="a worker has another"):
        restore_planes(restorer, source, tmp_path / "out.zarr", PlanesOptions(dask="local:1"))
