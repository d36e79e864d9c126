"""The window itself: a thin layer over OpenCV's, and the check that there is a display."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import cv2

from ...errors import SinkError
from ...imaging.arrays import Image

__all__ = ["CvScreen", "Screen", "check_display"]

_NO_DISPLAY = "run it on a desktop, or watch with an MJPEG output"
_FONTS = Path("/usr/share/fonts")
_FIRST_SIZE_PX = (1280, 720)
_SLIDER = "strength %"
_MOST_PERCENT = 200


class Screen(Protocol):
    """A window that shows pictures and tells of keys, the mouse and a slider.

    All methods are called on one thread, `open` first and `close` last. The callbacks are
    called on that thread too, inside `key`.
    """

    def open(
        self,
        title: str,
        on_split: Callable[[float], None],
        on_percent: Callable[[int], None] | None,
    ) -> None:
        """Open it.

        Parameters
        ----------
        title : str
        on_split : callable
            Told where the mouse drags the line, as a fraction of the width.
        on_percent : callable or None
            Told where the strength slider is moved, 0 to 200; ``None``: there is no slider.
        """

    def show(self, image: Image) -> None:
        """Show a u8 picture of shape (H, W, 3), BGR order."""

    def key(self, wait_ms: int) -> int:
        """Handle what the user does for ``wait_ms``; return a key's code, or -1."""

    def visible(self) -> bool:
        """Whether it is open: the user may close it."""

    def set_percent(self, percent: int) -> None:
        """Move the slider."""

    def set_full_screen(self, full: bool) -> None:
        """Fill the screen, or stop doing so."""

    def close(self) -> None:
        """Close it; may be closed already."""


def check_display() -> None:
    """Refuse to open a window where none can be.

    Qt ends the whole process when it finds no display, so it must not be asked first.

    Raises
    ------
    SinkError
        When this OpenCV has no windows, or there is no display, or it does not answer.
    """
    framework = cv2.currentUIFramework()
    if not framework:
        raise SinkError("this OpenCV has no windows (opencv-python-headless); use opencv-python")
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise SinkError(f"there is no display (DISPLAY is not set); {_NO_DISPLAY}")
    if framework.startswith("QT") and os.environ.get("QT_QPA_PLATFORM", "xcb") == "xcb":
        _check_x11()


def _check_x11() -> None:
    """Connect once as Qt will, which over Wayland too goes through X11."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError as error:
        raise SinkError("windows need the library libxcb1; install it") from error
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connect.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    xcb.xcb_connection_has_error.argtypes = [ctypes.c_void_p]
    xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(None, None)
    failed = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    if failed:
        where = os.environ.get("DISPLAY", "")
        raise SinkError(f"the display {where!r} does not let us in; {_NO_DISPLAY}")


class CvScreen:
    """OpenCV's window, with its Qt or GTK behind it: see `Screen`."""

    def __init__(self) -> None:
        self._title = ""
        self._width = 0

    def open(
        self,
        title: str,
        on_split: Callable[[float], None],
        on_percent: Callable[[int], None] | None,
    ) -> None:
        """Open it, with the slider below the picture."""
        _prepare_qt()
        self._title = title
        # Without GUI_NORMAL, Qt's own toolbar takes keys and the mouse's wheel for itself.
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        cv2.resizeWindow(title, *_FIRST_SIZE_PX)
        if on_percent is not None:
            cv2.createTrackbar(_SLIDER, title, 100, _MOST_PERCENT, on_percent)

        def on_mouse(event: int, x: int, _y: int, flags: int, _: object) -> None:
            dragged = event == cv2.EVENT_MOUSEMOVE and flags & cv2.EVENT_FLAG_LBUTTON
            if (dragged or event == cv2.EVENT_LBUTTONDOWN) and self._width:
                on_split(x / self._width)

        cv2.setMouseCallback(title, on_mouse)

    def show(self, image: Image) -> None:
        """Show a picture, fitted into the window."""
        self._width = image.shape[1]
        cv2.imshow(self._title, image)

    def key(self, wait_ms: int) -> int:
        """Handle events; return a key's code, or -1."""
        return cv2.waitKeyEx(wait_ms)

    def visible(self) -> bool:
        """Whether the user has left it open."""
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:  # so answers Qt once the last window is closed
            return False

    def set_percent(self, percent: int) -> None:
        """Move the slider, unless it stands there."""
        if cv2.getTrackbarPos(_SLIDER, self._title) != percent:
            cv2.setTrackbarPos(_SLIDER, self._title, percent)

    def set_full_screen(self, full: bool) -> None:
        """Fill the screen, or stop doing so."""
        wanted = cv2.WINDOW_FULLSCREEN if full else cv2.WINDOW_NORMAL
        cv2.setWindowProperty(self._title, cv2.WND_PROP_FULLSCREEN, wanted)

    def close(self) -> None:
        """Close it, unless the user has."""
        if self.visible():
            cv2.destroyWindow(self._title)
            cv2.waitKey(1)  # Qt destroys it only when it handles events


def _prepare_qt() -> None:
    """Tell Qt where fonts are: the wheel names a folder that it does not bring."""
    # Else it ends with remarks about its timers, which died with the thread of the window.
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
    if Path(os.environ.get("QT_QPA_FONTDIR", "/none")).is_dir():
        return
    found = next(_FONTS.glob("**/DejaVuSans.ttf"), None) or next(_FONTS.glob("**/*.ttf"), None)
    if found is not None:
        os.environ["QT_QPA_FONTDIR"] = str(found.parent)
