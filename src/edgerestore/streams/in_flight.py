"""The middle stage of a stream: what the device works on, in order."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ..errors import InferenceError, NoAnswerError
from ..imaging.arrays import Image
from .frame_buffer import Row, Stamped
from .media.frames import Frame
from .rules import StreamRules
from .telemetry import Telemetry

__all__ = ["Flight", "PendingImage", "Restores"]

# A live stream lets single frames fail; this many in a row are no accident.
_FAILURES_IN_A_ROW = 5


class PendingImage(Protocol):
    """A restored image on its way."""

    def result(self, timeout: float | None = None) -> Image:
        """Wait for the image; raise what its restoration raised, or `TimeoutError`."""


class Restores(Protocol):
    """What the pipeline needs of a restorer."""

    @property
    def depth(self) -> int:
        """Images worth keeping in flight."""

    def submit(self, image: Image) -> PendingImage:
        """Start on one image; it is only read, and only until its result is there."""


@dataclass(frozen=True, eq=False, slots=True)
class _Flying:
    """An item in the middle stage; packets fly along with the frames for their order."""

    stamped: Stamped
    pending: PendingImage | None
    submitted_s: float = 0.0


class Flight:
    """The items between submission and outcome; packets fly along with frames for their order.

    Parameters
    ----------
    restorer : Restores
    restored : Row
        Where outcomes go.
    telemetry : Telemetry
    rules : StreamRules
    stumbled : callable or None
        See `run_pipeline`.
    """

    def __init__(
        self,
        restorer: Restores,
        restored: Row,
        telemetry: Telemetry,
        rules: StreamRules,
        stumbled: Callable[[InferenceError], None] | None,
    ) -> None:
        self._restorer, self._restored = restorer, restored
        self._telemetry, self._rules, self._stumbled = telemetry, rules, stumbled
        self._flying: deque[_Flying] = deque()
        self._frames_flying = 0
        self._failures_in_a_row = 0

    def __bool__(self) -> bool:
        return bool(self._flying)

    def make_room(self) -> None:
        """Collect until the device would take another frame at once."""
        while self._frames_flying >= max(1, self._restorer.depth):
            self.collect()

    def take_along(self, stamped: Stamped) -> None:
        """Append a packet."""
        self._flying.append(_Flying(stamped, None))

    def submit(self, stamped: Stamped, frame: Frame) -> None:
        """Start on a frame, unless it is too old."""
        if stamped.older_than(self._rules.max_staleness_s):
            stamped.drop(self._telemetry, "stale")
            return
        submitted_s = time.perf_counter()
        try:
            pending = self._restorer.submit(frame.image)
        except BaseException as error:
            stamped.drop(self._telemetry, "failed")
            if isinstance(error, NoAnswerError):
                self._let_go()
            self._stumble(error)
            return
        self._flying.append(_Flying(stamped, pending, submitted_s))
        self._frames_flying += 1

    def drain(self) -> None:
        """Collect everything."""
        while self._flying:
            self.collect()

    def collect(self) -> None:
        """Wait for the oldest item's outcome, and hand it on."""
        first = self._flying[0]
        stamped = first.stamped
        if first.pending is not None and isinstance(stamped.item, Frame):
            try:
                image = first.pending.result(self._rules.answer_s)
            except TimeoutError:
                self._give_up()
                return
            except InferenceError as error:
                self._land_first("failed")
                self._stumble(error)
                return
            self._telemetry.frame_restored(time.perf_counter() - first.submitted_s)
            self._failures_in_a_row = 0
            self._frames_flying -= 1
            original = stamped.item.image if self._rules.originals else None
            stamped = replace(stamped, item=replace(stamped.item, image=image, original=original))
        # Only now: until its result is there, a failure must still find it in flight.
        self._flying.popleft()
        self._restored.put(stamped)

    def _give_up(self) -> None:
        self._let_go()
        self._stumble(NoAnswerError(f"the device has not answered for {self._rules.answer_s:g} s"))

    def _let_go(self) -> None:
        """Let go of everything in flight: a device that does not answer one does not answer any.

        Nothing waits for it any more, so its buffers stay alive as long as it holds them.
        """
        while self._flying:
            self._land_first("failed")

    def _land_first(self, cause: str) -> None:
        one = self._flying.popleft()
        if one.pending is not None:
            self._frames_flying -= 1
        one.stamped.drop(self._telemetry, cause)

    def _stumble(self, error: BaseException) -> None:
        self._failures_in_a_row += 1
        tolerable = self._rules.live and isinstance(error, InferenceError)
        if not tolerable or self._failures_in_a_row >= _FAILURES_IN_A_ROW:
            raise error
        if self._stumbled is not None and isinstance(error, InferenceError):
            self._stumbled(error)

    def land(self) -> None:
        """Wait for what a failure left in flight: its buffers are in use until then."""
        while self._flying:
            pending = self._flying[0].pending
            if pending is not None:
                with contextlib.suppress(Exception):
                    pending.result(self._rules.answer_s)
            self._land_first("ended")
