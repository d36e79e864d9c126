"""Preview window: original and restored side by side, keys and a strength slider."""

from __future__ import annotations

import atexit
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from queue import SimpleQueue

import cv2

from ...engine.strength import MAXIMUM
from ...errors import SinkClosedError, SinkError, first_line
from ..events import StreamState
from ..media.display import check_showable
from ..media.frames import Frame, Item
from ..media.rotation import as_shown
from ..options import SinkOptions
from ..protocols import Controls
from .window_screen import (
    CvScreen,
    Screen,
    check_display,
    compose,
    large_enough,
    placeholder,
    write_banner,
    write_help,
    write_line,
)

__all__ = ["HELP", "KEYS", "Action", "View", "WindowSink", "check_sink", "handle_key", "open_sink"]

_STRENGTH_STEP = 0.05
_SPLIT_STEP = 0.02


class Action(StrEnum):
    """Action of a key."""

    QUIT = "quit"
    PAUSE = "pause or go on"
    STRONGER = "more strength"
    WEAKER = "less strength"
    UNTOUCHED = "strength 0 %"
    FULL = "strength 100 %"
    SPLIT = "original beside restored, on and off"
    SPLIT_LEFT = "move the line to the left"
    SPLIT_RIGHT = "move the line to the right"
    FULL_SCREEN = "full screen, on and off"
    HELP = "this help, on and off"


# Names for the help, codes, and action. The codes are OpenCV's: characters, and keysyms of X11.
_KEYS: tuple[tuple[str, tuple[int, ...], Action], ...] = (
    ("q, Esc", (ord("q"), 27), Action.QUIT),
    ("space", (ord(" "),), Action.PAUSE),
    ("up, +", (65362, ord("+"), ord("="), 65451), Action.STRONGER),
    ("down, -", (65364, ord("-"), 65453), Action.WEAKER),
    ("0", (ord("0"),), Action.UNTOUCHED),
    ("1", (ord("1"),), Action.FULL),
    ("s", (ord("s"),), Action.SPLIT),
    ("left, mouse", (65361,), Action.SPLIT_LEFT),
    ("right, mouse", (65363,), Action.SPLIT_RIGHT),
    ("f", (ord("f"),), Action.FULL_SCREEN),
    ("h, F1", (ord("h"), 65470), Action.HELP),
)

KEYS = {code: action for _, codes, action in _KEYS for code in codes}
"""Key code -> action; letters are looked up in lower case."""

HELP = tuple((name, action) for name, _, action in _KEYS)
"""Names of the keys with their actions, for the help."""


@dataclass(frozen=True)
class View:
    """State of the window's view.

    Parameters
    ----------
    split : float
        Where the line stands, as a fraction of the width.
    split_shown, help_shown, full_screen : bool
    quit : bool
        The window is to be closed.
    """

    split: float = 0.5
    split_shown: bool = True
    help_shown: bool = False
    full_screen: bool = False
    quit: bool = False

    def split_at(self, split: float) -> View:
        """Return the view with the line somewhere else, within the picture."""
        return replace(self, split=min(max(split, 0.0), 1.0))


def handle_key(key: int, view: View, controls: Controls | None) -> View:
    """Act on a key.

    Parameters
    ----------
    key : int
        A code of `cv2.waitKeyEx`; -1 and unknown ones do nothing.
    view : View
    controls : Controls or None
        Where strength and pausing go; without them these keys do nothing.

    Returns
    -------
    View
        How to show it from now on.
    """
    code = key + 32 if ord("A") <= key <= ord("Z") else key
    action = KEYS.get(code)
    if action is None:
        return view
    if controls is not None:
        _control(action, controls)
    match action:
        case Action.QUIT:
            return replace(view, quit=True)
        case Action.SPLIT:
            return replace(view, split_shown=not view.split_shown)
        case Action.SPLIT_LEFT:
            return view.split_at(view.split - _SPLIT_STEP)
        case Action.SPLIT_RIGHT:
            return view.split_at(view.split + _SPLIT_STEP)
        case Action.FULL_SCREEN:
            return replace(view, full_screen=not view.full_screen)
        case Action.HELP:
            return replace(view, help_shown=not view.help_shown)
        case _:
            return view


def _control(action: Action, controls: Controls) -> None:
    match action:
        case Action.QUIT:
            controls.stop()
        case Action.PAUSE:
            (controls.resume if controls.paused else controls.pause)()
        case Action.STRONGER:
            _strengthen(controls, _STRENGTH_STEP)
        case Action.WEAKER:
            _strengthen(controls, -_STRENGTH_STEP)
        case Action.UNTOUCHED:
            controls.strength = 0.0
        case Action.FULL:
            controls.strength = 1.0


