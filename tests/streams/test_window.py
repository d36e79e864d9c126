"""The preview window: what it shows and what its keys do, without a display; and once with one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from edgerestore.engine.media.frames import Frame
from edgerestore.engine.sinks import window_screen
from edgerestore.engine.sinks.window import WindowSink
from edgerestore.engine.sinks.window_keys import HELP, KEYS, Action, View, act
from edgerestore.engine.sinks.window_picture import (
    compose,
    large_enough,
    placeholder,
    write_banner,
    write_help,
    write_line,
)
from edgerestore.errors import SinkClosedError, SinkError

from ..live.fake_controls import FakeControls
from .sink_contract import SinkContract

RATE = Fraction(1, 25)
UP, DOWN, LEFT, RIGHT = 65362, 65364, 65361, 65363


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


def until(condition, wait_s=3.0):
    end_s = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


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


# What is shown.


def test_original_to_the_left_and_restored_to_the_right():
    original, restored = np.full((60, 80, 3), 10, np.uint8), np.full((60, 80, 3), 200, np.uint8)
    shown = compose(original, restored, 0.25)
    assert (shown[:, :18] == 10).all()
    assert (shown[:, 22:] == 200).all()
    assert (shown[:, 20] == 255).all()
    assert (original == 10).all()
    assert (restored == 200).all()


@pytest.mark.parametrize(
    ("split", "left", "right"),
    [(0.0, None, 200), (1.0, 10, None), (-3.0, None, 200), (7.0, 10, None)],
)
def test_a_line_at_the_edge(split, left, right):
    original, restored = np.full((60, 80, 3), 10, np.uint8), np.full((60, 80, 3), 200, np.uint8)
    shown = compose(original, restored, split)
    assert (shown[:, 4:-4] == (left or right)).all()


@pytest.mark.parametrize("original", [None, np.zeros((60, 80, 3), np.uint8)])
def test_restored_alone(original):
    restored = np.full((60, 80, 3), (1, 2, 3), np.uint8)
    shown = compose(original, restored, 0.5 if original is None else None)
    assert (shown == (3, 2, 1)).all()  # OpenCV's windows take BGR
    assert not np.shares_memory(shown, restored)


def test_an_enlarged_picture_stands_beside_its_enlarged_original(picture_at):
    small = picture_at(0, 60, 80)
    large = cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC)
    shown = compose(small, large, 0.5)
    assert shown.shape == (240, 320, 3)
    difference = np.abs(shown[:, :150, ::-1].astype(int) - large[:, :150])
    assert difference.max() <= 1


def test_a_large_picture_is_made_smaller():
    restored = np.full((3000, 6000), 30_000, np.uint16)
    shown = compose(np.full((750, 1500, 3), 0.5, np.float32), restored, 0.5)
    assert shown.shape == (960, 1920, 3)
    assert (shown[:, 1000:] == round(30_000 / 257)).all()
    assert (np.abs(shown[:, :900].astype(int) - 128) <= 1).all()


@pytest.mark.parametrize(
    "restored",
    [
        np.zeros((60, 80), np.uint8), np.zeros((60, 80, 1), np.float32),
        np.zeros((60, 80, 4), np.uint16), np.zeros((1, 1, 3), np.uint8),
        np.zeros((5, 4000), np.uint8),
    ],
)  # fmt: skip
def test_any_picture_takes_any_text(restored):
    shown = compose(np.zeros((60, 80, 3), np.uint8), restored, 0.5)
    write_line(shown, "strength 40 %   running   25.0 fps")
    write_banner(shown, "reconnecting")
    write_help(shown, HELP)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((240, 320), (480, 640)), ((64, 96), (384, 576)), ((360, 640), (360, 640)),
     ((1080, 1920), (1080, 1920)), ((10, 1000), (10, 1000)), ((1, 1), (360, 360))],
)  # fmt: skip
def test_small_pictures_are_enlarged_for_the_text(size, expected):
    small = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    large = large_enough(small)
    assert large.shape[:2] == expected
    times = expected[0] // size[0]
    np.testing.assert_array_equal(large[::times, ::times], small)


def test_text_can_be_read_on_white_and_on_black():
    for level in (0, 255):
        shown = np.full((360, 640, 3), level, np.uint8)
        write_line(shown, "strength")
        strip = shown[320:, :200]
        assert int(strip.max()) - int(strip.min()) > 150
        assert (shown[:300] == level).all()


def test_the_help_names_every_action():
    assert {action for _, action in HELP} == set(Action) == set(KEYS.values())
    shown = placeholder()
    write_help(shown, HELP)
    assert shown.max() > 200


# What keys do.


@pytest.mark.parametrize(
    ("keys", "calls"),
    [
        ([ord("q")], [("stop",)]),
        ([27], [("stop",)]),
        ([ord("Q")], [("stop",)]),
        ([ord(" ")], [("pause",)]),
        ([ord(" "), ord(" ")], [("pause",), ("resume",)]),
        ([ord("0")], [("strength", 0.0)]),
        ([ord("1")], [("strength", 1.0)]),
        ([ord("+")], [("strength", 1.05)]),
        ([UP, UP], [("strength", 1.05), ("strength", 1.1)]),
        ([DOWN], [("strength", 0.95)]),
        ([ord("-")], [("strength", 0.95)]),
        ([-1, 0, 65505, ord("z"), 10**9], []),
        ([ord("s"), ord("f"), ord("h"), LEFT, RIGHT], []),
    ],
)
def test_keys_turn_the_stream(controls, keys, calls):
    view = View()
    for key in keys:
        view = act(key, view, controls)
    assert controls.calls == calls
    assert view.quit == (("stop",) in calls)


def test_strength_stays_in_its_range(controls):
    for _ in range(50):
        act(UP, View(), controls)
    assert controls.strength == 2.0
    for _ in range(50):
        act(DOWN, View(), controls)
    assert controls.strength == 0.0
    assert all(value == round(value, 2) for _, value in controls.calls)


def test_keys_change_the_view():
    assert not act(ord("s"), View(), None).split_shown
    assert act(ord("s"), act(ord("s"), View(), None), None) == View()
    assert act(ord("h"), View(), None).help_shown
    assert act(65470, View(), None).help_shown
    assert act(ord("F"), View(), None).full_screen
    assert act(LEFT, View(), None).split == pytest.approx(0.48)
    assert act(RIGHT, View(split=1.0), None).split == 1.0
    assert act(LEFT, View(split=0.01), None).split == 0.0


def test_without_controls_keys_of_the_stream_do_nothing():
    for key in (ord(" "), ord("0"), ord("1"), UP, DOWN):
        assert act(key, View(), None) == View()
    assert act(ord("q"), View(), None).quit


# The window as a sink.


def test_frames_are_shown_with_their_originals(opened):
    sink, screen = opened()
    sink.write(flat(200, original=10))
    until(lambda: screen.shown and level(screen.shown[-1], 0.9) == 200)
    assert level(screen.shown[-1], 0.1) == 10
    assert WindowSink.skips
    assert WindowSink.wants_original


def test_before_the_first_frame_and_while_paused_it_says_so(opened, controls):
    sink, screen = opened()
    until(lambda: screen.shown)
    waiting = screen.shown[-1]
    assert waiting.max() == 255
    sink.write(flat(50, size=(400, 600)))
    until(lambda: screen.shown[-1].shape == (400, 600, 3))
    running = screen.shown[-1]
    screen.keys.append(ord(" "))
    until(lambda: (screen.shown[-1][:100] != running[:100]).any())
    assert controls.calls == [("pause",)]


def test_the_line_is_dragged_and_taken_away(opened):
    sink, screen = opened()
    sink.write(flat(200, original=10))
    screen.drags.append(0.9)
    until(lambda: screen.shown and level(screen.shown[-1], 0.8) == 10)
    screen.keys.append(ord("s"))
    until(lambda: level(screen.shown[-1], 0.8) == 200)


def test_a_stream_that_is_still_being_made_is_not_asked_how_it_does(opened, controls):
    asked = []
    controls.status = lambda: asked.append(1) or {"state": "RECONNECTING"}
    sink, screen = opened()
    until(lambda: len(screen.shown) > 0)
    time.sleep(0.3)
    assert not asked
    sink.write(flat(9))
    until(lambda: asked)


def test_full_screen(opened):
    _, screen = opened()
    screen.keys += [ord("f"), ord("f")]
    until(lambda: screen.full == [True, False])


def test_slider_and_strength_follow_each_other(opened, controls):
    controls.strength = 0.333
    controls.calls.clear()
    _, screen = opened()
    until(lambda: screen.percent == 33)
    screen.percents.append(80)
    until(lambda: controls.strength == 0.8)
    controls.strength = 1.5  # a socket, a program
    until(lambda: screen.percent == 150)
    screen.keys.append(ord("0"))
    until(lambda: screen.percent == 0)
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
    until(lambda: sink.closed)
    assert controls.calls == [("stop",)]
    assert screen.was_closed
    sink.write(flat(2, 1))
    sink.close()


def test_quitting_without_controls_refuses_further_frames(opened):
    sink, screen = opened(controls=None)
    screen.keys.append(ord("q"))
    until(lambda: sink.closed)
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
    until(lambda: sink.closed)
    with pytest.raises(SinkError, match="the preview window failed: the display"):
        sink.write(flat(1))
    sink.abort()


class TestWindowSink(SinkContract):
    all_arrive = False

    @pytest.fixture
    def make(self):
        self.screens = []

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
        until(lambda: self.arrived(sink, tmp_path))
        sink.close()
        assert self.which(self.arrived(sink, tmp_path)[0][1], frames) == len(frames) - 1


# A display.


def test_no_display_is_one_line(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="there is no display") as caught:
        WindowSink(None)
    assert "\n" not in str(caught.value)


def test_a_display_that_does_not_answer_is_one_line_and_no_abort(monkeypatch):
    """Qt would end the process."""
    if not cv2.currentUIFramework().startswith("QT"):
        pytest.skip("this OpenCV's windows are not Qt's")
    monkeypatch.setenv("DISPLAY", ":4711")
    with pytest.raises(SinkError, match=r"display ':4711' does not let us in|needs? the library"):
        WindowSink(None)


def test_an_opencv_without_windows(monkeypatch):
    monkeypatch.setattr(window_screen.cv2, "currentUIFramework", lambda: "")
    with pytest.raises(SinkError, match="use opencv-python$"):
        WindowSink(None)


REAL = """
import sys, time
from fractions import Fraction
import cv2, numpy as np
from edgerestore.engine.media.frames import Frame
from edgerestore.engine.sinks.window import WindowSink

