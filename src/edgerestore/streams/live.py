"""A stream with its controls: what the command line runs, and what programs embed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..engine.restorer import Restorer
from ..errors import (
    InferenceError,
    NoAnswerError,
    SinkClosedError,
    SourceLostError,
)
from .events import Event, EventKind, EventLog, StreamState
from .job import InputKind, JobSummary, summarize
from .opener import Ends, named
from .options import LiveOptions
from .pipeline import run_pipeline
from .rules import Gate
from .sources.live_source import LiveSource
from .switch import SwitchableRestorer
from .telemetry import Snapshot, Telemetry
from .watchdog import Keeper

__all__ = ["Live"]


class Live:
    """One source, restored into any number of outputs, with controls (`Controls`).

    Everything that can be refused is refused by the constructor. `run` works on the
    caller's thread; `start` and `join` on one of its own.

    Parameters
    ----------
    restorer : Restorer
        Made by `load`; closed by whoever opened it, unless another one replaces it.
    source : str or iterable of ndarray
        What ``edgerestore run`` takes as its input, or anything that yields images.
    outputs : sequence of str, Path, callable or Sink
        What ``edgerestore run`` takes as outputs; a callable gets each restored image and
        its `Frame`.
    options : LiveOptions, optional
    listener : callable, optional
        Told of each `Event` on the thread where it happened; it must not block.
    notice : callable, optional
        Takes one line about anything worth knowing that is no failure.

    Raises
    ------
    SourceError, SinkError, ArgumentError
        Where the source, an output, or a value is not usable.
    """

    def __init__(
        self,
        restorer: Restorer,
        source: str | os.PathLike[str] | Iterable[Any],
        outputs: Sequence[Any],
        options: LiveOptions | None = None,
        *,
        listener: Callable[[Event], None] | None = None,
        notice: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self.log = EventLog(listener)
        self._options = options or LiveOptions()
        self._where = named(source)
        self._stop, self._gate = threading.Event(), Gate()
        self._thread: threading.Thread | None = None
        self._keeper: Keeper | None = None
        self._failure: BaseException | None = None
        self._summary: JobSummary | None = None
        restorer.steady = True
        self._restorer = SwitchableRestorer(restorer, restorer.reopened, self.log)
        self.telemetry = Telemetry(self._restorer, log=self.log)
        ends = Ends(self._options, self.log, notice, self, restorer.bundle.manifest.output.upscale)
        self._source, self._sink = ends.open(source, outputs)
        self.telemetry.sink = self._sink
        self.telemetry.frames_expected = self._source.expected_frames

    @property
    def state(self) -> StreamState:
        """Where the stream stands."""
        return self.log.state

    @property
    def events(self) -> list[Event]:
        """The last events, the oldest first."""
        return self.log.events

    @property
    def strength(self) -> float:
        """See `Controls.strength`."""
        return self._restorer.strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._restorer.strength = strength

    @property
    def paused(self) -> bool:
        """See `Controls.paused`."""
        return self._gate.closed

    def pause(self) -> None:
        """See `Controls.pause`."""
        self._gate.close()
        self.log.move(StreamState.PAUSED, "paused", "asked")

    def resume(self) -> None:
        """See `Controls.resume`."""
        self._gate.open()
        if self.state is StreamState.PAUSED:
            # Twice: what changed since the first look could not say so while it was paused.
            for _ in range(2):
                away = isinstance(self._source, LiveSource) and not self._source.connected
                state = StreamState.RECONNECTING if away else StreamState.RUNNING
                self.log.move(state, "goes on", "asked")

    def stop(self) -> None:
        """See `Controls.stop`."""
        self._stop.set()

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        """See `Controls.switch`."""
        self._restorer.switch(model=model, precision=precision)

    def snapshot(self) -> Snapshot:
        """Return the counts as they are now."""
        return self.telemetry.snapshot()

    def status(self) -> dict[str, Any]:
        """See `Controls.status`."""
        counts = self.snapshot()
        status: dict[str, Any] = {
            "state": self.state.value,
            "strength": self.strength,
            "paused": self.paused,
            "model": self._restorer.bundle.manifest.name,
            "precision": self._restorer.precision,
            "device": self._restorer.device,
            "switching": self._restorer.switching,
            "statistics": counts.as_dict(),
        }
        if self._keeper is not None and self._keeper.level is not None:
            status["level"] = self._keeper.level.name
        return status

    def run(self, stop: threading.Event | None = None) -> JobSummary:
        """Run the stream to its end, on this thread.

        Parameters
        ----------
        stop : threading.Event, optional
            Ends it once set, as `stop` does; it then counts as interrupted.

        Returns
        -------
        JobSummary

        Raises
        ------
        SourceLostError
            When the source did not come back within its retries.
        SourceError, SinkError, InferenceError
            The first failure of any part. Finished recordings stay.
        """
        outside = stop or threading.Event()
        keeper = self._keeper = Keeper(
            self._source, self._restorer, self.telemetry, self._gate, self._options, self.log
        )
        keeper.start(self._stop, outside)
        message, cause = "the source ended", "end of stream"
        try:
            self._run()
            if self._stop.is_set():
                message, cause = "stopped", "asked"
        except SinkClosedError as error:
            # Whoever watched has gone: that is an end like any other.
            message, cause = str(error), "output closed"
        except SourceLostError as error:
            self.log.move(StreamState.FAILED, str(error), "source lost")
            raise
        except BaseException as error:
            self.log.move(StreamState.FAILED, str(error) or type(error).__name__, "failed")
            raise
        finally:
            keeper.join()
            self._source.close()
            self._restorer.close()
            self.telemetry.end()
        self.log.move(StreamState.ENDED, message, cause)
        return summarize(InputKind.STREAM, self.snapshot(), interrupted=outside.is_set())

    def start(self) -> None:
        """Run the stream on a thread of its own; `join` tells how it went."""
        self._thread = threading.Thread(target=self._run_behind, name="edgerestore-restore")
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> JobSummary | None:
        """Wait for the end of a stream that was started.

        Returns
        -------
        JobSummary or None
            None where it has not ended in time.

        Raises
        ------
        BaseException
            What `run` would have raised.
        """
        if self._thread is None:
            return None
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return None
        if self._failure is not None:
            raise self._failure
        return self._summary

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
        if self._keeper is None:  # it never ran
            self._sink.abort()
            self._source.close()
            self._restorer.close()

    def _run(self) -> None:
        if not isinstance(self._source, LiveSource):
            # That one says itself when its first frame has come.
            line = f"{self._where}: started"
            self.log.move(StreamState.RUNNING, line, "started", unless=StreamState.PAUSED)
        run_pipeline(
            self._source,
            self._restorer,
            self._sink,
            self.telemetry,
            self._stop,
            rules=self._options.rules(live=self._source.live, originals=self._sink.wants_original),
            gate=self._gate,
            stumbled=self._recover,
        )

    def _run_behind(self) -> None:
        try:
            self._summary = self.run()
        except BaseException as error:
            self._failure = error

    def _recover(self, error: InferenceError) -> None:
        self.log.tell(EventKind.STUCK, str(error), "inference")
        if isinstance(error, NoAnswerError):
            self._restorer.revive()
