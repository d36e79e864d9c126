"""Drawing of the preview window, and the OpenCV window that shows it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from ...errors import SinkError
from ...imaging.arrays import Image
from ..media.display import eight_bit_rgb, fitted

__all__ = [
    "CvScreen",
    "Screen",
    "check_display",
    "compose",
    "large_enough",
    "placeholder",
    "write_banner",
    "write_help",
    "write_line",
]

_NO_DISPLAY = "run it on a desktop, or watch with an MJPEG output"
_FONTS = Path("/usr/share/fonts")
_FIRST_SIZE_PX = (1280, 720)
_SLIDER = "strength %"
_MOST_PERCENT = 200


class Screen(Protocol):
    """Protocol of a window that shows pictures and reports keys, the mouse and a slider.

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
    if framework.startswith("QT"):
        _check_platform(os.environ.get("QT_QPA_PLATFORM") or "xcb")


def _check_platform(platform: str) -> None:
    """Refuse a platform of Qt's that OpenCV does not bring, such as ``offscreen``."""
    folder = Path(cv2.__file__).parent / "qt" / "plugins" / "platforms"
    name = platform.partition(":")[0]
    if folder.is_dir() and not any(folder.glob(f"libq{name}.*")):
        raise SinkError(
            f"QT_QPA_PLATFORM is {platform!r}, which the windows of OpenCV do not have; unset it"
        )
    if name == "xcb":
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
    """`Screen` by OpenCV, with Qt or GTK behind it."""

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
    """Set Qt's font folder: the wheel names one that it does not contain."""
    # Else it ends with remarks about its timers, which died with the thread of the window.
    os.environ.setdefault("QT_LOGGING_RULES", "default.warning=false")
    if Path(os.environ.get("QT_QPA_FONTDIR", "/none")).is_dir():
        return
    found = next(_FONTS.glob("**/DejaVuSans.ttf"), None) or next(_FONTS.glob("**/*.ttf"), None)
    if found is not None:
        os.environ["QT_QPA_FONTDIR"] = str(found.parent)


_LARGEST_PX = (1920, 1080)  # more than that no preview needs, and drawing it would cost frames
_TEXT_HEIGHT_PX = 360  # below, text is too coarse once the window enlarges it
_LINE = (255, 255, 255)
_SHADOW = (0, 0, 0)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def compose(original: Image | None, restored: Image, split: float | None) -> Image:
    """Return a picture with the original to the left of a line and the restored to its right.

    Parameters
    ----------
    original : ndarray or None, u8, u16 or f32, shape (H, W) or (H, W, C), RGB order
        Scaled to the restored picture's size where it has another.
    restored : ndarray, u8, u16 or f32, shape (H', W') or (H', W', C)
    split : float or None
        Where the line stands, as a fraction of the width; ``None`` shows the restored alone.

    Returns
    -------
    ndarray, u8, shape (H'', W'', 3), BGR order
        A copy, no larger than 1920 x 1080.
    """
    restored = fitted(restored, *_LARGEST_PX)
    height, width = restored.shape[:2]
    if original is None or split is None:
        return _bgr(restored)
    column = round(min(max(split, 0.0), 1.0) * width)
    if original.shape[:2] != (height, width):
        smaller = original.shape[0] > height
        way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        original = np.asarray(cv2.resize(original, (width, height), interpolation=way))
    shown = np.empty((height, width, 3), np.uint8)
    if column > 0:
        shown[:, :column] = _bgr(original[:, :column])
    if column < width:
        shown[:, column:] = _bgr(restored[:, column:])
    thick = max(1, width // 640)
    shown[:, max(0, column - thick) : column + 2 * thick] = _SHADOW
    shown[:, column : column + thick] = _LINE
    return shown


def large_enough(shown: Image) -> Image:
    """Return a small picture enlarged by a whole number, pixels as squares, to be written on."""
    height, width = shown.shape[:2]
    times = min(-(-_TEXT_HEIGHT_PX // height), _LARGEST_PX[0] // width)
    if times <= 1:
        return shown
    size = (width * times, height * times)
    return np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_NEAREST))


def placeholder() -> Image:
    """Return what is shown before the first frame."""
    return np.full((360, 640, 3), 32, np.uint8)


def write_line(shown: Image, text: str) -> None:
    """Write a line of text into the lower left corner."""
    scale = _scale(shown)
    _write(shown, text, (round(12 * scale), shown.shape[0] - round(12 * scale)), scale)


def write_banner(shown: Image, text: str) -> None:
    """Write a word into the middle of the upper part; the picture stays to be looked at."""
    scale = 2 * _scale(shown)
    (width, height), _ = cv2.getTextSize(text, _FONT, 0.5 * scale, max(1, round(scale)))
    _write(shown, text, ((shown.shape[1] - width) // 2, shown.shape[0] // 5 + height), scale)


def write_help(shown: Image, lines: Sequence[tuple[str, str]]) -> None:
    """Write the keys and what they do over a darkened picture."""
    shown //= 3
    # All lines fit, whatever the proportions.
    scale = min(_scale(shown), shown.shape[0] / (22 * (len(lines) + 2)), shown.shape[1] / 460)
    for row, (key, meaning) in enumerate(lines, 1):
        height = round(22 * scale * (row + 0.5))
        _write(shown, key, (round(16 * scale), height), scale)
        _write(shown, meaning, (round(140 * scale), height), scale)


def _scale(shown: Image) -> float:
    """Return how large text is drawn: 1 on a picture of 480 lines."""
    return float(max(0.5, min(shown.shape[0] / 480, shown.shape[1] / 640)))


def _write(shown: Image, text: str, place: tuple[int, int], scale: float) -> None:
    """Write text in white on a darkened strip, to be read over any picture."""
    thick = max(1, round(scale))
    (width, height), below = cv2.getTextSize(text, _FONT, 0.5 * scale, thick)
    left, base = place
    margin = round(4 * scale)
    strip = shown[
        max(0, base - height - margin) : base + below + margin,
        max(0, left - margin) : left + width + margin,
    ]
    strip //= 3
    cv2.putText(shown, text, place, _FONT, 0.5 * scale, _LINE, thick, cv2.LINE_AA)


def _bgr(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(eight_bit_rgb(image), cv2.COLOR_RGB2BGR))