def _strengthen(controls: Controls, step: float) -> None:
    wanted = min(max(controls.strength + step, 0.0), MAXIMUM)
    controls.strength = round(wanted, 4)  # 0.15, and not what adding 0.05 three times leaves


_Job = tuple[Callable[[], None], Future[None]]


class _WindowThread(threading.Thread):
    """Thread that runs jobs one after another; it starts with the first.

    It is a daemon, unlike an executor's, so that a program that forgot to close its window
    can end.
    """

    def __init__(self) -> None:
        super().__init__(name="edgerestore-window", daemon=True)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()

    def submit(self, job: Callable[[], None]) -> Future[None]:
        if self.ident is None:
            self.start()
        done: Future[None] = Future()
        self._jobs.put((job, done))
        return done

    def end(self, timeout_s: float) -> None:
        self._jobs.put(None)
        self.join(timeout_s)

    def run(self) -> None:
        while (one := self._jobs.get()) is not None:
            job, done = one
            try:
                job()
            except BaseException as error:
                done.set_exception(error)  # raised where the outcome is asked for
            else:
                done.set_result(None)


_WAIT_MS = 15  # how long one look at keys and mouse takes; a new frame is shown after it
_STATUS_EVERY_S = 0.25
_FPS_OVER_S = 2.0
_OPEN_S = 10.0
_CLOSE_S = 2.0

# Qt belongs for good to the thread that opened the first window, and hangs on any other. So
# the process has one for all its windows, one window at a time.
_QT_THREAD = _WindowThread()
_qt_free = threading.Lock()


def open_sink(_: re.Match[str], options: SinkOptions) -> WindowSink:
    """Open ``window``, as the registry of sinks does."""
    return WindowSink(options.controls)


def check_sink(_match: re.Match[str], _options: SinkOptions) -> None:
    """Refuse a window where none can be opened."""
    check_display()


