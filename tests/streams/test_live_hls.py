"""HLS whose playlist moves on: segments come in bursts, frames leave one by one."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from edgerestore.streams.events import EventKind, EventLog

from .servers import RATE, HttpServer, picture, wait_for
from .tools import Taker, kinds, open_live, told


class Broadcaster:
    """Writes a playlist that moves on, in real time."""

    def __init__(self, folder: Any) -> None:
        self.path = folder / "live.m3u8"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broadcaster", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        options = {"hls_time": "0.4", "hls_list_size": "4", "hls_flags": "delete_segments"}
        with av.open(str(self.path), "w", format="hls", options=options) as container:
            stream: Any = container.add_stream(
                "libx264",
                rate=RATE,
                options={"g": "10", "tune": "zerolatency", "preset": "ultrafast", "threads": "1"},
            )
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            index = 0
            while not self._stop.wait(1 / RATE):
                frame = av.VideoFrame.from_ndarray(picture(index, (64, 48)), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, RATE)
                container.mux(stream.encode(frame))
                index += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(5)


@pytest.fixture
def server(tmp_path):
    broadcaster = Broadcaster(tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("*.ts"))) > 1, 5)
    with HttpServer(folder=tmp_path) as one:
        yield one
    broadcaster.stop()


def test_bursts_are_spread_over_their_time(server):
    with Taker(open_live(f"http://127.0.0.1:{server.port}/live.m3u8")) as taker:
        taker.more(35)
        frames = taker.frames[:35]
        assert not taker.source.lost
    steps_s = np.diff([frame.captured_s for frame in frames])
    # A burst would be nine steps of nothing and one of 0.4 s.
    assert np.median(steps_s) > 0.02
    assert steps_s.max() < 0.6
    assert np.diff([frame.pts for frame in frames]).min() > 0


def test_a_playlist_that_goes_away_comes_back(server):
    log = EventLog()
    with Taker(open_live(f"http://127.0.0.1:{server.port}/live.m3u8", log)) as taker:
        taker.more()
        server.stop()
        wait_for(lambda: {EventKind.STALLED, EventKind.LOST} & set(kinds(log)), 8)
        server.start()
        assert taker.more() < 2
    assert told(log, EventKind.CONNECTED)()
