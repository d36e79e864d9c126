"""The preview window with a display, and without one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import cv2
import pytest

from edgerestore.errors import SinkError
from edgerestore.streams.sinks.window import WindowSink


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
    monkeypatch.delenv("QT_QPA_PLATFORM", raising=False)
    with pytest.raises(SinkError, match=r"display ':4711' does not let us in|needs? the library"):
        WindowSink(None)


def test_a_platform_that_opencv_lacks_is_one_line_and_no_abort(monkeypatch):
    if not cv2.currentUIFramework().startswith("QT"):
        pytest.skip("this OpenCV's windows are not Qt's")
    monkeypatch.setenv("DISPLAY", ":4711")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    with pytest.raises(SinkError, match="QT_QPA_PLATFORM is 'offscreen', .* unset it"):
        WindowSink(None)


def test_an_opencv_without_windows(monkeypatch):
    monkeypatch.setattr("cv2.currentUIFramework", lambda: "")
    with pytest.raises(SinkError, match="use opencv-python$"):
        WindowSink(None)


REAL = """
import sys, time
from fractions import Fraction
import cv2, numpy as np
from edgerestore.streams.media.frames import Frame
from edgerestore.streams.sinks.window import WindowSink

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
from edgerestore.streams.sinks import window
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
