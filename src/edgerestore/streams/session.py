"""Session: one run from a source to its outputs, whatever they are, with its controls."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..engine.family import check_family, choose_member
from ..engine.fixed_attributes import FixedAttributes
from ..engine.intensity import RangeKind
from ..engine.loader import Loader
from ..engine.restorer import Restorer
from ..errors import (
    ArgumentError,
    InferenceError,
    NoAnswerError,
    SinkClosedError,
    SourceLostError,
    counted,
)
from ..imaging.arrays import check_image
from ..imaging.image_files import image_suffixes, written_name
from .events import Event, EventKind, EventLog, StreamState, notices_to, run_of
from .media.encoding import VideoOptions
from .media.frames import Frame
from .model_switch import ModelSwitch
from .options import (
    InputKind,
    LiveOptions,
    SinkOptions,
    image_paths,
    input_kind,
    left_out,
    output_files,
    paths_to_do,
)
from .pipeline import PauseEvent, Restores, run_pipeline
from .progress import Progress
from .protocols import Sink, Source
from .resume import PartialVideo, ResumedSource, write_record
from .sinks.compare import Compare, CompareSink, left_of
from .sinks.files import ImageFileSink, ImageFolderSink
from .sinks.partial_file import clear_partials, partial_name
from .sinks.registry import is_path, open_sinks
from .sources.address import Address, parse_address, redacted
from .sources.files import VideoFileSource
from .sources.images import ImageFilesSource
from .sources.registry import is_live, open_source
from .sources.still import StillSource
from .sources.timeline import PacedSource
from .stoppable import StoppableRestorer
from .supervisor import Watchdog
from .telemetry import RunSummary, Snapshot, Telemetry

__all__ = [
    "Live",
    "Session",
    "codec_threads",
    "restore_path",
]

logger = logging.getLogger(__name__)


class Session(FixedAttributes):
    """One source, restored into any number of outputs, with `Controls`.

    Everything that can be refused is refused by the constructor. `run` works on the caller's
    thread; `start` and `join` on one of its own. Every other method may be called by any
    thread. A session runs once; one that does not run is closed as a context manager.

    Parameters
    ----------
    restorer : Restorer, or anything with its ``submit`` and ``depth``
        Closed by its owner. Only what `load` made can be switched to another model or
        precision, which replaces its model in place. Its ``steady`` is set while a stream or a
        video runs.
    source : str, path, Address, iterable of ndarray, or Source
        What ``edgerestore run`` takes as its input, or anything that yields images; with the
        kind ``InputKind.IMAGES``, several paths.
    outputs : sequence of str, Path, callable or Sink
        What ``edgerestore run`` takes as outputs; a callable gets each restored image and
        its `Frame`. For images exactly one, a path.
    options : LiveOptions, optional
    listener : callable, optional
        Given each `Event` on the thread where it happened; it must not block.
    notice : callable, optional
        Given each line that the package logs for this session, from the constructor to the end
        of the run, on the thread where it arises. Events are left out.
    kind : InputKind
        How the source is opened: by default as a stream, whose state and events are reported;
        otherwise as image files or one video file, of which no frame is dropped whatever the
        options say.

    Attributes
    ----------
    log : EventLog
    telemetry : Telemetry

    Raises
    ------
    SourceError, SinkError, ArgumentError
        Where the source, an output, or a value is not usable; nothing is left open then.
    """

    log: EventLog
    telemetry: Telemetry

    def __init__(
        self,
        restorer: Restores,
        source: str | os.PathLike[str] | Address | Iterable[Any],
        outputs: Sequence[Any],
        options: LiveOptions | None = None,
        *,
        listener: Callable[[Event], None] | None = None,
        notice: Callable[[str], None] | None = None,
        kind: InputKind = InputKind.STREAM,
    ) -> None:
        self.log = EventLog(listener)
        self._kind, self._options = kind, options or LiveOptions()
        if kind is not InputKind.STREAM:  # from file to file: it waits, and loses nothing
            self._options = replace(self._options, overrun=None, realtime=False)
        if isinstance(source, str):
            address = parse_address(source) if kind is InputKind.STREAM else None
            source = address or Path(source)
        named = isinstance(source, (os.PathLike, Address))
        self._where = redacted(str(source)) if named else type(source).__name__
        if kind is InputKind.IMAGES:
            self._where = str(outputs[0])
        self._stop, self._outside = threading.Event(), threading.Event()
        self._pause = PauseEvent()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._summary: RunSummary | None = None
        self._ran = False
        self._restorer = restorer
        # As it was opened: the first deep frame may change what `auto` chose.
        self._precision = str(getattr(restorer, "precision", ""))
        self._switch: ModelSwitch | None = None
        if isinstance(restorer, Restorer):
            self._switch = ModelSwitch(restorer, self.log)
        elif self._options.target_fps is not None:
            raise ArgumentError("only a restorer that load() opened can keep up with target_fps")
        if self._options.quality is not None:
            self._loader()
        self.telemetry = Telemetry(
            self._restorer, log=self.log if kind is InputKind.STREAM else None
        )
        self._resumed: PartialVideo | None = None
        self._file: tuple[Path, Path] | None = None  # a video's input and output
        if kind is InputKind.VIDEO:
            self._file = Path(str(source)), Path(outputs[0])
            self._numbered_partial = partial_name(self._file[1]).exists()
        with ExitStack() as stack, run_of(self):
            stack.enter_context(notices_to(notice, self))
            self._source, self._sink = self._open(source, outputs)
            if self._options.compare is not None:
                self._sink = CompareSink(self._sink, Compare(self._options.compare))
            self._notices = stack.pop_all()
        self.telemetry.sink = self._sink
        self._watchdog = Watchdog(
            self._source, self._switch, self.telemetry, self._pause, self._options, self.log
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}: {self.state.value}>"

    @property
    def live(self) -> bool:
        """Whether frames come whether or not they are taken."""
        return self._source.live

    @property
    def state(self) -> StreamState:
        """State of the stream."""
        return self.log.state

    @property
    def events(self) -> list[Event]:
        """The last events, the oldest first."""
        return self.log.events

    @property
    def strength(self) -> float:
        """See `Controls.strength`."""
        return self._controlled.restorer.strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._controlled.restorer.strength = strength

    @property
    def paused(self) -> bool:
        """See `Controls.paused`."""
        return self._pause.paused

    def pause(self) -> None:
        """See `Controls.pause`."""
        self._pause.pause()
        self.log.move(StreamState.PAUSED, "paused", "asked")

    def resume(self) -> None:
        """See `Controls.resume`."""
        self._pause.resume()
        if self.state is StreamState.PAUSED:
            # Twice: what changed since the first look could not say so while it was paused.
            for _ in range(2):
                away = self._connected is False
                state = StreamState.RECONNECTING if away else StreamState.RUNNING
                self.log.move(state, "goes on", "asked")

    def stop(self) -> None:
        """See `Controls.stop`."""
        self._stop.set()
        self._watchdog.wake()

    def switch(self, *, model: str | None = None, precision: str | None = None) -> None:
        """See `Controls.switch`."""
        self._controlled.switch(model=model, precision=precision)

    def cancel_switch(self) -> None:
        """See `Controls.cancel_switch`."""
        self._controlled.cancel()

    def snapshot(self) -> Snapshot:
        """Return the counts as they are now."""
        return self.telemetry.snapshot()

    def status(self) -> dict[str, Any]:
        """See `Controls.status`."""
        switch = self._controlled
        restorer = switch.restorer
        status: dict[str, Any] = {
            "state": self.state.value,
            "strength": restorer.strength,
            "paused": self.paused,
            "model": restorer.bundle.manifest.name,
            "precision": restorer.precision,
            "device": restorer.device,
            "runtime": restorer.runtime,
            "switching": switch.switching,
            "last_error": None if self.log.last_error is None else self.log.last_error.as_dict(),
            "statistics": self.snapshot().as_dict(),
        }
        if self._watchdog.level is not None:
            status["level"] = self._watchdog.level.name
        return status

    def run(self, stop: threading.Event | None = None) -> RunSummary:
        """Run to the end of the source, on this thread.

        Parameters
        ----------
        stop : threading.Event, optional
            Ends it once set, as `stop` does; it then counts as interrupted.

        Returns
        -------
        RunSummary

        Raises
        ------
        SourceLostError
            When the source did not come back within its retries.
        SourceError, SinkError, InferenceError
            The first failure of any part. Finished recordings stay.
        """
        self._ran = True
        self._outside = stop or self._outside
        with self._notices, run_of(self):
            return self._run()

    def start(self) -> None:
        """Run on a thread of its own; `join` gives the outcome."""
        self._thread = threading.Thread(target=self._run_behind, name="edgerestore-restore")
        self._thread.start()

    def join(self, timeout_s: float | None = None) -> RunSummary | None:
        """Wait for the end of a session that was started.

        Returns
        -------
        RunSummary or None
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

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        if self._thread is not None:
            self._thread.join()
        if not self._ran:
            self._sink.abort()
            self._close()
            self._notices.close()

    @property
    def _controlled(self) -> ModelSwitch:
        if self._switch is None:
            raise ArgumentError("only a restorer that load() opened can be controlled")
        return self._switch

    def _loader(self) -> Loader:
        """Return what opened the restorer, for a choice of quality."""
        restorer = self._restorer
        loader = restorer.loader if isinstance(restorer, Restorer) else None
        if loader is None or not isinstance(restorer, Restorer):
            raise ArgumentError("only a restorer that load() opened can have a quality chosen")
        check_family(loader, restorer.bundle)
        return loader

    @property
    def _connected(self) -> bool | None:
        """Whether frames come; ``None`` of a source that does not connect."""
        connected: bool | None = getattr(self._source, "connected", None)
        return connected

    def _stopped(self) -> bool:
        return self._stop.is_set() or self._outside.is_set()

    def _run(self) -> RunSummary:
        restorer = self._restorer
        steady = isinstance(restorer, Restorer) and restorer.steady
        if isinstance(restorer, Restorer) and self._kind in (InputKind.STREAM, InputKind.VIDEO):
            restorer.steady = True
        self._watchdog.start(self._stopped)
        message, cause = "the source ended", "end of stream"
        try:
            self._run_pipeline()
            self._note_partial()
            if self._stopped():
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
            self._watchdog.join()
            self._close()
            self.telemetry.end()
            if isinstance(restorer, Restorer):
                restorer.steady = steady
        self.log.move(StreamState.ENDED, message, cause)
        failed: tuple[Path, ...] = ()
        if isinstance(self._source, ImageFilesSource):
            failed, total = tuple(self._source.failed), self._source.files
            if failed:
                logger.warning("%s: %d of %d images were skipped", self._where, len(failed), total)
        counts, interrupted = self.snapshot(), self._outside.is_set()
        return RunSummary(**vars(counts), kind=self._kind, interrupted=interrupted, failed=failed)

    def _run_pipeline(self) -> None:
        if self._connected is None:  # one that connects records when its first frame has come
            line = f"{self._where}: started"
            self.log.move(StreamState.RUNNING, line, "started", unless=StreamState.PAUSED)
        restorer = self._restorer
        if isinstance(restorer, Restorer) and self._kind.of_images:
            restorer = StoppableRestorer(restorer, self.telemetry, self._outside, self._stopped)
        run_pipeline(
            self._source,
            restorer,
            self._sink,
            self.telemetry,
            self._stopped,
            options=self._options,
            pause=self._pause,
            on_failure=self._recover,
            on_first=self._fit,
        )

    def _run_behind(self) -> None:
        try:
            self._summary = self.run()
        except BaseException as error:
            self._failure = error

    def _fit(self, first: Frame) -> None:
        """Choose the model for the stream from its family, and the levels below it."""
        quality, target_fps = self._options.quality, self._options.target_fps
        kind = check_image(first.image)
        switch = self._switch
        if quality is not None and switch is not None:
            own_fps = None if first.info is None else float(first.info.rate)
            bundle = switch.restorer.bundle
            choice = choose_member(self._loader(), bundle, quality, target_fps or own_fps, kind)
            if choice.bundle is bundle or switch.take(str(choice.model)):
                restorer = switch.restorer
                name, device = choice.bundle.manifest.name, restorer.device
                line = f"{name} on {restorer.where} at {restorer.precision}: {choice.reason}"
                details = {"model": name, "precision": restorer.precision, "device": device}
                self.log.record(EventKind.CHOSEN, line, quality, **details)
        if target_fps is not None:
            self._watchdog.govern(kind)

    def _recover(self, error: InferenceError) -> None:
        self.log.record(EventKind.STUCK, str(error), "inference")
        if isinstance(error, NoAnswerError) and self._switch is not None:
            self._switch.revive()

    def _close(self) -> None:
        self._source.close()
        if self._switch is not None:
            self._switch.close()

    # Opening: the source and the sink, both or neither.

    def _open(
        self, source: os.PathLike[str] | Address | Iterable[Any], outputs: Sequence[Any]
    ) -> tuple[Source, Sink]:
        if self._kind.of_images:
            return self._open_images(source, Path(outputs[0]))
        open_it = partial(open_source, source, self._options.source, log=self.log)
        with ExitStack() as undo:
            file: Source | None = None
            if isinstance(source, os.PathLike):
                # Its info is the outputs' to keep; nothing else is read before it is needed.
                file = open_it()
                undo.callback(file.close)
            sink_options = self._sink_options(file, source)
            if self._options.resume and self._file is not None:
                partial_video = self._partial_video(*self._file)
                if partial_video is not None:
                    size = partial_video.width, partial_video.height
                    sink_options = replace(sink_options, resumed=size)
            sink = open_sinks(outputs, sink_options)
            undo.callback(sink.abort)
            opened = open_it() if file is None else file
            undo.pop_all()
        if isinstance(opened, VideoFileSource):
            _tell_unsent(opened, outputs)
        if self._resumed is not None:
            return ResumedSource(opened, self._resumed), sink
        asked = self._options.realtime
        watched = sink.skips if asked is None else asked
        path = Path(source) if isinstance(source, os.PathLike) else Path()
        max_pixels = self._options.source.max_pixels
        if sink.skips and path.suffix.lower() in image_suffixes():
            return StillSource(path, any_range=self._any_range, max_pixels=max_pixels), sink
        if watched and isinstance(opened, VideoFileSource):
            return PacedSource(opened), sink
        return opened, sink

    @property
    def _any_range(self) -> bool:
        """Whether floats outside [0, 1] are restored."""
        restorer = self._restorer
        return (
            isinstance(restorer, Restorer) and restorer.intensity_range.kind is not RangeKind.FULL
        )

    def _partial_video(self, source: Path, output: Path) -> PartialVideo | None:
        """Open what an earlier run left of an output."""
        path = partial_name(output)
        if not path.exists():
            logger.info("%s: is not there, so the video is begun", path)
            return None
        self._resumed = PartialVideo(path, self._settings(source))
        count = len(self._resumed.times_s)
        logger.info("%s: goes on after %s", path, counted(count, "frame"))
        return self._resumed

    def _settings(self, source: Path) -> dict[str, Any]:
        """Return what a video is made of and with."""
        state, restorer = source.stat(), self._restorer
        bundle = getattr(restorer, "bundle", None)
        return {
            **self._options.settings,
            "input": [source.name, state.st_size, state.st_mtime_ns],
            "model": None if bundle is None else bundle.digest("fp32"),
            "precision": self._precision,
            "strength": getattr(restorer, "strength", None),
            "encoder": repr(self._options.video),
            "compare": self._options.compare,
        }

    def _note_partial(self) -> None:
        """After a video: remove the part that is in it, or note how the part was made."""
        if self._file is not None and self.telemetry.cut_short:
            source, output = self._file
            if self._resumed is not None or not self._numbered_partial:
                write_record(partial_name(output), self._settings(source))
        elif self._resumed is not None:
            self._resumed.remove()

    def _open_images(self, source: Any, output: Path) -> tuple[Source, Sink]:
        several = self._kind is InputKind.IMAGES
        names_of = [str(one) for one in source] if several else str(source)
        skip = self._options.skip_existing
        paths = paths_to_do(self._kind, names_of, output, skip_existing=skip)
        if skip and (there := len(image_paths(self._kind, names_of)) - len(paths)):
            logger.info("%s: %s there already, skipped", output, counted(there, "image"))
        overwrite, quality = self._options.overwrite, self._options.image_quality
        images = ImageFilesSource(
            paths, any_range=self._any_range, max_pixels=self._options.source.max_pixels
        )
        clear_partials(output_files(self._kind, names_of, output))
        if self._kind is InputKind.IMAGE:
            return images, ImageFileSink(output, overwrite=overwrite, inputs=paths, quality=quality)
        if others := left_out(self._kind, names_of):
            logger.info("%s: left out: %s", names_of, others)
        names = [written_name(path) for path in paths]
        for path, name in zip(paths, names, strict=True):
            if name != path.name:
                logger.info("%s: is written as %s", path, name)
        return images, ImageFolderSink(
            output, names, overwrite=overwrite, inputs=paths, quality=quality
        )

    def _sink_options(self, opened: Source | None, source: object) -> SinkOptions:
        options = self._options
        file = opened if isinstance(opened, VideoFileSource) else None
        # In segments, or beside a source that may change its size, each file is its own.
        info = file.info if file is not None and options.segment_s is None else None
        bundle = getattr(self._restorer, "bundle", None)
        scale = 1 if bundle is None else bundle.manifest.output.upscale
        sides = [scale, scale]
        if options.compare == Compare.SIDE and info is not None:
            sides[1 - left_of(info.display_matrix)[0]] *= 2
        live = is_live(source) if isinstance(source, Address) else options.source.live
        return SinkOptions(
            log=self.log,
            video=options.video,
            segment_s=options.segment_s,
            overwrite=options.overwrite,
            threads=codec_threads(os.cpu_count() or 1),
            info=info,
            size=None if info is None else (info.width * sides[0], info.height * sides[1]),
            inputs=[Path(source)] if isinstance(source, os.PathLike) else [],
            controls=self,
            max_staleness_s=options.max_staleness_s if live else None,
            cut_short=(lambda: False) if info is None else (lambda: self.telemetry.cut_short),
        )


