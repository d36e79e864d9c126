"""Frames from Python objects, from files in real time, and the one door to every source."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from edgerestore.errors import ArgumentError, SourceError, SourceLostError
from edgerestore.streams.events import EventLog
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.options import SourceOptions
from edgerestore.streams.sources.connection import ConnectionSource
from edgerestore.streams.sources.files import VideoFileSource
from edgerestore.streams.sources.live_source import LiveSource
from edgerestore.streams.sources.producer import ProducerSource
from edgerestore.streams.sources.registry import open_source
from edgerestore.streams.sources.timeline import PacedSource, Pacer

from ..checked import not_none
from .servers import HttpServer, wait_for
from .tools import Taker


def image(value=0, shape=(4, 6), dtype=np.uint8):
    return np.full(shape, value, dtype)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_all_kinds_of_images(shape, dtype):
    given = image(1, shape, dtype)
    (frame,) = ProducerSource([given])
    np.testing.assert_array_equal(frame.image, given)
    assert frame.image.dtype == dtype
    assert not np.shares_memory(frame.image, given)
    info = not_none(frame.info)
    assert (info.width, info.height) == (6, 4)


@pytest.mark.parametrize("owned", [False, True])
def test_big_endian_images_come_in_the_order_of_this_machine(owned):
    given = np.arange(24, dtype=">u2").reshape(4, 6)
    (frame,) = ProducerSource([given], owned=owned)
    np.testing.assert_array_equal(frame.image, given)
    assert frame.image.dtype.isnative


def test_an_owned_image_is_not_copied():
    given = image()
    (frame,) = ProducerSource([given], owned=True)
    assert frame.image is given


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (image(dtype=np.float64), "frame 2: image dtype float64 is not taken"),
        (image(shape=(4, 6, 2)), r"frame 2: image shape \(4, 6, 2\)"),
        ("picture", "frame 2: an image is a NumPy array, got str"),
        ((image(), "now"), "frame 2: "),
        ((image(), float("nan")), "frame 2: its time is nan"),
    ],
)
def test_what_is_no_image_is_named_by_its_number(bad, message):
    source = ProducerSource([image(), image(), bad, image()])
    with pytest.raises(SourceError, match=message):
        list(source)
    assert list(source) == []


def test_what_a_producer_raises_is_told_in_a_line():
    def images():
        yield image()
        raise RuntimeError("the laser\nis off")

    source = ProducerSource(images(), name="stage")
    assert next(source).pts == 0
    with pytest.raises(SourceError, match="^stage: RuntimeError: the laser is off$") as error:
        next(source)
    assert isinstance(error.value.__cause__, RuntimeError)
    source.close()


def test_a_producer_that_exits_is_an_error_too():
    def images():
        yield image()
        raise SystemExit(3)

    with pytest.raises(SourceError, match="SystemExit: 3"):
        list(ProducerSource(images()))


def test_time_is_the_rate_or_what_is_handed_in():
    frames = list(ProducerSource([image()] * 3, rate=Fraction(30_000, 1001)))
    assert [frame.pts for frame in frames] == [0, 3003, 6006]
    assert frames[0].duration == 3003
    frames = list(ProducerSource([(image(), seconds) for seconds in (5.0, 5.5, 5.5, 7.25)]))
    assert [frame.pts for frame in frames] == [450_000, 495_000, 495_001, 652_500]


def test_a_producer_that_waits_is_lost_and_abandoned():
    end = threading.Event()

    def images():
        yield image()
        end.wait(10)

    source = ProducerSource(images(), stall_s=0.2)
    next(source)
    with pytest.raises(SourceLostError, match=r"gave no frame for 0.2 s") as error:
        next(source)
    assert error.value.exit_code == 4
    assert list(source) == []
    end.set()
    source.close()


def test_an_unhurried_producer_waits_for_its_taker():
    made = []

    def images():
        for index in range(30):
            made.append(index)
            yield image(index)

    source = ProducerSource(images())
    assert next(source).image[0, 0] == 0
    time.sleep(0.1)
    assert len(made) < 10
    assert [frame.image[0, 0] for frame in source] == list(range(1, 30))
    assert not source.lost


def test_a_live_producer_is_never_kept_waiting():
    source = ProducerSource((image(index % 256) for index in range(200)), live=True)
    next(source)
    wait_for(lambda: source._reader.buffer._ended)
    # The first one taken may have been one of the last four already.
    assert [frame.image[0, 0] for frame in source][-3:] == [197, 198, 199]
    assert source.lost["not taken in time"] > 150


def test_close_closes_the_generator_on_its_own_thread():
    closed_by = []

    def images():
        try:
            while True:
                yield image()
        finally:
            closed_by.append(threading.current_thread().name)

    source = ProducerSource(images())
    next(source)
    source.close()
    assert closed_by == ["edgerestore-producer"]


def test_close_ends_a_wait_at_once():
    end = threading.Event()

    def images():
        yield image()
        end.wait(10)

    taker = Taker(ProducerSource(images()))
    wait_for(lambda: taker.frames)
    threading.Timer(0.05, end.set).start()
    began_s = time.perf_counter()
    taker.source.close()
    taker.ended()
    assert time.perf_counter() - began_s < 0.5


def test_facts_change_with_the_picture_and_only_then():
    frames = list(
        ProducerSource([image(), image(1), image(shape=(8, 8, 3)), image(shape=(8, 8, 3))])
    )
    info = [frame.info for frame in frames]
    assert info[0] is info[1]
    assert info[1] is not info[2]
    assert info[2] is info[3]


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_above_nothing(rate):
    with pytest.raises(ArgumentError, match="rate"):
        ProducerSource([], rate=rate)


def test_pace_keeps_time_and_jumps_with_the_stream():
    pace = Pacer()
    began_s = time.perf_counter()
    assert pace.wait(Fraction(100))
    assert time.perf_counter() - began_s < 0.05
    assert pace.wait(Fraction(1001, 10))
    assert 0.09 < time.perf_counter() - began_s < 0.3
    assert pace.wait(Fraction(5000))
    assert pace.wait(Fraction(3))
    assert time.perf_counter() - began_s < 0.4
    pace.stop()
    assert not pace.wait(Fraction(4))


def test_paced_files_take_their_time_and_can_be_stopped(clip, tmp_path):
    path = clip(tmp_path / "in.mp4", pts=[0, 9_000, 18_000, 180_000])
    source = open_source(path, SourceOptions(paced=True), log=EventLog())
    assert isinstance(source, PacedSource)
    taker = Taker(source)
    began_s = time.perf_counter()
    wait_for(lambda: len(taker.frames) == 3)
    assert 0.15 < time.perf_counter() - began_s < 1
    source.close()
    assert taker.ended() < 0.5
    assert taker.error is None
    assert len(taker.frames) == 3


def test_a_paced_source_is_closed_by_one_thread_alone():
    class SlowToClose:
        expected_frames = None
        live = interruptible = False

        def __init__(self):
            self.lost: Counter[str] = Counter()
            self._items = self._read()

        def _read(self):
            try:
                for index in range(9):
                    yield Frame(image(), index, Fraction(1))
            finally:
                time.sleep(0.2)

        def __iter__(self):
            yield from self._items

        def close(self):
            self._items.close()

    source = PacedSource(SlowToClose())
    taker = Taker(source)
    wait_for(lambda: taker.frames)
    source.close()
    assert taker.ended() < 0.5
    assert taker.error is None


def test_the_door(clip, tmp_path):
    path = clip(tmp_path / "in.mp4", frames=3)

    def opened(what, **options):
        source = open_source(what, SourceOptions(**options), log=EventLog())
        source.close()
        return source

    assert type(opened(str(path))) is VideoFileSource
    assert type(opened(path)) is VideoFileSource
    assert type(opened("rtsp://127.0.0.1:1/")) is LiveSource
    assert type(opened("camera:0")) is LiveSource
    assert type(opened([image()])) is ProducerSource
    assert opened(itertools.repeat(image()), live=True).live
    with HttpServer(folder=tmp_path) as server:
        url = f"http://127.0.0.1:{server.port}/in.mp4"
        assert type(opened(url)) is ConnectionSource
        live = open_source(url, SourceOptions(paced=True), log=EventLog())
        assert live.live
        assert len(list(live)) == 3
        live.close()
    with pytest.raises(SourceError, match="foo:// is not known"):
        opened("foo://x")


@pytest.mark.parametrize(
    "wrong",
    [{"stall_s": 0}, {"retries": -1}, {"rtsp_transport": "http"}, {"fourcc": "X"}, {"fps": -1}],
)
def test_options_are_checked(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        SourceOptions(**wrong)


def test_broadcast_rates_are_fractions():
    assert SourceOptions(fps=29.97).rate == Fraction(30_000, 1001)
    assert SourceOptions(fps=25).rate == 25
