"""Frames from image files, one each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from ...errors import SourceError
from ...imaging.image_files import decode_image
from ..media.frames import Frame, Item

__all__ = ["ImageFilesSource"]


class ImageFilesSource:
    """A `Source` over image files, in the order given; ``pts`` counts them.

    Parameters
    ----------
    paths : sequence of Path
    notice : callable
        Told of each file that is skipped, in one line.

    Attributes
    ----------
    failed : list of Path
        The files that were skipped. Complete once the iterator has ended.

    Raises
    ------
    SourceError
        From the iterator, when there is one file only and it cannot be read.
    """

    live = interruptible = False

    def __init__(self, paths: Sequence[Path], notice: Callable[[str], None]) -> None:
        self.lost: Counter[str] = Counter()
        self.expected_frames: int | None = len(paths)
        self.failed: list[Path] = []
        self._paths = paths
        self._notice = notice
        self._items = self._read()

    def __iter__(self) -> Iterator[Item]:
        """Return the one iterator over what remains."""
        return self._items

    def close(self) -> None:
        """Forget the rest."""
        self._items.close()

    def _read(self) -> Generator[Item, None, None]:
        for index, path in enumerate(self._paths):
            try:
                image, tags = decode_image(path)
            except SourceError as error:
                if len(self._paths) == 1:
                    raise
                self.failed.append(path)
                self.lost["unreadable image"] += 1
                self._notice(f"{error} (skipped)")
                continue
            yield Frame(image, index, Fraction(1), 1, path.name, tags)
