"""Source over one picture that is watched."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from ...imaging.error_translation import silenced
from ...imaging.image_files import decode_image
from ...imaging.stated_size import MAX_PIXELS
from ..media.frames import Frame, Item

__all__ = ["StillSource"]

_PERIOD_S = Fraction(1, 5)  # how soon a change of strength shows


class StillSource:
    """`Source` that yields one picture five times a second, until it is closed.

    So a window on a picture stays open, and shows every change of strength.

    Parameters
    ----------
    path : Path
    any_range : bool
        Floats may lie outside [0, 1].
    max_pixels : int or None
        A larger picture is not read.

    Raises
    ------
    SourceError
        When the picture cannot be read.
    """

    live = False
    interruptible = True
    expected_frames: int | None = None

    def __init__(
        self, path: Path, *, any_range: bool = False, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        self.lost: Counter[str] = Counter()
        self._closed = threading.Event()
        with silenced():
            self._image, self._tags = decode_image(path, any_range=any_range, max_pixels=max_pixels)
        self._name = path.name
        self._items = self._read()

    def __iter__(self) -> Iterator[Item]:
        """Return the one iterator over the picture's repetitions."""
        return self._items

    def close(self) -> None:
        """End it; may be called from any thread."""
        self._closed.set()

    def _read(self) -> Iterator[Item]:
        pts = 0
        while not self._closed.is_set():
            yield Frame(self._image, pts, _PERIOD_S, 1, self._name, self._tags)
            pts += 1
            self._closed.wait(float(_PERIOD_S))
