"""Frames into image files, one each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import SinkError
from ...imaging.image_files import IMAGE_SUFFIXES, check_format, encode_image
from ...imaging.library_errors import translated
from ..media.frames import Frame, Item
from .partial_file import PartialFile, check_output

__all__ = ["ImageFileSink", "ImageFolderSink"]


class ImageFileSink:
    """A `Sink` for one image file.

    Parameters
    ----------
    output : Path
        Its extension chooses the format.
    overwrite : bool
    inputs : iterable of Path
        Files that must not be replaced.
    """

    skips = False
    wants_original = False

    def __init__(
        self, output: Path, *, overwrite: bool = False, inputs: Iterable[Path] = ()
    ) -> None:
        _check_suffix(output)
        self._output = output
        self._written = False
        self._file = PartialFile(output, overwrite=overwrite, inputs=inputs)

    def write(self, item: Item) -> None:
        """Write the frame, once."""
        if not isinstance(item, Frame):
            return
        if self._written:
            raise SinkError(f"{self._output}: holds one image; name a folder for several")
        check_format(self._output, item.image)
        with translated(SinkError, self._output):
            self._file.path.write_bytes(encode_image(item.image, item.tags, self._output.suffix))
        self._written = True

    def close(self) -> None:
        """Give the file its name."""
        if not self._written:
            raise SinkError(f"{self._output}: got no frame, so there is nothing to write")
        self._file.commit()

    def abort(self) -> None:
        """Remove the file."""
        self._file.discard()


class ImageFolderSink:
    """A `Sink` for a folder: each frame becomes a file of the name it carries.

    Every file is whole as soon as it has its name, and stays when a later one fails. The
    folder is created with its first file.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        Every name to come, checked before any work is done.
    overwrite : bool
    inputs : iterable of Path
        Files that must not be replaced.
    """

    skips = False
    wants_original = False

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        *,
        overwrite: bool = False,
        inputs: Iterable[Path] = (),
    ) -> None:
        self._folder = folder
        self._overwrite = overwrite
        self._inputs = {path.name: path for path in inputs}
        if folder.exists() and not folder.is_dir():
            raise SinkError(f"{folder}: is a file; name a folder for several images")
        if not folder.parent.is_dir():
            raise SinkError(f"{folder}: the folder {folder.parent} is not there; create it")
        if len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise SinkError(f"{folder}: two inputs are called {twice}; restore them separately")
        if folder.is_dir():
            for name in names:
                check_output(folder / name, overwrite=overwrite, inputs=self._input(name))

    def write(self, item: Item) -> None:
        """Write one frame to its file, whole."""
        if not isinstance(item, Frame):
            return
        with translated(SinkError, self._folder):
            self._folder.mkdir(exist_ok=True)
        one = ImageFileSink(
            self._folder / item.name, overwrite=self._overwrite, inputs=self._input(item.name)
        )
        try:
            one.write(item)
            one.close()
        except BaseException:
            one.abort()
            raise

    def close(self) -> None:
        """Do nothing: every file is finished."""

    def abort(self) -> None:
        """Do nothing: every file that is there is whole."""

    def _input(self, name: str) -> list[Path]:
        return [self._inputs[name]] if name in self._inputs else []


def _check_suffix(output: Path) -> None:
    if output.suffix.lower() not in IMAGE_SUFFIXES:
        raise SinkError(
            f"{output}: {output.suffix or 'no extension'} is no image format here;"
            f" use one of {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
