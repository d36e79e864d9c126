"""Switching the model or precision of a running restorer between two frames."""

from __future__ import annotations

import threading
from contextlib import suppress

from ..engine.restorer import Restorer
from ..errors import ArgumentError, InferenceError
from .events import EventKind, EventLog

__all__ = ["ModelSwitch"]

_Wanted = tuple[str | None, str | None]
"""Model and precision as they were asked for; None as the restorer was opened."""

_TRIAL_S = 120.0  # for the first frame of another model


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
        self._asked: _Wanted = (None, None)
        self._running: _Wanted = (None, None)
        self._hung: list[Restorer] = []
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._lock = threading.Lock()

    @property
    def switching(self) -> bool:
        """Whether another model is being made ready."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        """Make another model ready in the background; see `Controls.switch`."""
        if model is None and precision is None:
            raise ArgumentError("a switch names a model, a precision, or both")
        # A model keeps the precision that was asked for, not the one that auto chose.
        self._become((model or self._asked[0], precision or self._asked[1]), asked=True)

    def adapt(self, model: str | None, precision: str | None) -> None:
        """Switch for the sake of speed; None is what was asked for.

        Raises
        ------
        ArgumentError
            When another switch is under way.
        """
        self._become((model or self._asked[0], precision or self._asked[1]), asked=False)

    def revive(self) -> None:
        """Replace a model whose device does not answer, at once.

        The old one is closed with the switch, since that may wait for it.

        Raises
        ------
        EdgerestoreError
            When it cannot be opened anew.
        """
        other = self.restorer.reopened(*self._running)
        self.restorer.replace(other)
        self._hung.append(other)

    def close(self) -> None:
        """End a switch under way; the restorer keeps the model that it has."""
        self._closed.set()
        with self._lock:
            if self._thread is not None:
                self._thread.join()
        while self._hung:
            self._hung.pop().close()

    def _become(self, wanted: _Wanted, *, asked: bool) -> None:
        with self._lock:
            if self._closed.is_set():
                raise InferenceError("the restorer is closed")
            if self.switching:
                raise ArgumentError("another switch is under way; ask again when it is done")
            if wanted == self._running:
                self._asked = wanted if asked else self._asked
                return
            self._thread = threading.Thread(
                target=self._prepare, args=(wanted, asked), name="edgerestore-switch", daemon=True
            )
            self._thread.start()

    def _prepare(self, wanted: _Wanted, asked: bool) -> None:
        fresh: Restorer | None = None
        try:
            fresh = self.restorer.reopened(*wanted)
            if self.restorer.latest is not None:
                # Compiled for the stream's frames now rather than at the first of them.
                fresh.warm_up(self.restorer.latest, _TRIAL_S)
            if not self._closed.is_set():
                self.restorer.replace(fresh)
                self._running = wanted
                self._asked = wanted if asked else self._asked
                self._log_switched()
        except Exception as error:
            # Whatever it is: the stream goes on, and the event says why nothing changed.
            line = " ".join(f"not switched: {error}".split())
            self._log.tell(EventKind.REFUSED, line, "refused")
        finally:
            if fresh is not None:
                with suppress(InferenceError):
                    fresh.close()  # the replaced model, or the one that did not fit

    def _log_switched(self) -> None:
        restorer = self.restorer
        name = restorer.bundle.manifest.name
        self._log.tell(
            EventKind.SWITCHED,
            f"{name} on {restorer.device} at {restorer.precision} from here on",
            model=name,
            precision=restorer.precision,
            device=restorer.device,
        )
