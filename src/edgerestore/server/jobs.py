"""Jobs of the photo server: a bounded queue, one at a time, kept on disk, told by events."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import EdgerestoreError, first_line
from ..imaging.arrays import Image
from .operations import Cancelled, Recipe, Workbench
from .pictures import Pictures, encoded_result, write_whole

__all__ = ["Job", "JobState", "Jobs", "QueueFull"]

logger = logging.getLogger(__name__)
_MOST_EVENTS = 64
_TICK_S = 0.25  # progress is told no more often
_BEAT_S = 15.0  # a comment, so that proxies keep the connection


class JobState(StrEnum):
    """State of a job."""

    QUEUED = "queued"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether nothing more happens."""
        return self not in (JobState.QUEUED, JobState.WORKING)


class Job(BaseModel):
    """A recipe that is run on a picture."""

    id: str
    owner: str
    picture: str
    recipe: Recipe
    format: str = "auto"
    state: JobState = JobState.QUEUED
    created_s: float = 0.0
    progress: float = 0.0
    message: str = ""
    """Why it failed, or what was changed about the file; one line."""
    name: str = ""
    """Of the result's file."""
    width: int = 0
    height: int = 0


class QueueFull(Exception):  # noqa: N818 - an answer
    """No further job is taken now.

    Parameters
    ----------
    reason : str
    retry_s : int
        When it is worth trying again.
    """

    def __init__(self, reason: str, retry_s: int) -> None:
        super().__init__(reason)
        self.retry_s = retry_s


