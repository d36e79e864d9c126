"""Source over image files."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from ...errors import SourceError
from ...imaging.error_translation import silenced
from ...imaging.image_files import decode_pictures, written_name
from ...imaging.stated_size import MAX_PIXELS
from ..media.frames import Frame, Item

__all__ = ["ImageFilesSource"]

_logger = logging.getLogger(__name__)


class ImageFilesSource:
    """`Source` over image files, in the order given; ``pts`` counts them.

    The pictures of an animation have times of their own, from 0.

    Parameters
    ----------
    paths : sequence of Path
    any_range : bool
        Floats may lie outside [0, 1].
    max_pixels : int or None
        A larger picture is not read.

    Attributes
    ----------
    failed : list of Path
        The files that were skipped. Complete once the iterator has ended.
    files : int
        How many there are.

    Raises
    ------
    SourceError
        From the iterator, when there is one file only and it cannot be read.
    """

    live = interruptible = False

    def __init__(
        self, paths: Sequence[Path], *, any_range: bool = False, max_pixels: int | None = MAX_PIXELS
    ) -> None:
        self._any_range, self._max_pixels = any_range, max_pixels
        self.lost: Counter[str] = Counter()
        self.expected_frames: int | None = len(paths)
        self.failed: list[Path] = []
        self.files = len(paths)
        self._paths = paths
        self._items = self._read()

    def __iter__(self) -> Iterator[Item]:
        """Return the one iterator over what remains."""
        return self._items

    def close(self) -> None:
        """Stop reading."""
        self._items.close()

    def _read(self) -> Generator[Item, None, None]:
        for index, path in enumerate(self._paths):
            try:
                with silenced():
                    pictures, tags = decode_pictures(
                        path, any_range=self._any_range, max_pixels=self._max_pixels
                    )
            except SourceError as error:
                if len(self._paths) == 1:
                    raise
                self.failed.append(path)
                self.lost["unreadable image"] += 1
                _logger.warning("%s (skipped)", error)
                continue
            name, at_ms = written_name(path), 0
            self.expected_frames = (self.expected_frames or 0) + len(pictures) - 1
            if tags.pictures == 1:
                yield Frame(pictures[0].image, index, Fraction(1), 1, name, tags)
                continue
            for one in pictures:
                yield Frame(one.image, at_ms, Fraction(1, 1000), one.shown_ms, name, tags)
                at_ms += one.shown_ms
