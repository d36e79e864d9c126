"""Stand-ins for connections and cameras, encoded clips, and a thread that takes frames."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from edgerestore.streams.events import EventKind, EventLog
from edgerestore.streams.media.frames import Frame, VideoInfo
from edgerestore.streams.options import SourceOptions
from edgerestore.streams.sources.registry import open_source

from ..checked import not_none
from .servers import RATE, picture, wait_for

QUICK = SourceOptions(open_timeout_s=1.0, stall_s=0.5, threads=1)
"""Time-outs that a test can wait for."""


def open_live(url: str, log: EventLog | None = None, options: SourceOptions = QUICK) -> Any:
    return open_source(url, options, log=log or EventLog())


class FakeConnection:
    """Frames of one colour; ends, fails or hangs after so many. ``clock`` is its speed."""

    def __init__(
        self,
        count: int = 1_000,
        *,
        size: tuple[int, int] = (64, 48),
        finite: bool = False,
        error: BaseException | None = None,
        hangs: bool = False,
        rate: int = 100,
        first_pts: int = 1_000_000,
        clock: float = 1.0,
    ) -> None:
        self.lost: Counter[str] = Counter()
        self.finite = finite
        self.closed = threading.Event()
        self.let_go = threading.Event()
        self._count, self._error, self._hangs = count, error, hangs
        self._first_pts, self._rate, self._clock = first_pts, rate, clock
        self.info = VideoInfo(*size, Fraction(1, 1000), Fraction(rate), pix_fmt="rgb24")

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self.closed.wait(1 / self._rate):
                return
            image = np.full((self.info.height, self.info.width, 3), index % 256, np.uint8)
            pts = self._first_pts + int(index * 1000 * self._clock / self._rate)
            now_s = time.perf_counter()
            yield Frame(image, pts, Fraction(1, 1000), captured_s=now_s, info=self.info)
        if self._hangs:
            # As in a driver: `close` does not reach it.
            self.let_go.wait(20)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed.set()


class Taker:
    """Takes a source's frames on a thread of its own."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.frames: list[Frame] = []
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="taker", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for frame in self.source:
                self.frames.append(frame)
        except BaseException as error:
            self.error = error

    def more(self, count: int = 3, seconds: float = 5.0) -> float:
        """Wait for so many more frames; return how long the first of them took."""
        have = len(self.frames)
        first_s = wait_for(lambda: len(self.frames) > have or self.error, seconds)
        wait_for(lambda: len(self.frames) >= have + count or self.error, seconds)
        assert self.error is None, self.error
        return first_s

    def ended(self, seconds: float = 5.0) -> float:
        """Wait until the source has ended."""
        return wait_for(lambda: not self.thread.is_alive(), seconds)

    def __enter__(self) -> Taker:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()
        self.ended(1.0)


class FakeCapture:
    """What a camera would be to OpenCV.

    Attributes
    ----------
    asked : dict
        The properties that were set.
    """

    def __init__(
        self, count: int = 1_000, size: tuple[int, int] = (64, 48), opened: bool = True
    ) -> None:
        self.asked: dict[int, float] = {}
        self.released = 0
        self.shape: tuple[int, ...] = (size[1], size[0], 3)
        self.dtype: Any = np.uint8
        self._count, self._opened = count, opened
        self._index = 0

    def isOpened(self) -> bool:  # noqa: N802
        return self._opened

    def read(self) -> tuple[bool, Any]:
        assert not self.released
        time.sleep(0.01)
        if self._index == self._count:
            return False, None
        self._index += 1
        image = np.zeros(self.shape, self.dtype)
        image[..., 0] = self._index
        return True, image

    def get(self, prop: int) -> float:
        return {cv2.CAP_PROP_FPS: 30.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}.get(prop, 0.0)

    def set(self, prop: int, value: float) -> bool:
        self.asked[prop] = value
        return True

    def release(self) -> None:
        self.released += 1


def encoded(name: str, count: int, **options: Any) -> bytes:
    """Return a video in a container of FFmpeg's that is written in one go."""
    buffer = io.BytesIO()
    codec, pix_fmt = options.get("codec", "libx264"), options.get("pix_fmt", "yuv420p")
    with av.open(buffer, "w", format=name) as container:
        stream: Any = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        stream.options = {"crf": "1"} if codec == "libx264" else {}  # too little is not recognised
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, (64, 48)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def y4m(count: int) -> bytes:
    return encoded("yuv4mpegpipe", count, codec="wrapped_avframe")


def write_hls(folder: Path, count: int) -> Path:
    """Write a playlist with its segments."""
    path = folder / "list.m3u8"
    with av.open(str(path), "w", format="hls", options={"hls_time": "0.2"}) as container:
        stream: Any = container.add_stream(
            "libx264", rate=RATE, options={"g": "5", "bf": "0", "crf": "1", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, (64, 48)), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def kinds(log: EventLog) -> list[EventKind]:
    return [event.kind for event in log.events]


def told(log: EventLog, kind: EventKind) -> Callable[[], bool]:
    return lambda: kind in kinds(log)


def read_video(path):
    """Return (seconds, image) of each frame of a file, or of a file object."""
    with av.open(path if hasattr(path, "read") else str(path)) as container:
        return [
            (not_none(frame.pts) * not_none(frame.time_base), frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]
