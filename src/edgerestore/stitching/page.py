"""Page of a mosaic's audit: the grid as a heat map, and the seams that deserve a look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from ..errors import counted
from ..imaging.arrays import Image, Planes
from ..reports.pages import render
from ..reports.pictures import Picture, picture
from ..reports.tables import Table
from .audit import state_of
from .correlation import Search
from .job import Stitched
from .placement import Edge

__all__ = ["html_text"]

_WORST, _LONGEST_PX = 8, 640
_MOST_ROWS = 400
_STATES = {
    "measured": "measured",
    "resolved": "several shifts fit; the grid chose",
    "outlier": "outlier, left out",
    "stage": "undefined, by the stage",
}


def html_text(found: Stitched) -> str:
    """Return the page: one file, with its pictures in it.

    Tiles of the seams that are shown are read again, by `Stitched.read`.

    Raises
    ------
    MissingExtraError
        When the libraries of pages are not installed.
    """
    edges = found.placement.edges
    counts = {state: sum(state_of(one) == state for one in edges) for state in _STATES}
    measured = [one for one in edges if one.is_measured]
    residuals = [one.residual_px for one in measured]
    rms = math.sqrt(sum(one**2 for one in residuals) / len(residuals)) if residuals else 0.0
    drifting = sorted(
        (one for one in measured if one.shift.drift_px > 0.5),
        key=lambda one: -one.shift.drift_px,
    )
    seams = [
        (_words(edge), overlay)
        for edge in _deserving(edges, drifting)
        if (overlay := _overlay(found, edge))
    ]
    closure = max((math.hypot(one.dx, one.dy) for one in found.placement.loops), default=0.0)
    grid = found.tiles.grid
    return render(
        "stitching.html",
        title=f"Mosaic of {len(found.placement.positions)} tiles",
        subtitle=f"grid {grid}, overlap {found.overlap[0]:g} and {found.overlap[1]:g} px planned,"
        f" stage: {found.stage_source}",
        verdict=_verdict(found, counts),
        fine=not (counts["outlier"] or counts["stage"]),
        highlights=[
            (f"{counts['measured'] + counts['resolved']} of {len(edges)}", "pairs measured"),
            (f"{rms:.3f} px", "residual, root mean square"),
            (f"{found.max_residual_px:.2f} px", "largest residual of a measured pair"),
            (f"{closure:.2f} px", "largest closure of a loop of four"),
            (f"{found.canvas.width}x{found.canvas.height}", "pixels of the mosaic"),
        ],
        heat=_heat_map(found),
        pixels=_pixels(found),
        seams=seams,
        drifts=[
            (f"{edge.first[0]},{edge.first[1]} - {edge.second[0]},{edge.second[1]}:"
             f" {edge.shift.drift_px:.2f} px", _drift_chart(edge))
            for edge in drifting[:_WORST]
        ],
        drift_note=_drift_note(len(drifting), drifting),
        undefined=Table(
            ("pair", "reason"),
            [
                (
                    _name(one),
                    "outlier: "
                    f"{one.residual_px:.1f} px beside all others"
                    if one.outlier
                    else one.shift.reason.meaning if one.shift.reason else "",
                )
                for one in edges
                if state_of(one) in ("outlier", "stage")
            ],
        ),
        pairs=_table(edges),
        more=max(0, len(edges) - _MOST_ROWS),
        setup=_setup(found),
    )  # fmt: skip


def _verdict(found: Stitched, counts: dict[str, int]) -> str:
    parts = []
    if counts["stage"]:
        parts.append(counted(counts["stage"], "undefined pair"))
    if counts["resolved"]:
        parts.append(f"{counted(counts['resolved'], 'periodic pair')} resolved by the whole grid")
    if counts["outlier"]:
        parts.append(f"{counted(counts['outlier'], 'outlier')} left out")
    if found.placement.unmeasured:
        parts.append(f"{counted(len(found.placement.unmeasured), 'tile')} placed by the stage")
    if found.unread:
        parts.append(counted(len(found.unread), "unreadable tile"))
    return "; ".join(parts) or "Every pair is measured, and all agree."


def _pixels(found: Stitched) -> str:
    shown = (
        "the mosaic shows measured pixels"
        if found.shown == "measured"
        else f"the mosaic shows pixels restored by {found.restored_by or 'a model'}"
    )
    on = "measured" if found.measured_on == "measured" else "restored"
    copied = (
        "resampled by fractions of a pixel"
        if found.options.subpixel
        else "each pixel of one tile, bit for bit"
        if found.options.seam in ("first", "last")
        else f"overlaps blended ({found.options.seam})"
    )
    return f"Positions come from {on} pixels; {shown}; {copied}."


def _name(edge: Edge) -> str:
    (row, column), (row_2, column_2) = edge.first, edge.second
    return f"{row},{column} - {row_2},{column_2}"


def _deserving(edges: Sequence[Edge], drifting: Sequence[Edge]) -> list[Edge]:
    """Return pairs to look at: outliers, undefined ones, drift, and the largest residuals."""
    order = [
        *[one for one in edges if one.outlier],
        *[one for one in edges if state_of(one) == "stage"][:_WORST],
        *drifting[: _WORST // 2],
        *sorted(edges, key=lambda one: -one.residual_px),
    ]
    return list({(one.first, one.second): one for one in order}.values())[:_WORST]


def _words(edge: Edge) -> str:
    state = state_of(edge)
    why = f": {edge.shift.reason.meaning}" if edge.shift.reason and state == "stage" else ""
    drift = f", drift {edge.shift.drift_px:.2f} px along the seam" if edge.shift.drift_px else ""
    return f"{_name(edge)}: {_STATES[state]}{why}; residual {edge.residual_px:.2f} px{drift}"


def _overlay(found: Stitched, edge: Edge) -> list[Picture] | None:
    """Return the overlap as placed: the first tile in red, the second in green."""
    tiles = [found.read(cell) for cell in (edge.first, edge.second)]
    if any(tile is None for tile in tiles):
        return None
    first, second = (tile.astype(np.float32) for tile in tiles if tile is not None)
    origins = [found.placement.positions[cell] for cell in (edge.first, edge.second)]
    shift = np.rint(np.subtract(origins[1], origins[0])).astype(int)
    search = Search(0, 0, 1, 1, *first.shape)
    overlap = search.overlap(int(shift[0]), int(shift[1]))
    if min(overlap.height, overlap.width) < 2:
        return None
    crops: list[Image] = list(overlap.crops(first, second))
    if overlap.height > overlap.width:  # seams are shown lying
        crops = [crop.T for crop in crops]
    levels = [_stretched(crop) for crop in crops]
    start = max(0, (levels[0].shape[1] - _LONGEST_PX) // 2)
    levels = [level[:, start : start + _LONGEST_PX] for level in levels]
    scale = max(1, min(8, _LONGEST_PX // levels[0].shape[1], -(-48 // levels[0].shape[0])))
    red, green = (level.repeat(scale, 0).repeat(scale, 1) for level in levels)
    planes: Planes = np.stack([red, green, np.zeros_like(red)])[None].astype(np.float32)
    caption = (
        f"{overlap.width}x{overlap.height} px of overlap"
        + (f", {scale} times" if scale > 1 else "")
        + "; yellow where both agree"
    )
    return [picture(planes, caption, lossless=scale > 1)]


def _stretched(crop: Image) -> Image:
    low, high = np.percentile(crop, (1, 99))
    return np.asarray(np.clip((crop - low) / max(float(high - low), 1e-6), 0, 1), np.float32)


def _heat_map(found: Stitched) -> str:
    """Return the grid as SVG: tiles as squares, pairs as bars, coloured by their residual."""
    grid, edges = found.tiles.grid, found.placement.edges
    cell = max(10.0, min(44.0, 840 / max(1, grid.columns), 2000 / max(1, grid.rows)))
    box, gap = cell * 0.66, cell * 0.34
    width, height = grid.columns * cell + gap, grid.rows * cell + gap
    worst = max((one.residual_px for one in edges if one.is_measured), default=0.0)
    worst = max(worst, 0.1)
    parts = []
    unmeasured = set(found.placement.unmeasured)
    for row, column in grid.cells():
        x, y = column * cell + gap, row * cell + gap
        there = (row, column) in found.placement.positions
        kind = "hole" if not there else "lost" if (row, column) in unmeasured else "tile"
        title = f"{row},{column} {found.tiles.names.get((row, column), 'no tile')}"
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{box:.1f}" height="{box:.1f}"'
            f' rx="2"><title>{escape(title)}</title></rect>'
        )
    for one in edges:
        (row, column), along = one.first, one.first[0] == one.second[0]
        x, y = column * cell + gap, row * cell + gap
        size = (gap * 0.5, box) if along else (box, gap * 0.5)
        at = (x + box + gap * 0.25, y) if along else (x, y + box + gap * 0.25)
        state = state_of(one)
        share = min(1.0, one.residual_px / worst)
        fill = f' style="--share:{100 * share:.0f}%"' if one.is_measured else ""
        title = f"{_name(one)}: {_STATES[state]}, residual {one.residual_px:.2f} px"
        parts.append(
            f'<rect class="{state}"{fill} x="{at[0]:.1f}" y="{at[1]:.1f}" width="{size[0]:.1f}"'
            f' height="{size[1]:.1f}"><title>{escape(title)}</title></rect>'
        )
    return (
        f'<svg class="grid" role="img" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' style="max-width:{width:.0f}px"><title>Grid; bars are pairs, from 0 to {worst:.2f} px'
        f" of residual</title>{''.join(parts)}</svg>"
        f'<p class="key"><span><b class="ramp"></b> residual 0 to {worst:.2f} px</span>'
        '<span><b class="swatch resolved"></b> resolved by the grid</span>'
        '<span><b class="swatch stage"></b> undefined</span>'
        '<span><b class="swatch outlier"></b> outlier</span>'
        '<span><b class="swatch lost"></b> tile by the stage</span></p>'
    )


def _drift_chart(edge: Edge) -> str:
    """Return the drift along a seam as SVG: dx and dy of its parts, with two sigmas."""
    drifts = edge.shift.drifts
    width, height, left, base = 560.0, 130.0, 46.0, 20.0
    most = max(max(abs(one.dx), abs(one.dy)) + 2 * one.sigma for one in drifts)
    most = max(most, 0.1)
    first, last = drifts[0].at, drifts[-1].at

    def x(at: float) -> float:
        return left + (width - left - 12) * (at - first) / max(1.0, last - first)

    def y(value: float) -> float:
        return (height - base) / 2 * (1 - value / most) * 0.92 + 4

    parts = [
        f'<line class="axis" x1="{left}" x2="{width}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>',
        *(
            f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:+.2g}</text>'
            for value in (most, 0.0, -most)
        ),
        f'<text x="{left}" y="{height - 4}">{first:.0f} px</text>',
        f'<text x="{width}" y="{height - 4}" text-anchor="end">{last:.0f} px along the seam</text>',
    ]
    for kind, values in (("dx", [one.dx for one in drifts]), ("dy", [one.dy for one in drifts])):
        line = " ".join(
            f"{x(one.at):.1f},{y(v):.1f}" for one, v in zip(drifts, values, strict=True)
        )
        parts.append(f'<polyline class="{kind}" points="{line}"/>')
        parts += [
            f'<line class="{kind}" x1="{x(one.at):.1f}" x2="{x(one.at):.1f}"'
            f' y1="{y(v - 2 * one.sigma):.1f}" y2="{y(v + 2 * one.sigma):.1f}"/>'
            for one, v in zip(drifts, values, strict=True)
        ]
    return (
        f'<svg class="drift" role="img" viewBox="0 0 {width:.0f} {height:.0f}">'
        f"<title>Drift along the seam, px</title>{''.join(parts)}</svg>"
    )


def _drift_note(count: int, drifting: Sequence[Edge]) -> str:
    if not count:
        return "No seam drifts by more than half a pixel: one shift a pair is enough."
    return (
        f"{count} of the measured seams drift by more than half a pixel, the worst by"
        f" {drifting[0].shift.drift_px:.2f} px: there a translation of whole tiles cannot do"
        " better; that much stays visible somewhere along the seam. Bars are two standard"
        " deviations."
    )


def _table(edges: Sequence[Edge]) -> Table:
    rows = []
    for edge in sorted(edges, key=lambda one: -one.residual_px)[:_MOST_ROWS]:
        pick = edge.chosen if edge.chosen is not None else 0
        one = edge.shift.candidates[pick] if edge.shift.candidates else None
        known = one is not None and np.isfinite(one.covariance).all()
        rows.append(
            (
                _name(edge),
                state_of(edge),
                f"{one.dx:.2f}" if one else "-",
                f"{one.dy:.2f}" if one else "-",
                f"{one.sigma:.3f}" if one is not None and known else "-",
                f"{edge.shift.confidence:.6f}" if edge.shift.best else "-",
                f"{one.correlated:.3f}" if one else "-",
                f"{edge.residual_px:.3f}",
                f"{edge.shift.drift_px:.2f}" if edge.shift.drifts else "-",
            )
        )
    return Table(
        ("pair", "state", "dx", "dy", "sigma", "confidence", "correlation", "residual", "drift"),
        rows,
    )


def _setup(found: Stitched) -> list[tuple[str, str]]:
    network = ("network",) if found.options.pairs.network is not None else ()
    options, largest = found.options, found.placement.largest_shift_px
    return [
        ("search", f"{options.pairs.limit_x} px in x, {options.pairs.limit_y} px in y of the plan"),
        ("least overlap", f"{options.pairs.min_overlap} px"),
        ("estimators", ", ".join((*options.pairs.estimators, *network))),
        ("sigma", "standard deviation along the axis that is known least, from noise and content"),
        ("residual", "placed less measured shift; of undefined pairs, less the stage's"),
        ("outliers", f"more than {options.placement.reject_px:g} px beside all others"),
        ("largest shift", f"{largest[0]:.1f} and {largest[1]:.1f} px from the plan"),
        ("holes", str(len(found.tiles.holes()))),
        ("seconds", ", ".join(f"{name} {value:.1f}" for name, value in found.seconds.items())),
    ]  # fmt: skip
