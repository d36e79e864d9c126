"""The same run on several processes or machines, by Dask's scheduler: tasks are whole shards."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._version import __version__
from ..bundle.bundle import Bundle
from ..engine.adjustments import Adjustments
from ..engine.loader import Loader
from ..engine.restorer import Restorer
from ..errors import (
    ArgumentError,
    BundleError,
    InferenceError,
    MissingExtraError,
    NoAnswerError,
    first_line,
)
from ..extensions import install_command
from ..imaging.arrays import ChannelOrder
from .journal import WrittenShard
from .memory_budget import plan_budget
from .ome_zarr import is_zarr
from .plane_restorer import ChannelPlan, PlanePlan, PlaneRestorer
from .planes import PlaneSource
from .regions import Region
from .sharded_store import ShardedArray
from .tiff_planes import TiffPlanes
from .zarr_planes import ZarrPlanes
from .zarr_writer import Box, write_boxes

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskRun", "Unit", "WorkerSession", "bundle_digest", "check_address"]

_ANSWER_S = 10.0
_WORKERS_S = 60.0
_RETRIES = 2  # of a task that failed, by the scheduler
_KILLED = 3  # times that a task may be on a worker that dies
_LOCAL = re.compile(r"local:(\d{1,3})")
_PLUGIN = "edgerestore"

Unit = tuple[int, PlanePlan, Region, ShardedArray, list[Box]]
"""Number of a plane, how it is restored, a region of it, and where that is written."""
_Done = tuple[list[WrittenShard], int, int]


def bundle_digest(bundle: Bundle) -> str:
    """Return the hash of a bundle's variants."""
    return "-".join(bundle.digest(name) for name in sorted(bundle.manifest.variants))


@dataclass(frozen=True)
class WorkerSession:
    """What a worker restores, with what, and where it writes.

    Parameters
    ----------
    loader : Loader
        With the precision that was chosen.
    digests : tuple of str
        Of the bundles of its models.
    version : str
        Of edgerestore.
    strength : float
    adjustments : Adjustments
    order : ChannelOrder
    source : Path
        Where every worker finds the input.
    root : Path
        Where every worker finds the store.
    memory_bytes : int or None
        Budget of each worker.
    side_px : int
    workers : int
        Of this machine, which share its cores; 0 where each has its own.
    """

    loader: Loader
    digests: tuple[str, ...]
    version: str
    strength: float
    adjustments: Adjustments
    order: ChannelOrder
    source: Path
    root: Path
    memory_bytes: int | None
    side_px: int
    workers: int = 0

    def check(self) -> None:
        """Refuse another version of the package or of the model.

        Raises
        ------
        BundleError
        """
        if self.version != __version__:
            raise BundleError(
                f"a worker has edgerestore {__version__}, this run is of {self.version}; install"
                " the same on all of them"
            )
        found = tuple(bundle_digest(Bundle.find(name)) for name, _ in self.loader.parts)
        if found != self.digests:
            raise BundleError(
                f"a worker has another {self.loader.model} (its hash is {found[0][:16]}, this run's"
                f" {self.digests[0][:16]}); give all of them the same bundle"
            )