Live = Session
"""A session on a stream, as programs embed it."""


def _tell_unsent(file: VideoFileSource, outputs: Sequence[Any]) -> None:
    """Tell what of a file does not go where pictures alone do."""
    beside = Counter(one.type for one in file.info.others if one.type in ("audio", "subtitle"))
    lost = " and ".join(counted(count, f"{kind} stream") for kind, count in beside.items())
    for output in outputs:
        if isinstance(output, str) and not is_path(output) and output not in _SHOWN and lost:
            logger.warning("%s: pictures alone go there; %s left out", redacted(output), lost)


_SHOWN = ("window", "virtualcam")


def restore_path(
    restorer: Restores,
    source: str,
    output: Path,
    *,
    overwrite: bool = False,
    progress: str = "auto",
    video: VideoOptions | None = None,
    notice: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
) -> RunSummary:
    """Restore an image, a folder or pattern of images, or a video.

    Parameters
    ----------
    restorer : Restores
        A `Restorer`, or anything with its ``submit`` and ``depth``.
    source : str
        Path of an image or video, a folder of images, or a pattern such as ``tiles/*.tif``.
    output : Path
        A file for a file; a folder for a folder or pattern, whose images keep their names.
    overwrite : bool
        Replace what is there. The input itself is never replaced.
    progress : str
        ``auto``, ``json`` or ``none``.
    video : VideoOptions or None
    notice : callable or None
        Given each line that the package logs for this run, from any thread.
    stop : threading.Event or None
        Ends the run early once set: what was read is finished and gets its name.

    Returns
    -------
    RunSummary

    Raises
    ------
    SourceError, SinkError, ArgumentError, InferenceError
        The first failure. Nothing unfinished is left behind, nothing was overwritten.
    """
    options = LiveOptions(video=video or VideoOptions(), overwrite=overwrite)
    kind = input_kind(source, output)
    with (
        Session(restorer, source, [output], options, notice=notice, kind=kind) as session,
        Progress(progress, session.telemetry, str(output)) as reporter,
    ):
        summary = session.run(stop)
        reporter.done(summary.interrupted)
    return summary


def codec_threads(cores: int) -> int:
    """Return the threads for a decoder or an encoder.

    They cost no more of the processor than one does, and fill what the model leaves idle.
    """
    return min(4, cores)
