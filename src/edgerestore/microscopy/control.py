"""Restoration beside microscope control, which never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import ArgumentError, SourceError
from ..imaging.arrays import Image, check_image, native
from ..streams.events import Event
from ..streams.frame_buffer import (
    BufferAbortedError,
    BufferEndedError,
    FrameBuffer,
    Overrun,
)
from ..streams.media.frames import LIVE_TIME_BASE, Frame, VideoInfo, image_info
from ..streams.options import LiveOptions
from ..streams.pipeline import Restores
from ..streams.session import Session
from ..streams.sinks.registry import Output
from ..streams.telemetry import RunSummary, percentiles_ms
from .acquisition_store import AcquisitionStoreSink
from .live_poller import LivePoller

__all__ = ["AcquisitionSource", "Attachment", "attach"]

_logger = logging.getLogger(__name__)

_BUFFERED_FRAMES = 16  # between the acquisition and the thread that reads them: never full
_SLOTS_KEPT = 4096
_STORES = (".zarr",)
_NOMINAL_RATE = Fraction(25)  # of recordings, whose frames have their times


def attach(
    core: Any,
    restorer: Restores,
    *outputs: Output,
    keep: int | None = None,
    options: LiveOptions | None = None,
    overwrite: bool = False,
    listener: Callable[[Event], None] | None = None,
) -> Attachment:
    """Restore the frames of microscope control while it acquires.

    The acquisition never waits: a frame is appended to a bounded buffer on the thread that brings
    it, and restored on others. Frames that come faster than they are restored are dropped, the
    oldest first, and counted (`Attachment.snapshot`). Each frame's `Frame.metadata` travels with
    it to the outputs.

    Parameters
    ----------
    core : CMMCorePlus, callable or None
        Of pymmcore-plus: frames of acquisitions (``core.mda``), and of live mode, of which the
        newest image is looked at. Of other control software, a function that is given the
        callback ``put(image, metadata=None)`` and has it called with each frame, on any thread;
        with ``None``, `Attachment.put` is called by the caller.
    restorer : Restorer
        Closed by its owner. Its strength and range of intensities may be set at any time; a range
        that is looked for is that of the first frame.
    *outputs : callable, str, Path or Sink
        What `Session` takes (a function of the restored image and its `Frame`, ``window``,
        ``http://127.0.0.1:8090``, a recording), or the name of an OME-Zarr store, ``NAME.zarr``.
    keep : int, optional
        Frames that wait for a slower model, instead of giving way to newer ones after a moment:
        so many are held, and only those beyond are dropped. Nothing is left out for its age.
    options : LiveOptions, optional
        Its ``source.owned`` says that a callback's arrays are not used again by the caller; else
        they are copied, which takes the time of the copy. Those of pymmcore-plus are.
    overwrite : bool
        Replace a store that exists.
    listener : callable, optional
        Given each `Event`.

    Returns
    -------
    Attachment
        It runs, until it is left as a context manager, or detached. Keep it: the core does not.

    Raises
    ------
    ArgumentError
        When the core is none, or the policy would make the acquisition wait.
    SinkError
        When an output is not usable.
    """
    options = options or LiveOptions()
    if keep is not None:
        if keep < 1:
            raise ArgumentError(f"keep is a number of frames from 1 on, got {keep}")
        options = replace(options, overrun=Overrun.WAIT, max_staleness_s=None)
    elif options.overrun == Overrun.WAIT:
        raise ArgumentError("an acquisition does not wait; give keep, the frames that may be held")
    is_core = hasattr(core, "mda") and hasattr(core, "events")
    if not (is_core or core is None or callable(core)):
        raise ArgumentError(
            "attach takes a CMMCorePlus, or a function that is given a callback, got"
            f" {type(core).__name__}"
        )
    source = AcquisitionSource(keep or _BUFFERED_FRAMES, owned=is_core or options.source.owned)
    options = replace(options, source=replace(options.source, live=True))
    opened = [_opened(output, overwrite=overwrite) for output in outputs]
    session = Session(restorer, source, opened, options, listener=listener)
    attachment = Attachment(session, source)
    if is_core:
        attachment.follow(core)
    elif core is not None:
        core(attachment.put)
    return attachment


def _opened(output: Output, *, overwrite: bool) -> Output:
    named = isinstance(output, (str, Path)) and Path(output).suffix.lower() in _STORES
    return AcquisitionStoreSink(Path(str(output)), overwrite=overwrite) if named else output


class Attachment:
    """Restoration that is attached to microscope control; made by `attach`.

    Parameters
    ----------
    session : Session
    source : AcquisitionSource

    Attributes
    ----------
    session : Session
        That restores: strength, pause, switch of the model, state and events; what a
        `ControlServer` takes.
    """

    session: Session

    def __init__(self, session: Session, source: AcquisitionSource) -> None:
        self.session, self._source = session, source
        self._slots_s: deque[float] = deque(maxlen=_SLOTS_KEPT)
        self._disconnect: list[Callable[[], object]] = []
        self._failed = False
        session.start()

    def follow(self, core: Any) -> None:
        """Take the frames of a CMMCorePlus: of its acquisitions, and of live mode."""
        signal = core.mda.events.frameReady
        signal.connect(self._frame_ready)
        poller = LivePoller(core, self.put)
        self._disconnect += [lambda: signal.disconnect(self._frame_ready), poller.close]

    def put(self, image: Image, metadata: Mapping[str, Any] | None = None) -> None:
        """Take a frame: append it and return. Never raises, and never waits for a model.

        Parameters
        ----------
        image : ndarray, u8, u16 or f32, shape (H, W) or (H, W, C)
            Copied, unless the options say that it is not used again. What is no such image ends
            the attachment with an error, which `detach` raises.
        metadata : mapping, optional
            Travels with the frame.
        """
        begun_s = time.perf_counter()
        try:
            self._source.put(image, metadata)
        except (BufferAbortedError, BufferEndedError):
            if not self._failed:
                self._failed = True
                _logger.warning("restoration has ended; further frames are not restored")
        except Exception:  # the control software's thread is not ours to end
            _logger.exception("a frame was not taken")
        finally:
            self._slots_s.append(time.perf_counter() - begun_s)

    def _frame_ready(self, image: Image, event: Any, metadata: Mapping[str, Any]) -> None:
        index, channel = getattr(event, "index", None), getattr(event, "channel", None)
        facts = {
            "mda_event": event,
            **metadata,
            "index": {} if index is None else {str(axis): at for axis, at in index.items()},
            "channel": getattr(channel, "config", None),
        }
        self.put(image, facts)

    @property
    def received(self) -> int:
        """Frames that came; each is restored, dropped with its cause, or on its way."""
        return self._source.received

    @property
    def slot_ms(self) -> dict[str, float]:
        """``p50``, ``p95``, ``p99`` of what the last 4096 frames kept the acquisition, in ms."""
        return percentiles_ms(list(self._slots_s))

    @property
    def strength(self) -> float:
        """Strength of the next frame; settable at any time."""
        return self.session.strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self.session.strength = strength

    def detach(self, timeout_s: float | None = None) -> RunSummary | None:
        """Take no more frames, restore what came, and finish the outputs.

        Returns
        -------
        RunSummary or None
            None where it has not ended in time.

        Raises
        ------
        SourceError, SinkError, InferenceError
            The failure that ended it.
        """
        while self._disconnect:
            self._disconnect.pop()()
        self._source.end()
        return self.session.join(timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.detach()
            return
        try:
            self.detach()
        except Exception:
            _logger.exception("restoration failed, too")


class AcquisitionSource:
    """`Source` of frames that control software puts in, from any thread.

    Parameters
    ----------
    held : int
        Frames held between the acquisition and the stream; the oldest give way.
    owned : bool
        Whether each array is the frame's own from then on; otherwise it is copied.
    """

    live = interruptible = True
    expected_frames: int | None = None

    def __init__(self, held: int, *, owned: bool) -> None:
        self._buffer = FrameBuffer(held, Overrun.DROP_OLDEST)
        self._owned = owned
        self._received = 0
        self._lock = threading.Lock()
        self._info: VideoInfo | None = None
        self._began_s: float | None = None
        self._last_pts, self._read = -1, 0

    @property
    def received(self) -> int:
        """Frames that were put in."""
        return self._received

    @property
    def lost(self) -> Counter[str]:
        """Frames that never came to the stream, by cause."""
        names = {"overrun": "not taken in time"}
        dropped = self._buffer.dropped.items()
        return Counter({names.get(cause, cause): count for cause, count in dropped})

    def put(self, image: Image, metadata: Mapping[str, Any] | None) -> None:
        """Append a frame.

        Raises
        ------
        BufferAbortedError, BufferEndedError
            When no more are taken.
        """
        if not self._owned:
            image = np.array(image, order="C")
        captured_s = time.perf_counter()
        with self._lock:
            self._received += 1
            frame = Frame(image, 0, LIVE_TIME_BASE, captured_s=captured_s, metadata=metadata)
            self._buffer.put(frame)

    def end(self) -> None:
        """Take no more frames; what was put in can still be read."""
        self._buffer.end()

    def __iter__(self) -> Iterator[Frame]:
        """Return the one iterator over what comes."""
        return self

    def __next__(self) -> Frame:
        """Wait for the next frame.

        Raises
        ------
        SourceError
            When what was put in is no image.
        """
        try:
            frame = self._buffer.get()
        except (BufferEndedError, BufferAbortedError):
            raise StopIteration from None
        assert isinstance(frame, Frame)  # noqa: S101 - nothing else is put in
        self._read += 1
        try:
            check_image(frame.image)
        except ArgumentError as error:
            raise SourceError(f"frame {self._read} of the acquisition: {error}") from error
        image = np.ascontiguousarray(native(frame.image))
        form = {2: "gray"}.get(image.ndim, "rgb")
        self._info = image_info(image, _NOMINAL_RATE, form, self._info)
        captured_s = frame.captured_s or 0.0
        self._began_s = captured_s if self._began_s is None else self._began_s
        since = round((captured_s - self._began_s) / LIVE_TIME_BASE)
        self._last_pts = max(self._last_pts + 1, since)
        return replace(frame, image=image, pts=self._last_pts, info=self._info)

    def close(self) -> None:
        """Take no more frames, and leave out what waits."""
        self._buffer.abort()
