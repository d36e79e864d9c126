"""Charts as SVG that takes its colours from the page it stands in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .axes import Axis, linear_axis, log_axis, signed_axis
from .label_places import (
    Box,
    Label,
    Placed,
    place_labels,
    point_box,
    shared_area,
    text_width,
)
from .page import safe

__all__ = ["CHART_STYLE", "Bar", "Mark", "bar_chart", "scatter_chart"]

CHART_STYLE = """
svg.chart{display:block;width:100%;min-width:40rem;max-width:55rem;height:auto;
font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.chart text{fill:var(--ink)}.chart .quiet{fill:var(--soft)}.chart .strong{font-weight:650}
.chart .axis{stroke:var(--line)}.chart .line{stroke:var(--soft);fill:none;stroke-width:1.5}
.chart .limit{stroke:var(--warm);stroke-width:1.5;stroke-dasharray:6 4}
.chart .limit-text{fill:var(--warm)}.chart .lead{stroke:var(--soft);stroke-width:.75}
.chart .label{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.chart .plain{fill:var(--accent)}.chart .other{fill:var(--warm)}.chart .part{fill:var(--soft)}
.chart .hollow{fill:var(--card);stroke:var(--ink);stroke-width:1.75}
.chart .ring{fill:none;stroke:var(--good);stroke-width:2.25}
"""
"""Goes into the page's style; the page has ``--warm`` beside its other colours."""

_WIDTH = 880
_LOG_FROM = 40.0  # largest to smallest value
_LOG_SPAN = 1e4

_ROW_PX, _BARS_TOP, _BARS_LEFT, _BARS_RIGHT = 22, 52, 205, 590
_PART_LEFT, _PART_PX = 735, 75

_PLOT: Box = (64, 40, 862, 372)
_INSET_PX = 16
_UNSQUEEZED = 4.0  # limits, that a linear axis is still readable over


@dataclass(frozen=True)
class Bar:
    """One bar.

    Parameters
    ----------
    label : str
        Short.
    name : str
        Whole; shown when pointed at.
    value : float
    text : str
        The value in words.
    part : float
        A second, smaller bar, in [0, 1].
    other : bool
        Drawn in the other colour.
    """

    label: str
    name: str
    value: float
    text: str
    part: float
    other: bool


@dataclass(frozen=True)
class Mark:
    """One point.

    Parameters
    ----------
    label : str
    name : str
        Shown when pointed at.
    x, y : float
    shape : str
        ``circle``, ``diamond`` or ``square``.
    chosen : bool
        Ringed, and named in strong print.
    needed : bool
        Its label is shown even where there is no good place for it.
    """

    label: str
    name: str
    x: float
    y: float
    shape: str
    chosen: bool = False
    needed: bool = False


def bar_chart(title: str, bars: Sequence[Bar], heads: tuple[str, str, str]) -> str:
    """Return horizontal bars with their shares at the right.

    Parameters
    ----------
    title : str
        What a screen reader says.
    bars : sequence of Bar
        From the top.
    heads : (str, str, str)
        What the bars are, what the shares are, and the unit at the axis.
    """
    bottom = _BARS_TOP + len(bars) * _ROW_PX
    axis, word = _value_axis([bar.value for bar in bars])
    parts = [
        _text(_BARS_LEFT, 16, heads[0], "quiet"),
        _text(_PART_LEFT, 16, heads[1], "quiet"),
        _text(_BARS_LEFT, bottom + 36, f"{heads[2]}{word}", "quiet"),
    ]
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(_line((x, _BARS_TOP - 8), (x, bottom), "axis"))
        parts.append(_text(x, bottom + 16, f"{tick:g}", "quiet", "middle"))
    most = max((bar.part for bar in bars), default=0.0) or 1.0
    parts += [_bar(bar, at, axis, most) for at, bar in enumerate(bars)]
    return _svg(title, bottom + 46, parts)


def _value_axis(values: Sequence[float]) -> tuple[Axis, str]:
    known = [value for value in values if math.isfinite(value) and value > 0]
    if not known:
        return linear_axis(0, 1, _BARS_LEFT, _BARS_RIGHT), ""
    high, low = max(known), max(min(known), max(known) / _LOG_SPAN)
    if high / low > _LOG_FROM:
        # The least is still a bar: it starts to the right of the axis' end.
        return log_axis(low / 1.6, high, _BARS_LEFT, _BARS_RIGHT), ", logarithmic"
    return linear_axis(0, high, _BARS_LEFT, _BARS_RIGHT), ""


def _bar(bar: Bar, at: int, axis: Axis, most: float) -> str:
    top = _BARS_TOP + at * _ROW_PX
    end = axis.at(bar.value) if math.isfinite(bar.value) else _BARS_LEFT
    share = min(max(bar.part, 0.0), 1.0)
    long = _PART_PX * share / most
    kind = "other" if bar.other else "plain"
    return (
        f"<g><title>{safe(bar.name)}</title>"
        + _text(_BARS_LEFT - 10, top + 12, bar.label, anchor="end")
        + f'<rect class="{kind}" x="{_BARS_LEFT}" y="{top}" width="{end - _BARS_LEFT:.1f}"'
        ' height="15" rx="2"/>'
        + _text(end + 7, top + 12, bar.text, "label")
        + f'<rect class="part" x="{_PART_LEFT}" y="{top + 3}" width="{long:.1f}" height="9"/>'
        + _text(_PART_LEFT + long + 6, top + 12, f"{share:.1%}", "quiet")
        + "</g>"
    )


def scatter_chart(
    title: str,
    marks: Sequence[Mark],
    path: Sequence[Mark],
    limit: tuple[float, str],
    heads: tuple[str, str],
) -> str:
    """Return points of which less is better on both axes.

    Parameters
    ----------
    title : str
        What a screen reader says.
    marks : sequence of Mark
        At least one.
    path : sequence of Mark
        Those of them that are joined by a line, in order.
    limit : (float, str)
        Of y: a line across, and its words.
    heads : (str, str)
        What x and y are.
    """
    across, down, word = _plot_axes(marks, limit[0])
    at = {mark: (across.at(mark.x), down.at(mark.y)) for mark in marks}
    limit_y = down.at(limit[0])
    left, top, right, bottom = _PLOT
    words = _free_end(text_width(limit[1]), limit_y, list(at.values()))
    parts = [
        *_frame(across, down),
        _text((left + right) / 2, bottom + 36, heads[0], "quiet", "middle"),
        _text(left - 44, top - 24, f"{heads[1]}{word}", "quiet"),
        _line((left, limit_y), (right, limit_y), "limit"),
        _text(words[0], words[3] - 4, limit[1], "limit-text label"),
    ]
    corners = [at[mark] for mark in path]
    if len(corners) > 1:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        parts.append(f'<polyline class="line" points="{joined}"/>')
    # Drawn last, the chosen one lies on top of others in its place.
    parts += [
        f"<g><title>{safe(mark.name)}</title>{_shape(mark, *at[mark])}</g>"
        for mark in sorted(marks, key=lambda mark: mark.chosen)
    ]
    order = sorted(marks, key=lambda mark: (not mark.chosen, not mark.needed))
    labels = {Label(mark.label, *at[mark], mark.needed or mark.chosen): mark for mark in order}
    avoid = [*_along(corners), *_along([(left, limit_y), (right, limit_y)])]
    bounds = (left + 4, top, right, bottom - 2)
    parts += [
        _label(placed, "label strong" if labels[placed.label].chosen else "label")
        for placed in place_labels(list(labels), bounds, [words], avoid)
    ]
    return _svg(title, bottom + 46, parts)


def _free_end(width: float, y: float, points: Sequence[tuple[float, float]]) -> Box:
    """Return where on a line across the plot its words cover least."""
    left, _, right, _ = _PLOT
    starts = (right - width, left + 6, (left + right - width) / 2)
    boxes: list[Box] = [(x, y - 18, x + width, y - 3) for x in starts]
    marks = [point_box(*point) for point in points]
    return min(boxes, key=lambda box: sum(shared_area(box, mark) for mark in marks))


def _plot_axes(marks: Sequence[Mark], limit: float) -> tuple[Axis, Axis, str]:
    left, top, right, bottom = _PLOT
    xs, ys = [mark.x for mark in marks], [mark.y for mark in marks]
    across = linear_axis(min(xs), max(xs), left + _INSET_PX, right - _INSET_PX)
    low, high = min([0.0, *ys]), max([limit, *ys])
    ends = (bottom - _INSET_PX, top + _INSET_PX)
    if high <= _UNSQUEEZED * limit or limit <= 0:
        return across, linear_axis(low, high, *ends), ""
    return across, signed_axis(low, high, limit, *ends), ", logarithmic above the budget"


def _frame(across: Axis, down: Axis) -> list[str]:
    left, top, right, bottom = _PLOT
    parts = [_line((left, bottom), (right, bottom), "axis")]
    for tick in across.ticks:
        x = across.at(tick)
        parts.append(_line((x, top), (x, bottom), "axis"))
        parts.append(_text(x, bottom + 16, f"{tick:g}", "quiet", "middle"))
    for tick in down.ticks:
        y = down.at(tick)
        parts.append(_line((left, y), (right, y), "axis"))
        parts.append(_text(left - 8, y + 4, f"{tick:g}", "quiet", "end"))
    return parts


def _shape(mark: Mark, x: float, y: float) -> str:
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="10"/>' if mark.chosen else ""
    if mark.shape == "square":
        return (
            f'{ring}<rect class="hollow" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"/>'
        )
    if mark.shape == "diamond":
        return f'{ring}<path class="other" d="M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z"/>'
    return f'{ring}<circle class="plain" cx="{x:.1f}" cy="{y:.1f}" r="5.5"/>'


def _label(placed: Placed, kind: str) -> str:
    left, _, _, bottom = placed.box
    label = placed.label
    text = _text(left, bottom - 4, label.text, kind)
    return _line((label.x, label.y), placed.lead_end, "lead") + text if placed.led else text


def _along(corners: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return places on the lines between corners, a few pixels apart."""
    found: list[tuple[float, float]] = []
    for (x, y), (to_x, to_y) in pairwise(corners):
        steps = max(1, int(math.hypot(to_x - x, to_y - y) / 8))
        found += [(x + (to_x - x) * i / steps, y + (to_y - y) * i / steps) for i in range(steps)]
    return found


def _text(x: float, y: float, content: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{safe(content)}</text>'


def _line(start: tuple[float, float], end: tuple[float, float], kind: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {_WIDTH} {height:.0f}">'
        f"<title>{safe(title)}</title>{''.join(parts)}</svg>"
    )