class _Plugin:
    """Keeps the compiled model and the open input of a worker."""

    name = _PLUGIN

    def __init__(self, session: WorkerSession) -> None:
        self.session = session

    def setup(self, worker: Any) -> None:
        """Check the worker; the model is compiled by its first task, off the event loop."""
        self.session.check()
        self._share_cores(worker)
        self._lock, self._opened = threading.Lock(), ExitStack()
        self._work: PlaneRestorer | None = None

    def close(self) -> None:
        """Free the device."""
        self._opened.close()

    def _share_cores(self, worker: Any) -> None:
        count, name = self.session.workers, getattr(worker, "name", 0)
        if count > 1 and hasattr(os, "sched_setaffinity") and str(name).isdigit():
            cores = sorted(os.sched_getaffinity(0))
            own = cores[int(name) % count :: count] or cores
            os.sched_setaffinity(0, own)

    def restore(
        self, number: int, channels: tuple[ChannelPlan, ...], region: Region, path: str, boxes: Any
    ) -> _Done:
        """Restore a region and write its shards."""
        with self._lock:  # another task reads and writes meanwhile
            work, source = self._ready()
            before = work.outside, work.blank
            plan = PlanePlan(source.planes[number], channels, ())
            ((_, image),) = work.restore(plan, [region])
            outside, blank = work.outside - before[0], work.blank - before[1]
        shards = write_boxes(ShardedArray(self.session.root, path), boxes, image)
        return shards, outside, blank

    def _ready(self) -> tuple[PlaneRestorer, PlaneSource]:
        if self._work is None:
            one = self.session
            restorer = self._opened.enter_context(
                Restorer(
                    one.loader.open(), strength=one.strength, order=one.order, loader=one.loader
                )
            )
            restorer.adjustments = one.adjustments
            gray = restorer.bundle.manifest.input.channels == 1
            source: Any = (
                ZarrPlanes(one.source, color=not gray)
                if is_zarr(one.source)
                else TiffPlanes(one.source)
            )
            self._source: PlaneSource = self._opened.enter_context(source)
            budget = plan_budget(
                restorer,
                self._source.planes,
                one.memory_bytes,
                side_px=one.side_px,
                where=one.source,
            )
            self._source.cache.most_bytes = budget.cache_bytes
            self._work = PlaneRestorer(restorer, self._source, budget)
        return self._work, self._source


def _restore_shards(
    number: int, channels: tuple[ChannelPlan, ...], region: Region, path: str, boxes: list[Box]
) -> _Done:
    """Task of a worker: idempotent, since a shard is replaced as a whole by the same bytes."""
    from distributed import get_worker

    plugins: Any = get_worker().plugins
    inner: _Plugin = plugins[_PLUGIN].inner
    return inner.restore(number, channels, region, path, boxes)


