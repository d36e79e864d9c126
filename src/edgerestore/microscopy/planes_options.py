"""Options of a run by region, its summary, and what is refused before it begins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ArgumentError, counted
from ..streams.sinks.partial_file import check_output
from .dask_run import check_address
from .ome_zarr import OmeVersion
from .sharded_store import COMPRESSIONS, check_store

__all__ = ["PlanesOptions", "PlanesSummary", "check_planes", "is_zarr_name"]


@dataclass(frozen=True)
class PlanesOptions:
    """Options of a run by region.

    Parameters
    ----------
    overwrite : bool
        Replace what is there.
    resume : bool
        Go on where a run of the same settings, model and input was ended.
    memory_bytes : int or None
        What is decoded, restored and encoded at a time; 1 GiB when not given. The model's tiles
        in flight are its other half, which `load` is given as ``memory_mb``.
    channels : tuple of str
        Names or numbers, from 0, of the channels that are restored; others are passed through.
        All, when empty.
    compression : str or None
        Of a Zarr store: see `COMPRESSIONS`.
    version : str or None
        Of OME-Zarr; that of the input, or 0.5.
    dask : str or None
        Address of a scheduler, or ``local:N``.
    """

    overwrite: bool = False
    resume: bool = False
    memory_bytes: int | None = None
    channels: tuple[str, ...] = ()
    compression: str | None = None
    version: OmeVersion | None = None
    dask: str | None = None


@dataclass
class PlanesSummary:
    """What was done.

    Parameters
    ----------
    planes, regions : int
    resumed : int
        Regions that an ended run had written.
    blank : int
        Regions of one value, whose outcome was known.
    outside : int
        Values that lay outside their range of intensities, and passed through.
    ranges : list of str
        Intensities that were seen as black to white, channel by channel.
    seconds : float
    where : str
        Device and precision.
    """

    planes: int = 0
    regions: int = 0
    resumed: int = 0
    blank: int = 0
    outside: int = 0
    ranges: list[str] = field(default_factory=list)
    seconds: float = 0.0
    where: str = ""

    def __str__(self) -> str:
        """Return the last line of a run."""
        parts = [f"{counted(self.planes, 'plane')} in {self.seconds:.1f} s", self.where]
        if self.resumed:
            parts.append(f"{counted(self.resumed, 'region')} of an earlier run kept")
        if self.blank:
            parts.append(f"{counted(self.blank, 'region')} of one value not inferred")
        different = list(dict.fromkeys(self.ranges))
        more = f" and {len(different) - 3} more" if len(different) > 3 else ""
        parts.append(f"intensities {', '.join(different[:3])}{more} as black to white")
        if self.outside:
            parts.append(f"{counted(self.outside, 'value')} outside passed through")
        return "; ".join(parts)


def is_zarr_name(path: Path) -> bool:
    """Return whether a name is that of a Zarr store."""
    return path.suffix.lower() == ".zarr"


def check_planes(source: Path, output: Path, options: PlanesOptions) -> None:
    """Refuse what `restore_planes` would refuse; nothing is opened.

    Raises
    ------
    SinkError
        When the output is there, or cannot be.
    ArgumentError
        When an option is none.
    """
    if options.dask is not None:
        check_address(options.dask)
    if is_zarr_name(output):
        check_store(output, overwrite=options.overwrite, resume=options.resume, inputs=[source])
    else:
        check_output(output, overwrite=options.overwrite, inputs=[source])
    if (
        options.compression is not None
        and options.compression.partition(":")[0] not in COMPRESSIONS
    ):
        raise ArgumentError(
            f"compression is one of {', '.join(COMPRESSIONS)}, got {options.compression!r}"
        )