class WindowSink:
    """`Sink` that shows frames in a window, with the original to the left of a line.

    Keys (`HELP`), the mouse and the slider act on the stream. The window answers while no frames
    come, and says then why. Closing it ends the stream, as ``q`` does:
    by the controls where there are some, and otherwise by refusing further frames.

    The window runs on one thread, ``edgerestore-window``. That of OpenCV's windows stays, idle,
    until the process ends: Qt takes no other. ``controls.status`` is not asked before the first
    frame has come.

    Parameters
    ----------
    controls : Controls or None
        What the keys and the slider turn; without, there is no slider.
    title : str
    screen : Screen or None
        Another window than OpenCV's.

    Raises
    ------
    SinkError
        When there is no display, or another window of this process is open.
    """

    skips = True
    wants_original = True

    def __init__(
        self,
        controls: Controls | None = None,
        title: str = "edgerestore",
        *,
        screen: Screen | None = None,
    ) -> None:
        self._controls = controls
        self._title = title
        self._view = View()
        self._frame: Frame | None = None
        self._written_s: deque[float] = deque(maxlen=256)
        self._wanted_percent: int | None = None
        self._ending = threading.Event()
        self._opened: Future[None] = Future()
        self._own_thread: _WindowThread | None = None
        self._run_on(screen)
        atexit.register(self._finish)  # a window that nobody closed must not outlive its program
        self._wait_opened()

    @property
    def closed(self) -> bool:
        """Whether the window is gone: the user closed it, or the stream ended."""
        return self._done.done()

    def write(self, item: Item) -> None:
        """Show a frame from now on; never waits for the window.

        A `SinkClosedError` tells that the user closed the window and there are no controls to
        end the stream by.
        """
        if self._done.done():
            self._done.result()
            if self._controls is None:
                raise SinkClosedError("the preview window was closed")
            return  # the stream is ending, and finishes what was read
        if isinstance(item, Frame):
            check_showable(item.image)
            self._written_s.append(time.monotonic())
            self._frame = as_shown(item)

    def close(self) -> None:
        """Close the window. Raises what it failed with."""
        self._finish()
        if self._done.done():
            self._done.result()

    def abort(self) -> None:
        """Close the window. Never raises."""
        self._finish()

    def _run_on(self, screen: Screen | None) -> None:
        if screen is not None:
            self._own_thread = _WindowThread()
            self._done = self._own_thread.submit(partial(self._run, screen))
            return
        check_display()
        if not _qt_free.acquire(blocking=False):
            raise SinkError("another preview window is open in this process; close it first")
        self._done = _QT_THREAD.submit(partial(self._run, CvScreen()))
        self._done.add_done_callback(lambda _: _qt_free.release())

    def _wait_opened(self) -> None:
        try:
            self._opened.result(_OPEN_S)
        except TimeoutError:
            self._finish()
            raise SinkError(
                "the preview window did not open; open no window before it on another thread"
            ) from None
        except BaseException:
            self._finish()
            raise

    def _finish(self) -> None:
        self._ending.set()
        wait([self._done], _CLOSE_S)
        if self._own_thread is not None:
            self._own_thread.end(_CLOSE_S)
        atexit.unregister(self._finish)

    # The rest runs on the window's thread.

    def _run(self, screen: Screen) -> None:
        try:
            slider = self._ask_percent if self._controls is not None else None
            screen.open(self._title, self._drag_split, slider)
        except cv2.error as error:
            self._opened.set_exception(_failed(error))
            return
        self._wanted_percent = None  # a slider tells where it begins, which nobody asked for
        self._opened.set_result(None)
        try:
            self._show_until_closed(screen)
            screen.close()
        except cv2.error as error:
            raise _failed(error) from error

    def _show_until_closed(self, screen: Screen) -> None:
        shown: tuple[object, ...] = ()
        status = _Status()
        while not self._ending.is_set() and not self._view.quit:
            self._take_slider(screen)
            # Before, the stream may still be made, of this window too.
            status.refresh(self._fps(), self._controls if self._frame is not None else None)
            wanted = (self._frame, self._view, status.state, self._text(status))
            if wanted != shown:
                self._show(screen, self._frame, status, wanted[3])
                shown = wanted
            self._take_key(screen)

    def _take_key(self, screen: Screen) -> None:
        key = screen.key(_WAIT_MS)
        if not screen.visible():
            key = ord("q")
        before = self._view
        self._view = handle_key(key, before, self._controls)
        if self._view.full_screen != before.full_screen:
            screen.set_full_screen(self._view.full_screen)

    def _drag_split(self, split: float) -> None:
        if self._view.split_shown:
            self._view = self._view.split_at(split)

    def _ask_percent(self, percent: int) -> None:
        self._wanted_percent = percent

    def _take_slider(self, screen: Screen) -> None:
        """Synchronize the slider and the strength; the last one moved counts."""
        if self._controls is None:
            return
        wanted, self._wanted_percent = self._wanted_percent, None
        # A strength of 0.333 stands at 33 on the slider, which must not make 0.33 of it.
        if wanted is not None and wanted != _percent(self._controls):
            self._controls.strength = wanted / 100
        screen.set_percent(_percent(self._controls))
        self._wanted_percent = None  # moving it tells so, too

    def _text(self, status: _Status) -> str:
        parts = [status.state.lower()] if status.state else []
        if self._controls is not None:
            parts.insert(0, f"strength {_percent(self._controls)} %")
        return "   ".join([*parts, f"{status.fps:.1f} fps", "h: help"])

    def _fps(self) -> float:
        since_s = time.monotonic() - _FPS_OVER_S
        return sum(when >= since_s for when in list(self._written_s)) / _FPS_OVER_S

    def _show(self, screen: Screen, frame: Frame | None, status: _Status, text: str) -> None:
        if frame is None:
            shown = placeholder()
        else:
            split = self._view.split if self._view.split_shown else None
            shown = large_enough(compose(frame.original, frame.image, split))
        if self._view.help_shown:
            write_help(shown, HELP)
        elif status.banner(frame is None):
            write_banner(shown, status.banner(frame is None))
        write_line(shown, text)
        screen.show(shown)


class _Status:
    """State and rate of the stream, refreshed a few times a second."""

    def __init__(self) -> None:
        self.state = ""
        self.fps = 0.0
        self._next_s = 0.0

    def refresh(self, fps: float, controls: Controls | None) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + _STATUS_EVERY_S
        self.fps = fps
        if controls is not None:
            self.state = str(controls.status().get("state", ""))

    def banner(self, waiting: bool) -> str:
        """Return the reason why the picture stands still; empty where it does not."""
        if self.state and self.state != StreamState.RUNNING:
            return self.state.lower().replace("_", " ")
        return "waiting for the first frame" if waiting else ""


def _percent(controls: Controls) -> int:
    return round(controls.strength * 100)


def _failed(error: cv2.error) -> SinkError:
    reason = first_line(Exception(getattr(error, "err", "") or error))
    return SinkError(f"the preview window failed: {reason}")
