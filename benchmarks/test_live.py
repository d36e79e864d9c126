"""Live: how old a frame is when it is shown, at 1280x720 and 30 frames a second."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import edgerestore
from edgerestore.streams.options import LiveOptions, SourceOptions
from edgerestore.streams.session import Live
from edgerestore.streams.telemetry import Snapshot

from .harness import Effort, Table
from .scenes import moving_frames

FPS = 30
SIZE = (720, 1280)
MOST_MS = 80.0
PICTURES = 12


def on_time(seconds: float) -> Iterator[int]:
    """Count frames at the camera's rate, by the clock."""
    start_s = time.perf_counter()
    for index in range(round(seconds * FPS)):
        time.sleep(max(0.0, start_s + index / FPS - time.perf_counter()))
        yield index


@contextmanager
def mjpeg_camera(seconds: float) -> Iterator[str]:
    """Serve JPEGs, encoded beforehand, to one viewer at the camera's rate."""
    jpegs = [
        cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        for frame in moving_frames(*SIZE, PICTURES)
    ]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        viewer, _ = listener.accept()
        with viewer:
            viewer.recv(65536)
            viewer.sendall(
                b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=f\r\n\r\n"
            )
            for index in on_time(seconds):
                jpeg = jpegs[index % PICTURES]
                head = f"--f\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                viewer.sendall(head.encode() + jpeg + b"\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    thread.join()
    listener.close()


def watched(source: str | Iterator[NDArray[np.uint8]], seconds: float) -> Snapshot:
    """Run a stream for some time and return what it counted."""
    options = LiveOptions(source=SourceOptions(live=True, fps=FPS), max_staleness_s=1.0)
    with edgerestore.load("deblur", live=True) as restorer:
        restorer(next(iter(moving_frames(*SIZE, 1))))  # compiled before the clock starts
        live = Live(restorer, source, [lambda _image, _frame: None], options)
        live.start()
        time.sleep(seconds)
        live.stop()
        live.join()
        return live.snapshot()


def told(table: Table, name: str, counts: Snapshot) -> None:
    dropped = {**counts.frames_dropped, **counts.frames_lost}
    if dropped:
        causes = ", ".join(f"{count} {cause}" for cause, count in dropped.items())
        table.note(f"{name}: {causes}")
    table.at_most(f"{name}, p50", counts.latency_ms["p50"], MOST_MS, "ms")
    table.at_most(f"{name}, p99", counts.latency_ms["p99"], MOST_MS, "ms")
    table.at_most(f"{name}, frames dropped", sum(dropped.values()), 1, f"of {counts.frames_in}")


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    return list(moving_frames(*SIZE, PICTURES))


def test_latency_at_720p30(
    table: Callable[[str], Table], effort: Effort, pictures: list[NDArray[np.uint8]]
) -> None:
    seconds = max(6.0, effort.frames / 6)
    rows = table("capture to sink, 1280x720 at 30 frames a second, the default model")
    produced = (pictures[index % PICTURES] for index in on_time(seconds + 5))
    told(rows, "frames from Python", watched(produced, seconds))
    with mjpeg_camera(seconds) as url:
        told(rows, "MJPEG over HTTP, decoding included", watched(url, seconds + 0.5))
