"""Two hours' worth of frames, and hundreds of reconnections: nothing grows. Minutes of work."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

import edgerestore
from edgerestore.streams.events import EventLog
from edgerestore.streams.media.frames import Frame, VideoInfo
from edgerestore.streams.options import LiveOptions
from edgerestore.streams.session import Live
from edgerestore.streams.sources.connection import ConnectionFailedError
from edgerestore.streams.sources.live_source import LiveSource
from edgerestore.streams.sources.reconnect import Backoff

from .live_tools import Marks

pytestmark = pytest.mark.soak

FRAMES = 216_000  # two hours at 30 frames a second
WARM = 20_000
CONNECTIONS = 500


def test_two_hours_of_frames(picture, tmp_path):
    pictures = [picture(48, 64, seed=seed) for seed in range(8)]
    marks, count = Marks(), 0

    def frames():
        for index in range(FRAMES):
            # Two in three stand still, as most cameras' frames do.
            yield pictures[index // 3 % len(pictures)]

    def show(_image, _frame):
        nonlocal count
        count += 1
        if count >= WARM and count % WARM == 0:
            marks.note()

    with edgerestore.load("deblur", reuse_static=0.0, guard=True) as restorer:
        options = LiveOptions(segment_s=600)
        outputs = [show, str(tmp_path / "out.mp4"), "http://127.0.0.1:0"]
        summary = Live(restorer, frames(), outputs, options).run()
    assert summary.frames_in == summary.frames_out == count == FRAMES
    assert len(list(tmp_path.glob("out-*.mp4"))) >= FRAMES / 25 / 600
    marks.check()


class Connection:
    """Twenty frames, and then the connection is lost."""

    finite = False

    def __init__(self):
        self.lost: Counter[str] = Counter()
        self.info = VideoInfo(64, 48, Fraction(1, 90_000), Fraction(30))

    def __iter__(self):
        for index in range(20):
            image = np.full((48, 64, 3), index, np.uint8)
            yield Frame(image, index * 3000, Fraction(1, 90_000), info=self.info)
        raise ConnectionFailedError("gone", "end of stream")

    def close(self):
        pass


def test_hundreds_of_reconnections():
    marks, connections = Marks(), 0
    backoff = Backoff(first_s=0.001, longest_s=0.001)
    source = LiveSource(Connection, "a camera", EventLog(), backoff=backoff)
    for frame in source:
        if frame.image[0, 0, 0] == 0:
            connections += 1
            if connections % 50 == 0:
                marks.note()
        if connections == CONNECTIONS:
            break
    source.close()
    marks.check()
