"""Which input belongs to which target: folders, by the stems of the file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ArgumentError, SourceError
from ..imaging.image_files import IMAGE_SUFFIXES
from ..imaging.library_errors import translated

__all__ = ["FilePair", "find_pairs", "pictures_in"]


@dataclass(frozen=True)
class FilePair:
    """A target and its input.

    Parameters
    ----------
    target : Path
    given : Path or None
        None where the input is made from the target.
    """

    target: Path
    given: Path | None = None

    @property
    def name(self) -> str:
        """What the picture is called in reports: the target's file name."""
        return self.target.name


def find_pairs(targets: Path, inputs: Path | None) -> list[FilePair]:
    """Pair the pictures of two folders.

    Parameters
    ----------
    targets : Path
        Folder of ground truth.
    inputs : Path or None
        Folder of what the models get, a file for each target, with the same stem; None
        pairs each target with nothing.

    Returns
    -------
    list of FilePair
        By name.

    Raises
    ------
    ArgumentError
        For something that is no folder, or holds no picture.
    SourceError
        For a file without its partner, or two files of one stem.
    """
    truth = _by_stem("--targets", targets)
    if inputs is None:
        return [FilePair(path) for path in truth.values()]
    given = _by_stem("--inputs", inputs)
    _check_partners(given, truth, "target", targets)
    _check_partners(truth, given, "input", inputs)
    return [FilePair(path, given[stem]) for stem, path in truth.items()]


def pictures_in(option: str, folder: Path) -> list[Path]:
    """Return the pictures directly inside a folder, by name; hidden files are left out.

    Parameters
    ----------
    option : str
        Named in errors.
    folder : Path

    Raises
    ------
    ArgumentError
        When it is no folder, or holds no picture.
    """
    if not folder.is_dir():
        raise ArgumentError(f"{option} {folder}: no such folder; check the path")
    with translated(SourceError, folder):
        files = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "." and path.is_file()
        )
    if not files:
        raise ArgumentError(
            f"{option} {folder}: holds no picture; these are: {' '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return files


def _by_stem(option: str, folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in pictures_in(option, folder):
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise SourceError(f"{path}: has the same stem as {other.name}; keep one of them")
    return found


def _check_partners(
    these: dict[str, Path], others: dict[str, Path], wanted: str, folder: Path
) -> None:
    alone = [path for stem, path in these.items() if stem not in others]
    if alone:
        more = f", nor have {len(alone) - 1} others" if len(alone) > 1 else ""
        raise SourceError(
            f"{alone[0]}: has no {wanted} named {alone[0].stem}.* in {folder}{more}"
            f" ({len(these)} files there, {len(others)} here); files are paired by stem"
        )
