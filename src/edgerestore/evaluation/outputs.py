"""Report files that are reserved before the work and written whole after it, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import ArgumentError, SinkError
from ..imaging.library_errors import translated
from ..streams.sinks.partial_file import PartialFile

__all__ = ["ReservedFiles", "reserved"]


class ReservedFiles:
    """Places for files; made by `reserved`."""

    def __init__(self, parts: Mapping[Path, PartialFile]) -> None:
        self._parts = parts

    def write(self, texts: Mapping[Path, str]) -> None:
        """Write the files, all of them before the first gets its name.

        Parameters
        ----------
        texts : mapping of Path to str
            By the paths that were reserved.

        Raises
        ------
        SinkError
            When the disk refuses.
        """
        for path, text in texts.items():
            with translated(SinkError, path):
                # Names of files may hold bytes that are no text.
                self._parts[path].path.write_text(text, "utf-8", "backslashreplace")
        for path in texts:
            self._parts[path].commit()


@contextmanager
def reserved(
    paths: Sequence[Path], *, overwrite: bool, inputs: Sequence[Path]
) -> Iterator[ReservedFiles]:
    """Make sure that files can be written, and clear away what is left if they are not.

    Parameters
    ----------
    paths : sequence of Path
    overwrite : bool
        Replace what is there.
    inputs : sequence of Path
        Never replaced.

    Raises
    ------
    ArgumentError
        When one path is named twice.
    SinkError
        When a file is there already, or none can be made.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise ArgumentError("two reports have the same file; name another")
    parts: dict[Path, PartialFile] = {}
    with ExitStack() as stack:
        for path in paths:
            with translated(SinkError, path):
                special = path.exists() and not (path.is_file() or path.is_dir())
            if special:  # renaming would replace a device such as /dev/stdout
                raise SinkError(f"{path}: is no regular file; name another")
            parts[path] = PartialFile(path, overwrite=overwrite, inputs=inputs)
            stack.callback(parts[path].discard)
        yield ReservedFiles(parts)
