"""Switch to another model while a stream runs."""

from __future__ import annotations

import threading
from contextlib import suppress

from ..engine.cancellation import cancelled_by, check_cancelled
from ..engine.restorer import Restorer
from ..errors import ArgumentError, BusyError, InferenceError
from .events import EventKind, EventLog

__all__ = ["ModelSwitch", "Wanted"]

_TRIAL_S = 120.0  # for the first frame of another model

Wanted = tuple[str | None, str | None]
"""Model and precision as they were asked for; None as the restorer was opened."""


class ModelSwitch:
    """Replaces the model of a restorer while frames go on; none of them is lost.

    The other model is opened, compiled and run once on a thread of its own while the present
    one works on. The next frame submitted goes to it; images in flight are finished by the old
    one, which is then closed. Settings are the restorer's and stay.

    Parameters
    ----------
    restorer : Restorer
        Closed by its owner.
    log : EventLog
        Gets ``SWITCHED`` or ``REFUSED``.
    """

    def __init__(self, restorer: Restorer, log: EventLog) -> None:
        self.restorer, self._log = restorer, log
        self._asked: Wanted = (None, None)
        self._running: Wanted = (None, None)
        self._hung: list[Restorer] = []
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._cancelled = threading.Event()  # of the latest switch
        self._lock = threading.Lock()

    @property
    def asked(self) -> tuple[str | None, str | None]:
        """Model and precision that were asked for last; None as the restorer was opened."""
        return self._asked

    @property
    def switching(self) -> bool:
        """Whether another model is being made ready."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        """Make another model ready in the background; see `Controls.switch`."""
        if model is None and precision is None:
            raise ArgumentError("a switch names a model, a precision, or both")
        if model is not None and self.restorer.loader is not None:
            self.restorer.loader.find(model)
        # A model keeps the precision that was asked for, not the one that auto chose.
        self.adapt(model, precision, asked=True)

    def adapt(self, model: str | None, precision: str | None, *, asked: bool = False) -> None:
        """Switch, by default for the sake of speed; None is what was ``asked`` for last.

        Raises
        ------
        BusyError
            When another switch is under way.
        """
        with self._lock:
            if self._closed.is_set():
                raise InferenceError("the restorer is closed")
            if self.switching:
                raise BusyError("another switch is under way; ask again when it is done")
            wanted = (model or self._asked[0], precision or self._asked[1])
            if wanted == self._running:
                self._asked = wanted if asked else self._asked
                return
            self._cancelled = threading.Event()
            self._thread = threading.Thread(
                target=self._prepare,
                args=(wanted, self._cancelled, asked),
                name="edgerestore-switch",
                daemon=True,
            )
            self._thread.start()

    def cancel(self) -> None:
        """Cancel a switch under way; see `Controls.cancel_switch`."""
        self._cancelled.set()

    def take(self, model: str) -> bool:
        """Replace the model at once, as the one that is asked for.

        Returns
        -------
        bool
            False where another one was asked for meanwhile, which stays.

        Raises
        ------
        EdgerestoreError
            When it cannot be opened.
        """
        with self._lock:
            if self.switching or self._asked != (None, None):
                return False
            other = self.restorer.reopened(model)
            try:
                self.restorer.replace(other)
            finally:
                other.close()
            self._asked = self._running = (model, None)
            return True

    def revive(self) -> None:
        """Replace a model whose device does not answer, at once.

        The old one is closed with the switch, since that may wait for it.

        Raises
        ------
        EdgerestoreError
            When it cannot be opened anew.
        """
        other = self.restorer.reopened(*self._running)
        self._hung.append(other)  # closed even where it cannot be taken
        self.restorer.replace(other)

    def close(self) -> None:
        """End a switch under way; the restorer keeps the model that it has."""
        self._closed.set()
        self.cancel()
        with self._lock:
            if self._thread is not None:
                self._thread.join()
        while self._hung:
            self._hung.pop().close()

    def _prepare(self, wanted: Wanted, cancelled: threading.Event, asked: bool) -> None:
        fresh: Restorer | None = None
        try:
            with cancelled_by(cancelled):
                fresh = self.restorer.reopened(*wanted)
                if self.restorer.latest is not None:
                    # Compiled for the stream's frames now rather than at the first of them.
                    fresh.warm_up(self.restorer.latest, _TRIAL_S)
                check_cancelled()
            self.restorer.replace(fresh)
            self._running = wanted
            self._asked = wanted if asked else self._asked
            name, device = self.restorer.bundle.manifest.name, self.restorer.device
            precision = self.restorer.precision
            line = f"{name} on {self.restorer.where} at {precision} from here on"
            details = {"model": name, "precision": precision, "device": device}
            self._log.record(EventKind.SWITCHED, line, **details)
        except Exception as error:
            # Whatever it is: the stream goes on, and the event says why nothing changed.
            line = " ".join(f"not switched: {error}".split())
            if not self._closed.is_set():
                self._log.record(EventKind.REFUSED, line, "refused")
        finally:
            if fresh is not None:
                with suppress(InferenceError):
                    fresh.close()  # the replaced model, or the one that did not fit
