"""The preview window as a sink, with a screen that is made up."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from edgerestore.errors import SinkClosedError, SinkError
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sinks.window import WindowSink
from edgerestore.testing.sinks import SinkTests

from ..live.fake_controls import FakeControls
from .servers import wait_for

RATE = Fraction(1, 25)


class FakeScreen:
    """Keeps what is shown; keys, drags and closing come from the test."""

    def __init__(self, fail=""):
        self.shown = []
        self.keys = []
        self.drags = []
        self.percents = []
        self.full = []
        self.percent = None
        self.is_open = self.was_closed = False
        self.threads = set()
        self._fail = fail

    def open(self, title, on_split, on_percent):
        self._note("open")
        self.is_open = True
        self._on_split, self._on_percent = on_split, on_percent
        self._moved(100)  # as Qt does

    def show(self, image):
        self._note("show")
        assert (image.dtype, image.ndim, image.shape[2]) == (np.uint8, 3, 3)
        self.shown.append(image)

    def key(self, wait_ms):
        self._note("key")
        time.sleep(0.002)
        if self.drags:
            self._on_split(self.drags.pop(0))
        if self.percents:
            self._moved(self.percents.pop(0))
        return self.keys.pop(0) if self.keys else -1

    def visible(self):
        self._note("visible")
        return self.is_open

    def set_percent(self, percent):
        self._note("set_percent")
        if percent != self.percent:
            self._moved(percent)

    def set_full_screen(self, full):
        self._note("set_full_screen")
        self.full.append(full)

    def close(self):
        self._note("close")
        self.is_open, self.was_closed = False, True

    def _moved(self, percent):
        self.percent = percent
        if self._on_percent is not None:
            self._on_percent(percent)

    def _note(self, call):
        self.threads.add(threading.current_thread().name)
        if call == self._fail:
            raise cv2.error("the display\nis gone")


def flat(value, index=0, original=None, size=(60, 80)):
    before = None if original is None else np.full((*size, 3), original, np.uint8)
    return Frame(np.full((*size, 3), value, np.uint8), index, RATE, original=before)


def level(image, x):
    """Return the level near the top of a picture, at a fraction of its width."""
    return image[image.shape[0] // 8, round(x * image.shape[1]), 0]


@pytest.fixture
def controls():
    return FakeControls()


@pytest.fixture
def opened(controls):
    sinks = []

    def one(controls=controls, **options):
        screen = FakeScreen()
        sinks.append(WindowSink(controls, screen=screen, **options))
        return sinks[-1], screen

    yield one
    for sink in sinks:
        sink.abort()


def test_frames_are_shown_with_their_originals(opened):
    sink, screen = opened()
    sink.write(flat(200, original=10))
    wait_for(lambda: screen.shown and level(screen.shown[-1], 0.9) == 200)
    assert level(screen.shown[-1], 0.1) == 10
    assert WindowSink.skips
    assert WindowSink.wants_original


def test_before_the_first_frame_and_while_paused_it_says_so(opened, controls):
    sink, screen = opened()
    wait_for(lambda: screen.shown)
    waiting = screen.shown[-1]
    assert waiting.max() == 255
    sink.write(flat(50, size=(400, 600)))
    wait_for(lambda: screen.shown[-1].shape == (400, 600, 3))
    running = screen.shown[-1]
    screen.keys.append(ord(" "))
    wait_for(lambda: (screen.shown[-1][:100] != running[:100]).any())
    assert controls.calls == [("pause",)]


def test_the_line_is_dragged_and_taken_away(opened):
    sink, screen = opened()
    sink.write(flat(200, original=10))
    screen.drags.append(0.9)
    wait_for(lambda: screen.shown and level(screen.shown[-1], 0.8) == 10)
    screen.keys.append(ord("s"))
    wait_for(lambda: level(screen.shown[-1], 0.8) == 200)


def test_a_stream_that_is_still_being_made_is_not_asked_how_it_does(opened, controls):
    asked = []
    controls.status = lambda: asked.append(1) or {"state": "RECONNECTING"}
    sink, screen = opened()
    wait_for(lambda: len(screen.shown) > 0)
    time.sleep(0.3)
    assert not asked
    sink.write(flat(9))
    wait_for(lambda: asked)


def test_full_screen(opened):
    _, screen = opened()
    screen.keys += [ord("f"), ord("f")]
    wait_for(lambda: screen.full == [True, False])


def test_slider_and_strength_follow_each_other(opened, controls):
    controls.strength = 0.333
    controls.calls.clear()
    _, screen = opened()
    wait_for(lambda: screen.percent == 33)
    screen.percents.append(80)
    wait_for(lambda: controls.strength == 0.8)
    controls.strength = 1.5  # a socket, a program
    wait_for(lambda: screen.percent == 150)
    screen.keys.append(ord("0"))
    wait_for(lambda: screen.percent == 0)
    time.sleep(0.05)
    # Where the slider begins and what it is set to is nobody's wish.
    assert controls.calls == [("strength", 0.8), ("strength", 1.5), ("strength", 0.0)]


@pytest.mark.parametrize("way", ["key", "closed"])
def test_quitting_stops_the_stream_and_later_frames_are_let_go(opened, controls, way):
    sink, screen = opened()
    sink.write(flat(1))
    if way == "key":
        screen.keys.append(27)
    else:
        screen.is_open = False
    wait_for(lambda: sink.closed)
    assert controls.calls == [("stop",)]
    assert screen.was_closed
    sink.write(flat(2, 1))
    sink.close()


def test_quitting_without_controls_refuses_further_frames(opened):
    sink, screen = opened(controls=None)
    screen.keys.append(ord("q"))
    wait_for(lambda: sink.closed)
    with pytest.raises(SinkClosedError, match="the preview window was closed"):
        sink.write(flat(1))
    sink.abort()


def test_every_call_is_on_one_thread_which_ends(opened):
    sink, screen = opened()
    for index in range(20):
        sink.write(flat(index, index))
        time.sleep(0.002)
    sink.close()
    assert len(screen.threads) == 1
    assert next(iter(screen.threads)).startswith("edgerestore-window")
    assert screen.was_closed
    assert not any("edgerestore-window" in one.name for one in threading.enumerate())


def test_a_window_that_cannot_be_opened():
    with pytest.raises(SinkError, match="^the preview window failed: the display$"):
        WindowSink(None, screen=FakeScreen(fail="open"))


@pytest.mark.parametrize("call", ["show", "key"])
def test_a_window_that_fails_later(call):
    sink = WindowSink(None, screen=FakeScreen(fail=call))
    wait_for(lambda: sink.closed)
    with pytest.raises(SinkError, match="the preview window failed: the display"):
        sink.write(flat(1))
    sink.abort()


class TestWindowSink(SinkTests):
    all_arrive = False

    @pytest.fixture
    def make(self):
        self.screens: list[FakeScreen] = []

        def one():
            self.screens.append(FakeScreen())
            return WindowSink(None, screen=self.screens[-1])

        return one

    def arrived(self, sink, tmp_path):
        shown = [image for image in self.screens[-1].shown if image.shape == (384, 576, 3)]
        return [(None, image[::6, ::6, ::-1]) for image in shown[-1:]]

    def which(self, image, frames):
        """Leave out the lower rows, where the text is."""
        top = [Frame(one.image[:24], one.pts, one.time_base) for one in frames]
        return super().which(image[:24], top)

    def test_frames_arrive_in_order_at_their_times(self, make, frames, tmp_path):
        sink = make()
        for frame in frames:
            sink.write(frame)
        wait_for(lambda: self.arrived(sink, tmp_path))
        sink.close()
        assert self.which(self.arrived(sink, tmp_path)[0][1], frames) == len(frames) - 1