images = []
show = cv2.imshow
cv2.imshow = lambda title, image: (images.append(image), show(title, image))
for title in ("one", "two"):  # Qt hangs if another thread opens the second
    images.clear()
    sink = WindowSink(None, title)
    for index in range(10):
        grey = np.full((90, 160, 3), 100, np.uint8)
        sink.write(Frame(grey, index, Fraction(1, 25), original=grey // 2))
        time.sleep(0.03)
    try:
        WindowSink(None, "third")
    except Exception as error:
        print(type(error).__name__, error)
    sink.close()
    print(title, sink.closed, images[-1][5, 5].tolist(), images[-1][5, -5].tolist())
forgotten = WindowSink(None, "nobody closes it")
"""

ELSEWHERE = """
import cv2
from edgerestore.engine.sinks import window
cv2.namedWindow("on the main thread")
window._OPEN_S = window._CLOSE_S = 0.5
try:
    window.WindowSink(None)
except Exception as error:
    print(error, flush=True)
"""


@pytest.fixture(scope="module")
def display():
    """Return the environment of a display; Qt's part of a test is in a process of its own."""
    if shutil.which("Xvfb") is None:
        pytest.skip("there is no Xvfb to be the display")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as running:
        try:
            os.close(write)
            number = os.read(read, 16).decode().strip()
            if not number:
                pytest.skip("Xvfb does not start here")
            yield {**os.environ, "DISPLAY": f":{number}"}
        finally:
            os.close(read)  # not before: Xvfb would die of what it still writes there
            running.terminate()


def on_display(display, code):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=display,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_real_windows_one_after_another(display):
    ended = on_display(display, REAL)
    assert ended.returncode == 0, ended.stderr
    third = "SinkError another preview window is open in this process; close it first"
    assert ended.stdout.splitlines() == [
        third,
        "one True [50, 50, 50] [100, 100, 100]",
        third,
        "two True [50, 50, 50] [100, 100, 100]",
    ]
    assert ended.stderr == ""


def test_windows_that_belong_to_another_thread(display):
    ended = on_display(display, ELSEWHERE)
    assert ended.stdout.startswith("the preview window did not open; open no window before it")