class Jobs:
    """Queue of jobs, worked off by one thread; it survives the page and the server.

    Jobs that waited when the server ended are run by the next one; one that ran then is
    ``interrupted``.

    Parameters
    ----------
    folder : Path
    pictures : Pictures
    workbench : Workbench
    """

    def __init__(self, folder: Path, pictures: Pictures, workbench: Workbench) -> None:
        self._folder, self._pictures, self._workbench = folder, pictures, workbench
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list[tuple[int, str]]] = {}
        self._lock = threading.Condition()
        self._cancelled: set[str] = set()
        self._closing = False
        self._listeners: set[Callable[[], None]] = set()
        self._took_s = 2.0  # of a job, as measured lately
        self._began_s = 0.0
        self._restore()
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def submit(self, job: Job, queue: int, per_user: int) -> Job:
        """Queue a job.

        Raises
        ------
        QueueFull
        """
        with self._lock:
            open_ones = [one for one in self._jobs.values() if not one.state.ended]
            mine = sum(one.owner == job.owner for one in open_ones)
            retry_s = max(1, round(self._took_s * len(open_ones)))
            if mine >= per_user:
                raise QueueFull(f"{mine} of your jobs are waiting: the limit", retry_s)
            if len(open_ones) >= queue:
                raise QueueFull(f"{queue} jobs are waiting: the queue is full", retry_s)
            made = job.model_copy(update={"id": secrets.token_hex(16), "created_s": time.time()})
            self._jobs[made.id] = made
            self._save(made)
            self._tell(made)
            self._lock.notify_all()
        return made

    def find(self, ident: str, owner: str) -> Job | None:
        """Return a job of an owner; None for any other."""
        job = self._jobs.get(ident)
        return job if job is not None and job.owner == owner else None

    def told(self, job: Job) -> dict[str, Any]:
        """Return a job as clients see it: with its place in the queue, and the time left."""
        made = job.model_dump(mode="json", exclude={"owner"})
        made["position"] = self._position(job)
        made["eta_s"] = self._eta_s(job)
        return made

    def cancel(self, job: Job) -> None:
        """Cancel a job that waits or runs; delete one that has ended."""
        with self._lock:
            job = self._jobs.get(job.id, job)
            if job.state is JobState.QUEUED:
                self._change(job, state=JobState.CANCELLED)
            elif job.state is JobState.WORKING:
                self._cancelled.add(job.id)
            else:
                self._forget(job)

    def result(self, job: Job) -> Path:
        """Return the path of a job's result."""
        return self._folder / f"{job.id}.result"

    def delete_of(self, owner: str) -> None:
        """Cancel what an owner's jobs do, and delete them."""
        with self._lock:
            for job in [one for one in self._jobs.values() if one.owner == owner]:
                if job.state is JobState.WORKING:
                    self._cancelled.add(job.id)
                else:
                    self._forget(job)

    def counts(self) -> dict[str, int]:
        """Return the number of jobs by state."""
        with self._lock:
            states = [one.state for one in self._jobs.values()]
        return {str(one): states.count(one) for one in JobState}

    async def events(self, job: Job, after: int) -> AsyncIterator[str]:
        """Yield a job's server-sent events after a number, until it has ended."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(changed.set)

        self._listeners.add(wake)
        try:
            while not self._closing:
                changed.clear()
                # Looked up before its events, of which the last is noted before it has ended.
                current = self._jobs.get(job.id)
                for number, text in list(self._events.get(job.id, [])):
                    if number > after:
                        after = number
                        yield f"id: {number}\nevent: job\ndata: {text}\n\n"
                if current is None or current.state.ended:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), _BEAT_S)
                except TimeoutError:
                    yield ": waiting\n\n"
        finally:
            self._listeners.discard(wake)

    def end_events(self) -> None:
        """End every stream of events, and take no further job off the queue."""
        self._closing = True
        self._wake()

    def close(self) -> None:
        """Stop after the current tile; what ran is ``interrupted``."""
        self.end_events()
        with self._lock:
            self._lock.notify_all()
        self._thread.join(timeout=5)

    # All that follows runs under the lock or on the worker's thread.

    def _restore(self) -> None:
        for part in self._folder.glob("*.part"):
            part.unlink(missing_ok=True)
        found = []
        for path in self._folder.glob("*.json"):
            try:
                found.append(Job.model_validate_json(path.read_bytes()))
            except (OSError, ValidationError) as error:
                logger.warning("%s: no job; left out (%s)", path, first_line(error))
        for job in sorted(found, key=lambda one: one.created_s):
            self._jobs[job.id] = job
            if job.state is JobState.WORKING:
                self._change(
                    job,
                    state=JobState.INTERRUPTED,
                    message="the server ended while it ran; start it again",
                )
            else:
                self._tell(job)

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._closing and self._next() is None:
                    self._lock.wait()
                job = self._next()
                if self._closing or job is None:
                    return
                job = self._change(job, state=JobState.WORKING)
                self._began_s = time.monotonic()
            self._finish(job)

    def _finish(self, job: Job) -> None:
        change: dict[str, Any]
        try:
            change = self._run(job)
            self._took_s = 0.7 * self._took_s + 0.3 * (time.monotonic() - self._began_s)
        except Cancelled:
            state = JobState.INTERRUPTED if self._closing else JobState.CANCELLED
            change = {"state": state, "message": "the server ended" if self._closing else ""}
        except EdgerestoreError as error:
            change = {"state": JobState.FAILED, "message": first_line(error)}
        except MemoryError:
            change = {
                "state": JobState.FAILED,
                "message": "too large for the memory",
            }
        except Exception as error:
            logger.exception("job %s failed", job.id)
            change = {"state": JobState.FAILED, "message": first_line(error)}
        with self._lock:
            cancelled = job.id in self._cancelled
            self._cancelled.discard(job.id)
            try:
                self._change(self._jobs[job.id], **change)
            except EdgerestoreError as error:  # the disk is full
                change = {"state": JobState.FAILED, "message": first_line(error)}
                self._jobs[job.id] = self._jobs[job.id].model_copy(update=change)
                self._tell(self._jobs[job.id])
            if cancelled and self._pictures.find(job.picture, job.owner) is None:
                self._forget(self._jobs[job.id])

    def _run(self, job: Job) -> dict[str, Any]:
        picture = self._pictures.find(job.picture, job.owner)
        if picture is None:
            raise EdgerestoreError("its picture was deleted")
        told_s = 0.0

        def progress(share: float) -> None:
            nonlocal told_s
            if self._closing or job.id in self._cancelled:
                raise Cancelled
            if time.monotonic() - told_s >= _TICK_S:
                told_s = time.monotonic()
                with self._lock:
                    self._jobs[job.id] = self._jobs[job.id].model_copy(
                        update={"progress": round(share, 3)}
                    )
                    self._tell(self._jobs[job.id])

        def other(ident: str) -> Image:
            found = self._pictures.find(ident, job.owner)
            if found is None:
                raise EdgerestoreError("the background's picture was deleted")
            return self._pictures.read(found)[0]

        original, tags = self._pictures.read(picture)
        image = self._workbench.run(original, list(job.recipe), other, progress)
        data, name, note = encoded_result(image, tags, picture.name, job.format)
        progress(1.0)
        write_whole(self.result(job), data)
        height, width = image.shape[:2]
        return {
            "state": JobState.DONE,
            "progress": 1.0,
            "name": name,
            "message": note,
            "width": width,
            "height": height,
        }

    def _next(self) -> Job | None:
        return next((one for one in self._jobs.values() if one.state is JobState.QUEUED), None)

    def _position(self, job: Job) -> int:
        """Return how many jobs are before it, and 1; 0 for what does not wait."""
        if job.state is not JobState.QUEUED:
            return 0
        open_ones = [one.id for one in list(self._jobs.values()) if not one.state.ended]
        return open_ones.index(job.id) + 1 if job.id in open_ones else 0

    def _eta_s(self, job: Job) -> float | None:
        if job.state is JobState.QUEUED:
            return round(self._took_s * self._position(job), 1)
        if job.state is JobState.WORKING and job.progress > 0:
            took_s = time.monotonic() - self._began_s
            return round(took_s * (1 - job.progress) / job.progress, 1)
        return None

    def _change(self, job: Job, **change: Any) -> Job:
        made = job.model_copy(update=change)
        self._save(made)
        self._note(made)
        self._jobs[made.id] = made
        self._wake()
        return made

    def _tell(self, job: Job) -> None:
        self._note(job)
        self._wake()

    def _note(self, job: Job) -> None:
        rows = self._events.setdefault(job.id, [])
        # Numbered by time, so that a client goes on after the server was started anew.
        number = max(round(time.time() * 1000), rows[-1][0] + 1 if rows else 0)
        rows.append((number, json.dumps(self.told(job))))
        del rows[:-_MOST_EVENTS]

    def _wake(self) -> None:
        for wake in list(self._listeners):
            wake()

    def _save(self, job: Job) -> None:
        write_whole(self._folder / f"{job.id}.json", job.model_dump_json().encode())

    def _forget(self, job: Job) -> None:
        for end in ("json", "result"):
            (self._folder / f"{job.id}.{end}").unlink(missing_ok=True)
        self._jobs.pop(job.id, None)
        self._events.pop(job.id, None)