class DaskRun:
    """Tasks on the workers of a scheduler. A context manager.

    Parameters
    ----------
    address : str
        Of a scheduler, such as ``tcp://10.0.0.5:8786``, or ``local:N`` for N processes here.
    restorer : Restorer
        Opened by `load`; workers open the same model with its settings.
    source : Path
        The input, where every worker finds it by this name.
    memory_bytes : int or None
        Budget of each worker.
    side_px : int
        Of regions.
    root : Path
        The store, where every worker finds it by this name.

    Raises
    ------
    MissingExtraError
        When distributed is not installed.
    ArgumentError
        When the address is none.
    NoAnswerError
        When the scheduler does not answer, or has no workers.
    BundleError
        When a worker has another version or another bundle.
    """

    def __init__(
        self,
        address: str,
        restorer: Restorer,
        source: Path,
        memory_bytes: int | None,
        side_px: int,
        root: Path,
    ) -> None:
        check_address(address)
        try:
            import distributed
        except ImportError as error:
            raise MissingExtraError(
                f"--dask needs distributed: {install_command('distributed')}"
            ) from error
        if restorer.loader is None:
            raise ArgumentError("only what load() opened can be opened on other workers")
        local = _LOCAL.fullmatch(address)
        loader = restorer.loader
        session = WorkerSession(
            replace(loader, precision=str(restorer.precision)),
            tuple(bundle_digest(Bundle.find(name)) for name, _ in loader.parts),
            __version__,
            restorer.strength,
            restorer.adjustments,
            restorer.order,
            source.resolve(),
            root.resolve(),
            memory_bytes,
            side_px,
            int(local[1]) if local else 0,
        )
        self._address, self._stack = address, ExitStack()
        self._killed: type[Exception] = distributed.KilledWorker
        for name in ("distributed", "distributed.worker", "distributed.nanny"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self._client: Client = self._stack.enter_context(self._connected(local))
            self._register(session)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def restore(
        self,
        units: Iterable[Unit],
        note: Callable[[Sequence[WrittenShard]], None],
        on_written: Callable[[], None],
    ) -> tuple[int, int]:
        """Restore regions on the workers, in any order.

        Returns
        -------
        (int, int)
            Values outside of their range, and regions of one value, as `PlaneRestorer` counts.

        Raises
        ------
        InferenceError
            When a task has been on several workers that died.
        EdgerestoreError
            What a task fails with.
        """
        from distributed import as_completed

        totals = [0, 0]
        rest = iter(units)
        waiting: dict[Any, tuple[Unit, int]] = {}
        completed = as_completed()
        self._start_more(rest, waiting, completed)
        try:
            while waiting:
                future = next(completed)
                unit, deaths = waiting.pop(future)
                try:
                    shards, outside, blank = future.result()
                except self._killed as error:
                    # Each task of a worker that died is suspected, whichever it was.
                    if deaths + 1 >= _KILLED:
                        raise InferenceError(
                            f"workers died {_KILLED} times over {unit[2]} of plane {unit[0] + 1};"
                            " give them more memory, or a smaller --memory"
                        ) from error
                    self._start(unit, deaths + 1, waiting, completed)
                    continue
                note(shards)
                totals[0] += outside
                totals[1] += blank
                on_written()
                future.release()
                self._start_more(rest, waiting, completed)
        finally:
            if waiting:
                self._client.cancel(list(waiting), force=True)
        return totals[0], totals[1]

    def _start_more(self, rest: Iterator[Unit], waiting: dict[Any, Any], completed: Any) -> None:
        """Keep every thread of the workers busy, and one task ready for each."""
        threads = sum(self._client.nthreads().values())
        while len(waiting) < max(2, 2 * threads):
            unit = next(rest, None)
            if unit is None:
                return
            self._start(unit, 0, waiting, completed)

    def _start(self, unit: Unit, deaths: int, waiting: dict[Any, Any], completed: Any) -> None:
        number, plan, region, array, boxes = unit
        future = self._client.submit(
            _restore_shards,
            number,
            plan.channels,
            region,
            array.path,
            boxes,
            key=f"{self._client.id}-{array.path}-{number}-{region.top}-{region.left}-{deaths}",
            pure=False,
            retries=_RETRIES,
        )
        waiting[future] = (unit, deaths)
        completed.add(future)

    def _connected(self, local: re.Match[str] | None) -> Client:
        from distributed import Client, LocalCluster

        if local:
            cluster = LocalCluster(
                n_workers=int(local[1]),
                threads_per_worker=2,
                processes=True,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=logging.CRITICAL,
            )
            self._stack.enter_context(cluster)
            return Client(cluster, timeout=_WORKERS_S)
        try:
            client = Client(self._address, timeout=_ANSWER_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise NoAnswerError(
                f"{self._address}: no Dask scheduler answers within {_ANSWER_S:.0f} s; check the"
                " address"
            ) from error
        try:
            client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError as error:
            client.close()
            raise NoAnswerError(
                f"{self._address}: has no workers, for {_WORKERS_S:.0f} s; start some"
            ) from error
        return client

    def _register(self, session: WorkerSession) -> None:
        from distributed import WorkerPlugin

        # The base class is imported with distributed alone, so the plugin holds ours.
        class EdgerestorePlugin(WorkerPlugin):
            name = _PLUGIN

            def __init__(self, inner: _Plugin) -> None:
                self.inner = inner

            def setup(self, worker: Any) -> None:
                self.inner.setup(worker)

            def teardown(self, worker: Any) -> None:  # noqa: ARG002 - as Dask calls it
                self.inner.close()

        try:
            self._client.register_plugin(EdgerestorePlugin(_Plugin(session)))
        except (BundleError, ArgumentError):
            raise
        except Exception as error:  # of a worker without the package: whatever its pickle raises
            raise BundleError(
                f"{self._address}: a worker cannot run edgerestore ({first_line(error)}); install"
                " the same version there"
            ) from error


def check_address(address: str) -> None:
    """Refuse what is no address of a scheduler.

    Raises
    ------
    ArgumentError
    """
    local = _LOCAL.fullmatch(address)
    if (local and int(local[1])) or re.fullmatch(r"(tcp|tls|ws|wss|ucx)://[^/\s]+:\d+", address):
        return
    raise ArgumentError(f"--dask is tcp://HOST:PORT or local:N, got {address!r}")
