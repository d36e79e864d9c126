"""The photo server as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import signal
import socket
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from ..errors import ArgumentError, EdgerestoreError, SinkError, first_line
from .address import Address, checked_address, is_local_name
from .jobs import Jobs
from .operations import Workbench
from .photo_routes import photo_app
from .pictures import Pictures
from .settings import RELOADABLE, ServeSettings, read_settings

__all__ = ["serve"]

logger = logging.getLogger(__name__)


def serve(config: Path | None, options: dict[str, Any]) -> None:
    """Serve until SIGINT or SIGTERM; SIGHUP reads the settings again.

    Parameters
    ----------
    config : Path or None
    options : dict
        Settings of the command line; None where not given.

    Raises
    ------
    ArgumentError
        On a wrong setting.
    SinkError
        When the address is in use, or the data folder cannot be used.
    """
    settings = read_settings(config, **options)
    with _listener(checked_address(settings.host, settings.port)) as listener:
        workbench = Workbench(settings.models, settings.device, settings.precision)
        with _FolderLock(settings.data):
            pictures = Pictures(settings.data / "pictures")
            jobs = Jobs(settings.data / "jobs", pictures, workbench)
            try:
                server = _Server(config, options, settings, pictures, jobs, workbench)
                server.run([listener])
            finally:
                jobs.close()
                workbench.close()
    if server.interrupted:
        raise KeyboardInterrupt


class _Server(uvicorn.Server):
    """uvicorn, which ends streams of events before it waits for connections to end."""

    interrupted = False

    def __init__(
        self,
        path: Path | None,
        options: dict[str, Any],
        settings: ServeSettings,
        pictures: Pictures,
        jobs: Jobs,
        workbench: Workbench,
    ) -> None:
        self._path, self._options, self._settings, self._jobs = path, options, settings, jobs
        app = photo_app(lambda: self._settings, pictures, jobs, workbench)
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                limit_concurrency=256,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve from now on, and say where."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reload)
        for one in sockets or []:
            host, port = one.getsockname()[:2]
            logger.info("serving on http://%s/", Address(host, port))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """End; at once where it is asked for twice.

        uvicorn's own raises the signal again, which would end the process before the job has.
        """
        self._jobs.end_events()
        self.force_exit = self.should_exit
        self.should_exit = True
        self.interrupted = self.interrupted or sig == signal.SIGINT

    def _reload(self) -> None:
        try:
            fresh = read_settings(self._path, **self._options)
        except EdgerestoreError as error:
            logger.warning("settings stay as they are: %s", first_line(error))
            return
        changed = {
            name
            for name in ServeSettings.model_fields
            if getattr(fresh, name) != getattr(self._settings, name)
        }
        kept = {name: getattr(self._settings, name) for name in changed - RELOADABLE}
        self._settings = fresh.model_copy(update=kept)
        if changed & RELOADABLE:
            logger.info("settings changed: %s", ", ".join(sorted(changed & RELOADABLE)))
        if kept:
            logger.warning("settings that need a restart: %s", ", ".join(sorted(kept)))
        if not changed:
            logger.info("settings are as they were")


def _listener(address: Address) -> socket.socket:
    family, numeric = address.resolved()
    if not is_local_name(numeric):
        raise ArgumentError(
            f"{address}: other machines would reach it; use 127.0.0.1, and a proxy with a login"
        )
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((numeric, address.port))
    except OSError as error:
        made.close()
        raise SinkError(
            f"{address}: cannot be listened on ({error.strerror}); choose another --port"
        ) from error
    return made


class _FolderLock:
    """Lock of a data folder: two servers would run each other's jobs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = (self._folder / "lock").open("w")
        except OSError as error:
            raise SinkError(f"{self._folder}: cannot be used ({error.strerror})") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise SinkError(
                f"{self._folder}: another server uses it; give this one another --data"
            ) from error

    def __exit__(self, *_: object) -> None:
        self._file.close()
