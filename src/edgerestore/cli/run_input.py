"""Meaning of the inputs of ``run`` beside its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..streams.options import InputKind
    from ..streams.sources.address import Address

__all__ = ["RunInput", "run_input"]


class RunInput(NamedTuple):
    """What INPUT means beside its outputs."""

    kind: InputKind
    source: str | list[str]
    address: Address | None
    outputs: list[str]

    def files(self) -> list[Path]:
        """Return what is written."""
        from ..streams.options import InputKind, output_files

        if self.kind is InputKind.STREAM:
            return [Path(one) for one in self.outputs]
        return output_files(self.kind, self.source, Path(self.outputs[0]))


def run_input(inputs: list[str], outputs: list[str], *, streaming: bool) -> RunInput:
    """Return what inputs mean; ``streaming`` where an option asks for a stream.

    Raises
    ------
    ArgumentError
        For several inputs that do not go into one folder.
    SourceError
        When nothing is there.
    """
    from ..errors import ArgumentError, SourceError
    from ..streams.options import InputKind, input_kind
    from ..streams.sinks.registry import is_path
    from ..streams.sources.address import parse_address

    into_files = not streaming and len(outputs) == 1 and is_path(outputs[0])
    if len(inputs) > 1:
        if not into_files:
            raise ArgumentError(
                f"{len(inputs)} inputs: several are image files, into one folder; add -o FOLDER"
            )
        return RunInput(InputKind.IMAGES, inputs, None, outputs)
    (source,) = inputs
    address = parse_address(source)
    if address is not None or not into_files:
        return RunInput(InputKind.STREAM, source, address, outputs)
    from ..microscopy.ome_zarr import is_zarr
    from ..microscopy.restore_planes import is_zarr_name

    output, of_planes = Path(outputs[0]), {".tif", ".tiff", ".zarr"}
    if is_zarr(Path(source)) or is_zarr_name(output):
        given = {".zarr"} if is_zarr(Path(source)) else {Path(source).suffix.lower()}
        if not {*given, output.suffix.lower()} <= of_planes:
            raise ArgumentError(
                f"{source} into {output}: a Zarr store is made of TIFF or OME-Zarr, and becomes one"
                " of them; name a .zarr or a .tif"
            )
        if not Path(source).exists():
            raise SourceError(f"{source}: is not there; check the path")
        return RunInput(InputKind.PLANES, source, None, outputs)
    kind = input_kind(source, output)
    if kind in (InputKind.IMAGE, InputKind.VIDEO) and Path(outputs[0]).is_dir():
        outputs = [str(Path(outputs[0]) / Path(source).name)]
    suffixes = {Path(one).suffix.lower() for one in (source, outputs[0])}
    if kind is InputKind.IMAGE and suffixes <= {".tif", ".tiff"}:
        from ..microscopy.tiff_planes import holds_planes

        kind = InputKind.PLANES if holds_planes(Path(source)) else kind
    return RunInput(kind, source, None, outputs)
