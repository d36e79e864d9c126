"""Checks of a run's input and outputs, cheap ones, before a model is loaded for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..errors import SourceError
from ..imaging.animations import check_animated
from ..imaging.image_files import check_format, is_animation, written_name
from .options import InputKind, LiveOptions, SinkOptions, paths_to_do
from .sinks.files import ImageFolderSink
from .sinks.partial_file import check_output
from .sinks.registry import check_outputs
from .sources.address import Address

__all__ = ["check_run"]

_logger = logging.getLogger(__name__)


def check_run(
    kind: InputKind,
    source: str | Sequence[str] | Address,
    outputs: Sequence[str],
    options: LiveOptions,
) -> bool:
    """Refuse what a `Session` of the same arguments would refuse; nothing is opened.

    Returns
    -------
    bool
        False where every output is there already and is to be skipped.

    Raises
    ------
    SourceError, SinkError, ArgumentError
        For an input that is not there, an output that is or whose folder is not, an extension
        that names no format, a port in use, a window where there is no display.
    """
    if kind is InputKind.PLANES:
        output = Path(outputs[0])
        if options.skip_existing and output.exists():
            return _skipped(output)
        return True  # `check_planes` is of the room that restores them
    if kind.of_images and not isinstance(source, Address):
        output, overwrite = Path(outputs[0]), options.overwrite
        paths = paths_to_do(kind, source, output, skip_existing=options.skip_existing)
        if not paths:
            return _skipped(output)
        if kind is InputKind.IMAGE:
            check_format(output)
            if is_animation(paths[0]):
                check_animated(output)
            check_output(output, overwrite=overwrite, inputs=paths)
        else:  # it is opened by its first frame
            names = [written_name(path) for path in paths]
            ImageFolderSink(output, names, overwrite=overwrite, inputs=paths)
        return True
    if kind is InputKind.VIDEO and options.skip_existing and Path(outputs[0]).exists():
        return _skipped(Path(outputs[0]))
    inputs = [Path(source)] if isinstance(source, str) else []
    for path in inputs:
        if not path.exists():
            raise SourceError(f"{path}: is not there; check the path")
    check_outputs(
        outputs,
        SinkOptions(
            video=options.video,
            segment_s=options.segment_s,
            overwrite=options.overwrite,
            inputs=inputs,
        ),
    )
    return True


def _skipped(output: Path) -> bool:
    _logger.info("%s: is there already and is skipped", output)
    return False
