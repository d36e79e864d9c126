"""Another model or precision between two frames, while the stream goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..engine.adjustments import Adjustments
from ..engine.guard import GuardCounts
from ..engine.pending import Pending
from ..engine.restorer import Restorer
from ..engine.strength import Strength
from ..engine.temporal.counts import ReuseCounts
from ..errors import ArgumentError, InferenceError
from ..imaging.arrays import Image
from .events import EventKind, EventLog

__all__ = ["Reopen", "SwitchableRestorer"]

Reopen = Callable[[str | None, str | None], Restorer]
"""Opens a restorer like the first with another model, or precision; None leaves it as it is."""

_Wanted = tuple[str | None, str | None]
"""Model and precision as they were asked for; None as the first was opened."""

_POLL_S = 0.2
_TRIAL_S = 120.0  # for the first frame of another model


class SwitchableRestorer(Restorer):
    """A restorer that becomes another one between two frames, none of which is lost.

    The other one is opened, compiled and run once on a thread of its own while the present
    one works on. The first frame submitted after that goes to it; what is in flight is
    finished by the old one, which is then closed.

    Parameters
    ----------
    first : Restorer
        Closed once it is replaced; otherwise by its owner.
    reopen : callable
    log : EventLog
        Told ``SWITCHED`` or ``REFUSED``.
    """

    def __init__(self, first: Restorer, reopen: Reopen, log: EventLog) -> None:
        super().__init__(first.bundle, first.device, first.precision, first.strength, first.order)
        self._reopen, self._log = reopen, log
        self._first = self._current = first
        self._replaced: Restorer | None = None
        self._reused, self._was_guarded = ReuseCounts(), GuardCounts()
        self._next: Restorer | None = None
        self._taken = threading.Event()
        self._closed = threading.Event()
        self._switching: threading.Thread | None = None
        self._asked: _Wanted = (None, None)
        self._running: _Wanted = (None, None)
        self._seen: Image | None = None
        self._lock = threading.Lock()  # held while submitting, which may take its time
        self._asking = threading.Lock()
        self._describe()

    @property
    def current(self) -> Restorer:
        """The one that the next frame goes to, unless another is ready by then."""
        return self._current

    @property
    def switching(self) -> bool:
        """Whether another one is being made ready."""
        thread = self._switching
        return thread is not None and thread.is_alive()

    @property
    def strength(self) -> float:
        """Of the present one: whoever holds the first one turns this one too."""
        return self._current.strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._current.strength = strength

    @property
    def cadence(self) -> int:
        """Of the present one."""
        return self._current.cadence

    @cadence.setter
    def cadence(self, cadence: int) -> None:
        self._current.cadence = cadence

    @property
    def reuse(self) -> ReuseCounts | None:
        """Of all of them together."""
        own = self._current.reuse
        return own if own is None else own + self._reused

    @property
    def guarded(self) -> GuardCounts | None:
        """Of all of them together."""
        own = self._current.guarded
        return own if own is None else own + self._was_guarded

    @property
    def depth(self) -> int:
        """As many as the present one."""
        return self._current.depth

    @property
    def adjustments(self) -> Adjustments:
        """Of the next image submitted; settable at any time."""
        return self._current.adjustments

    @adjustments.setter
    def adjustments(self, adjustments: Adjustments) -> None:
        self._current.adjustments = adjustments

    @property
    def steady(self) -> bool:
        """Whether images are frames of one stream."""
        return self._current.steady

    @steady.setter
    def steady(self, steady: bool) -> None:
        self._current.steady = steady

    def submit(self, image: Image, strength: Strength | None = None) -> Pending:
        """Start restoring an image; see `Restorer.submit`."""
        with self._lock:
            if self._next is not None:
                self._replaced = self._current
                self._replace(self._next)
                self._next = None
                self._taken.set()
            self._seen = image
            pending = self._current.submit(image, strength)
            self.plan = self._current.plan
            return pending

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        """Make another one ready in the background; see `Controls.switch`."""
        if model is None and precision is None:
            raise ArgumentError("a switch names a model, a precision, or both")
        # A model keeps the precision that was asked for, not the one that auto chose.
        wanted = (model or self._asked[0], precision or self._asked[1])
        self._become(wanted, asked=True)

    def adapt(self, model: str | None, precision: str | None) -> None:
        """Switch for the sake of speed; None is what was asked for.

        Raises
        ------
        ArgumentError
            When another switch is under way.
        """
        self._become((model or self._asked[0], precision or self._asked[1]), asked=False)

    def _become(self, wanted: _Wanted, *, asked: bool) -> None:
        with self._asking:
            if self._closed.is_set():
                raise InferenceError("the restorer is closed")
            if self.switching:
                raise ArgumentError("another switch is under way; ask again when it is done")
            if wanted == self._running:
                self._asked = wanted if asked else self._asked
                return
            self._taken.clear()
            self._switching = threading.Thread(
                target=self._prepare, args=(wanted, asked), name="edgerestore-switch", daemon=True
            )
            self._switching.start()

    def revive(self) -> None:
        """Replace a restorer whose device does not answer, at once.

        The old one is not closed, since that would wait for it for ever.

        Raises
        ------
        EdgerestoreError
            When it cannot be opened anew.
        """
        with self._lock:
            ready, self._next = self._next, None
        fresh = ready or self._reopen(*self._running)
        with self._lock:
            self._hand_on(fresh)
            self._replace(fresh)
            if ready is not None:
                self._taken.set()

    def close(self) -> None:
        """Close what was opened here; the first one is its owner's, unless it was replaced."""
        self._closed.set()
        with self._asking:
            if self._switching is not None:
                self._switching.join()
        with self._lock:
            if self._next is not None:
                self._next.close()
                self._next = None
            if self._current is not self._first:
                self._current.close()

    def _prepare(self, wanted: _Wanted, asked: bool) -> None:
        fresh: Restorer | None = None
        try:
            fresh = self._reopen(*wanted)
            self._hand_on(fresh)
            if self._seen is not None:
                # Compiles for the stream's size now rather than at its first frame.
                fresh.submit(self._seen, 1.0).result(_TRIAL_S)
        except Exception as error:
            # Whatever it is: the stream goes on, and whoever asked is told.
            if fresh is not None:
                fresh.close()
            line = " ".join(f"not switched: {error}".split())
            self._log.tell(EventKind.REFUSED, line, "refused")
            return
        with self._lock:
            self._next, self._running = fresh, wanted
            self._asked = wanted if asked else self._asked
        while not self._taken.wait(_POLL_S):
            if self._closed.is_set():
                return
        replaced, self._replaced = self._replaced, None
        if replaced is not None:  # None where what it was to replace had hung
            replaced.close()
        name = fresh.bundle.manifest.name
        self._log.tell(
            EventKind.SWITCHED,
            f"{name} on {fresh.device} at {fresh.precision} from here on",
            model=name,
            precision=fresh.precision,
            device=fresh.device,
        )

    def _hand_on(self, fresh: Restorer) -> None:
        """Give what was set by hand to the next one, as far as it takes it."""
        fresh.steady, fresh.cadence = self._current.steady, self._current.cadence
        if not self._current.adjustments.neutral:
            fresh.adjustments = self._current.adjustments

    def _replace(self, fresh: Restorer) -> None:
        before = self._current
        fresh.strength = before.strength  # turned meanwhile, perhaps
        self._reused += before.reuse or ReuseCounts()
        self._was_guarded += before.guarded or GuardCounts()
        self._current = fresh
        self._describe()

    def _describe(self) -> None:
        self.bundle = self._current.bundle
        self.device, self.precision = self._current.device, self._current.precision
        self.precision_reason = self._current.precision_reason
        self.plan = self._current.plan
