"""A model's card: measured, drawn and written, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path

from ..bundle.bundle import Bundle
from ..errors import ArgumentError, SinkError
from ..evaluation.report import reserved
from ..imaging.error_translation import translated
from ..training.log import plot_curves
from .figures import (
    HeldOut,
    Tick,
    held_out_pairs,
    measure,
    served_precisions,
    suitable_degradations,
)
from .origin import LOG_NAME, Origin
from .page import Findings, page_text
from .showcase import showcase

__all__ = ["card_files", "write_card"]

_CLEAN = "none"


def card_files(name: str, folder: Path) -> tuple[Path, Path, Path, Path]:
    """Return the files of a card: page, picture of success, picture of failure, curves."""
    ends = (".md", "_success.jpg", "_failure.jpg", "_curves.png")
    page, success, failure, curves = (folder / f"{name}{end}" for end in ends)
    return page, success, failure, curves


def write_card(
    bundle: Bundle,
    folder: Path,
    origin: Origin,
    *,
    measured_on: Sequence[Path] = (),
    pictures: Path | None = None,
    degradations: Sequence[str] = (),
    overwrite: bool = False,
    tick: Tick,
) -> Path:
    """Measure a model and write its card.

    Parameters
    ----------
    bundle : Bundle
    folder : Path
        Gets ``NAME.md`` and its pictures.
    origin : Origin
    measured_on : sequence of Path
        Folders of held-out pictures: photographs, or pairs in ``inputs`` and ``targets``. The
        test splits of the datasets are measured beside them.
    pictures : Path, optional
        Folder of the same kind, whose pictures may be published: the card shows two of them.
    degradations : sequence of str
        Of photographs; by default those that tell what a model of the task does.
    overwrite : bool
        Replace an earlier card.
    tick : callable
        Called after each picture with the number done, the total, and what it was.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ArgumentError, SourceError
        On folders without pictures, and as `evaluate`.
    SinkError
        When a file is there already, or cannot be written; nothing of the card is.
    """
    held_out = [HeldOut.of(path) for path in measured_on]
    published = [] if pictures is None else [HeldOut.of(pictures)]
    files = [path for one in (*held_out, *published) for path in one.pictures()]
    trained_on = origin.trained_on(files)
    _refuse([path for path in trained_on if path.parent in {one.targets for one in held_out}])
    kinds = tuple(degradations) or suitable_degradations(bundle.manifest)
    flawed = [kind for kind in kinds if kind != _CLEAN]
    if any(not one.degradations(flawed) for one in published):
        raise ArgumentError("--pictures: clean ones show nothing; add --degrade, or use pairs")
    with translated(SinkError, folder):
        folder.mkdir(parents=True, exist_ok=True)
    paths = page, success, failure, curves = card_files(bundle.manifest.name, folder)
    precisions, skipped = served_precisions(bundle)
    with ExitStack() as stack:
        write = stack.enter_context(reserved(paths, overwrite=overwrite, inputs=files))
        splits = [stack.enter_context(held_out_pairs(dataset)) for dataset in origin.datasets]
        held_out += [split for split in splits if split is not None]
        measured = [measure(bundle, one, kinds, precisions, tick) for one in held_out]
        tried = [measure(bundle, one, flawed, precisions[:1], tick) for one in published]
        crops = [crop for one in tried for crop in showcase(bundle, one)]
        shown = dict(zip((success, failure), crops, strict=False))
        made: dict[Path, str | bytes] = {path: crop.jpeg for path, crop in shown.items()}
        if origin.runs:
            made[curves] = _curves(origin)
        findings = Findings(
            measured,
            skipped,
            {path.name: crop for path, crop in shown.items()},
            {path.name for path in trained_on},
            curves.name if origin.runs else None,
        )
        write({**made, page: page_text(bundle, origin, findings)})
    for path in {success, failure, curves} - made.keys():
        path.unlink(missing_ok=True)  # a picture of an earlier card
    return page


def _refuse(known: Sequence[Path]) -> None:
    if known:
        names = ", ".join(path.name for path in known)
        raise ArgumentError(f"--measure {known[0].parent}: {names}: trained on, leave them out")


def _curves(origin: Origin) -> bytes:
    picture = BytesIO()
    plot_curves([run.folder / LOG_NAME for run in origin.runs], picture)
    return picture.getvalue()
