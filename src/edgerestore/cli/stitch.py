"""``edgerestore stitch``: tiles of a microscope into a mosaic, with an audit of every pair."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ArgumentError
from .printing import echo

if TYPE_CHECKING:
    from ..stitching.job import Stitched, StitchOptions

__all__ = ["stitch_command"]

# Options by their panel of the help.
_grid, _pairs, _mosaic, _restore, _reports = (
    partial(typer.Option, rich_help_panel=panel)
    for panel in ("Grid", "Pairs", "Mosaic", "Restoration", "Reports")
)


def stitch_command(
    tiles: Annotated[
        str,
        typer.Argument(
            help="A folder, names with *, names with {row} and {column} or {index}, or a TIFF of"
            " several pages.",
            show_default=False,
        ),
    ],
    grid: Annotated[str, _grid(metavar="RxC", help="Rows and columns.", show_default=False)],
    overlap: Annotated[
        str,
        _grid(
            metavar="N|P%",
            help="Planned overlap: pixels or per cent; two, as in 20,15, for rows and columns.",
            show_default=False,
        ),
    ],
    order: Annotated[
        str,
        _grid(help="row|column, raster|snake, and the first corner, such as top-left."),
    ] = "row,raster,top-left",
    stage: Annotated[
        Path | None,
        _grid(help="Positions by the stage: CSV, Fiji's TileConfiguration.txt or MIST's list."),
    ] = None,
    stage_unit: Annotated[
        str | None, _grid(metavar="px|nm|um|mm", help="Unit of a CSV that does not say.")
    ] = None,
    pixel_size: Annotated[
        float | None, _grid(metavar="UM", help="Size of a pixel in micrometres.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Mosaic: .ome.zarr or .ome.tif.", show_default=False),
    ] = None,
    search: Annotated[
        str, _pairs(metavar="N", help="Farthest from the plan, in pixels; two for x,y.")
    ] = "15",
    min_overlap: Annotated[int, _pairs(help="Least overlap along each axis, in pixels.")] = 4,
    estimators: Annotated[
        str, _pairs(help="raw, smooth, median, bilateral, edges, phase; with commas.")
    ] = "smooth",
    shift_model: Annotated[
        str | None,
        _pairs(metavar="BUNDLE", help="Ask a converted shift estimator, too."),
    ] = None,
    stage_error: Annotated[
        float, _pairs(metavar="PX", help="Standard deviation of a step of the stage.")
    ] = 5.0,
    seam: Annotated[str, _mosaic(help="first, last, mean or linear.")] = "first",
    subpixel: Annotated[
        bool, _mosaic("--subpixel", help="Resample tiles by fractions of a pixel.")
    ] = False,
    restore: Annotated[
        str | None, _restore(metavar="NAME|BUNDLE", help="Restore tiles by this model.")
    ] = None,
    restore_before: Annotated[
        str, _restore(metavar="writing|estimation", help="Restore only what is written, or all.")
    ] = "writing",
    strength: Annotated[float, _restore(help="0 input, 1 model, up to 2.")] = 1.0,
    intensity_range: Annotated[
        str, _restore("--intensity-range", "--range", help="auto, full, LOW:HIGH or pLOW:pHIGH.")
    ] = "auto",
    device: Annotated[str, _restore(help="CPU, GPU, NPU, AUTO, ...")] = "CPU",
    precision: Annotated[str, _restore(help="auto, fp32, tf32, bf16, fp16 or int8.")] = "auto",
    html: Annotated[
        Path | None, _reports(help="Write a page with seams there; needs edgerestore[stitch].")
    ] = None,
    json: Annotated[Path | None, _reports(help="Write all facts and figures there.")] = None,
    csv: Annotated[Path | None, _reports(help="Write a line for every pair there.")] = None,
    positions: Annotated[
        list[Path] | None,
        _reports(
            help="Write positions there: .txt (Fiji), global-positions.txt or .csv (MIST),"
            " .ome.xml; repeatable."
        ),
    ] = None,
    max_residual: Annotated[
        float | None,
        _reports(metavar="PX", help="Exit with 3 where a pair lies farther beside its shift."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace existing files.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an .ome.zarr that was begun.")
    ] = False,
) -> None:
    """Stitch tiles into a mosaic, and audit every pair."""
    # Imported here: --help must not wait for OpenCV and SciPy.
    from ..evaluation.report import reserved
    from ..stitching.audit import check_residual
    from ..stitching.grid import Order, parse_grid
    from ..stitching.job import stitch_files
    from ..streams.progress import CountedBar

    reports = _Reports(csv, json, html, positions or [])
    if output is None and not reports.paths:
        raise ArgumentError("nothing to write; add -o MOSAIC.ome.tif, --positions or --html")
    options = _options(
        overlap, search, min_overlap, estimators, stage_error, seam, subpixel, stage, stage_unit,
        pixel_size, restore_before, shift_model,
    )  # fmt: skip
    laid = parse_grid(grid, Order.parse(order))
    with reserved(reports.paths, overwrite=overwrite, inputs=[]) as write, ExitStack() as stack:
        restorer = None
        if restore is not None:
            from ..engine.load import load

            restorer = stack.enter_context(
                load(
                    restore, device=device, precision=precision, strength=strength,
                    intensity_range=intensity_range,
                )
            )  # fmt: skip
        with CountedBar("steps") as bar:
            found = stitch_files(
                tiles, laid, output, options, restorer=restorer, overwrite=overwrite,
                resume=resume, tick=bar.tick, audit=reports.fill,
            )  # fmt: skip
        write(reports.texts)
    echo(str(found))
    check_residual(found, max_residual)


class _Reports:
    """Reports and lists of positions that are asked for, and their texts."""

    def __init__(
        self, csv: Path | None, json: Path | None, html: Path | None, lists: list[Path]
    ) -> None:
        from ..reports.pages import require_page_libraries
        from ..stitching.positions import check_list_name

        for path in lists:
            check_list_name(path)
        if html is not None:
            require_page_libraries()
        self._csv, self._json, self._html, self._lists = csv, json, html, lists
        self.paths = [path for path in (csv, json, html, *lists) if path is not None]
        self.texts: dict[Path, str | bytes] = {}

    def fill(self, found: Stitched) -> None:
        """Make the texts, while tiles can be read."""
        from ..stitching.audit import correlations, csv_text, json_text
        from ..stitching.page import html_text
        from ..stitching.positions import positions_text

        for path in self._lists:
            self.texts[path] = positions_text(
                path,
                found.placement.positions,
                found.tiles.names,
                correlations(found),
                found.pixel_um,
                (found.canvas.tile_height, found.canvas.tile_width),
                str(found.dtype),
            )
        if self._csv is not None:
            self.texts[self._csv] = csv_text(found)
        if self._json is not None:
            self.texts[self._json] = json_text(found)
        if self._html is not None:
            self.texts[self._html] = html_text(found)


def _options(
    overlap: str,
    search: str,
    min_overlap: int,
    estimators: str,
    stage_error: float,
    seam: str,
    subpixel: bool,
    stage: Path | None,
    stage_unit: str | None,
    pixel_size: float | None,
    restore_before: str,
    shift_model: str | None,
) -> StitchOptions:
    from ..stitching.job import StitchOptions
    from ..stitching.mosaic import Seam
    from ..stitching.pairs import PairOptions
    from ..stitching.placement import PlacementOptions
    from ..stitching.restored_tiles import RestoreStage
    from ..stitching.shift_network import ShiftNetwork

    limits = search.split(",")
    if len(limits) > 2 or not all(one.strip().isdigit() for one in limits):
        raise ArgumentError(f"--search is pixels such as 15 or 20,10, got {search!r}")
    if seam not in list(Seam):
        raise ArgumentError(f"--seam is {', '.join(Seam)}, got {seam!r}")
    if restore_before not in list(RestoreStage):
        raise ArgumentError(f"--restore-before is writing or estimation, got {restore_before!r}")
    if not stage_error > 0:
        raise ArgumentError(f"--stage-error is pixels above 0, got {stage_error:g}")
    if pixel_size is not None and not pixel_size > 0:
        raise ArgumentError(f"--pixel-size is micrometres above 0, got {pixel_size:g}")
    return StitchOptions(
        overlap,
        PairOptions(
            int(limits[0]),
            int(limits[-1]),
            min_overlap,
            estimators=tuple(name.strip() for name in estimators.split(",") if name.strip()),
            network=None if shift_model is None else ShiftNetwork.open(shift_model),
        ),
        PlacementOptions(stage_px=stage_error),
        Seam(seam),
        subpixel,
        stage,
        stage_unit,
        None if pixel_size is None else (pixel_size, pixel_size),
        RestoreStage(restore_before),
    )
