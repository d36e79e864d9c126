"""Charts of reports: drawn by matplotlib, as SVG with the colours of the page around it.

The SVG names no colour of its own: it refers to the page's CSS variables, so it follows the
page into dark mode. It has no identifiers, dates, links or fonts; the same numbers give the
same bytes. matplotlib is imported when a chart is drawn.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from .pages import require_page_libraries
from .tables import plain, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Bar", "Point", "bar_chart", "frontier", "scatter_chart"]

# Colours that stand for CSS variables in what matplotlib writes, and occur nowhere else.
_COLORS = {
    name: f"#0102{at:02x}"
    for at, name in enumerate(("ink", "soft", "line", "card", "accent", "warm", "good"))
}
_WIDTH_PX = 880
_BAR_PX, _BARS_MARGIN_PX = 22, 92
_SCATTER_PX = 420
_LOG_FROM = 40.0  # ratio of the largest value to the smallest
_LOG_SPAN = 1e4
_LINEAR_TO = 4.0  # limits: up to there a linear axis is readable
_BAR_LABEL, _POINT_LABEL = 28, 40

Corners = Sequence[tuple[float, float]]

_HREF = "{http://www.w3.org/1999/xlink}href"

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgerestore",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout everywhere
    "font.size": 11.5,
    "text.color": _COLORS["ink"],
    "axes.edgecolor": _COLORS["line"],
    "axes.labelcolor": _COLORS["soft"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": _COLORS["line"],
    "grid.linewidth": 0.8,
    "xtick.labelcolor": _COLORS["soft"],
    "ytick.labelcolor": _COLORS["soft"],
    "xtick.bottom": False,
    "ytick.left": False,
}


@dataclass(frozen=True)
class Bar:
    """One bar of a bar chart.

    Parameters
    ----------
    label : str
        Beside the bar; shortened where it is long.
    name : str
        Tooltip.
    value : float
        Length; 0 or less, and what is not finite, has no length.
    text : str
        The value as text, at the bar's end.
    share : float
        Second, smaller bar, in [0, 1].
    emphasized : bool
        Drawn in the second colour.
    """

    label: str
    name: str
    value: float
    text: str
    share: float
    emphasized: bool = False


@dataclass(frozen=True)
class Point:
    """One point of a scatter chart.

    Parameters
    ----------
    label : str
        Beside the point; shortened where it is long, left out where there is no room.
    name : str
        Tooltip.
    x, y : float
        Finite.
    shape : str
        ``circle``, ``diamond`` or ``square``.
    chosen : bool
        Ringed, with its label in bold.
    labelled : bool
        Always shows its label, as a chosen one does.
    """

    label: str
    name: str
    x: float
    y: float
    shape: str = "circle"
    chosen: bool = False
    labelled: bool = False


_SHAPES: dict[str, dict[str, Any]] = {
    "circle": {"marker": "o", "s": 90, "color": _COLORS["accent"]},
    "diamond": {"marker": "D", "s": 80, "color": _COLORS["warm"]},
    "square": {
        "marker": "s", "s": 80, "facecolor": _COLORS["card"], "edgecolor": _COLORS["ink"],
        "linewidth": 1.75,
    },
}  # fmt: skip
_RING: dict[str, Any] = {
    "s": 330, "facecolor": "none", "edgecolor": _COLORS["good"], "linewidth": 2.25,
}  # fmt: skip

_NEAR_PX = 14  # from a point to its label; labels farther off have a leader
_LEADER = {
    "arrowstyle": "-", "color": _COLORS["soft"], "linewidth": 0.75, "shrinkA": 0, "shrinkB": 5,
}  # fmt: skip


def bar_chart(title: str, bars: Sequence[Bar], heads: tuple[str, str, str]) -> str:
    """Return horizontal bars, with a smaller bar for each one's share at the right.

    Values of very different size are drawn logarithmically.

    Parameters
    ----------
    title : str
        Accessible name.
    bars : sequence of Bar
        From the top.
    heads : (str, str, str)
        Heading of the bars, heading of the shares, unit of the value axis.

    Returns
    -------
    str
        An ``svg`` element.
    """
    values = [bar.value if math.isfinite(bar.value) and bar.value > 0 else 0.0 for bar in bars]
    shares = [min(max(bar.share, 0.0), 1.0) for bar in bars]
    places = range(len(bars))
    with _figure(_BARS_MARGIN_PX + _BAR_PX * len(bars)) as figure:
        axes, parts = figure.subplots(1, 2, sharey=True, width_ratios=(6, 1))
        axes.patch.set_visible(False)
        least = _logarithmic_from(values)
        start = least or 0.0
        if least is not None:
            axes.set_xscale("log")
            _tick_decades(axes.xaxis, max(values) / least)
        axes.set_xlim(start, max(values, default=0.0) or 1.0)
        colors = [_COLORS["warm" if bar.emphasized else "accent"] for bar in bars]
        lengths = [max(value - start, 0.0) for value in values]
        drawn = axes.barh(places, lengths, 0.68, left=start, color=colors)
        axes.bar_label(drawn, [plain(bar.text) for bar in bars], padding=6)
        for at, patch in enumerate(drawn):
            patch.set_gid(f"mark{at}")
        share = parts.barh(places, shares, 0.4, color=_COLORS["soft"])
        parts.bar_label(share, [f"{part:.1%}" for part in shares], padding=6)
        parts.set_xlim(0, max(shares, default=0.0) or 1.0)
        parts.set_axis_off()
        axes.set_yticks(places, [shorten(bar.label, _BAR_LABEL) for bar in bars])
        axes.tick_params("y", labelcolor=_COLORS["ink"])
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_visible(False)
        _plain_numbers(axes.xaxis)
        for one, head in ((axes, heads[0]), (parts, heads[1])):
            one.set_title(plain(head), loc="left", color=_COLORS["soft"], fontsize=11.5)
        axes.set_xlabel(
            f"{plain(heads[2])}{', logarithmic' if least is not None else ''}", loc="left"
        )
        figure.subplots_adjust(left=0.235, right=0.925, wspace=0.44)
        _margins(figure, top_px=34, bottom_px=48)
        return _svg(figure, title, {f"mark{at}": bar.name for at, bar in enumerate(bars)})


def scatter_chart(
    title: str,
    points: Sequence[Point],
    heads: tuple[str, str],
    *,
    path: Sequence[Point] = (),
    limit: tuple[float, str] | None = None,
) -> str:
    """Return points with labels that cover neither each other nor a point.

    Parameters
    ----------
    title : str
        Accessible name.
    points : sequence of Point
        One or more.
    heads : (str, str)
        What x and y are.
    path : sequence of Point
        Points that a line joins, in order; see `frontier`.
    limit : (float, str), optional
        A horizontal line at a value of y, and its text. Far above it the axis is logarithmic.

    Returns
    -------
    str
        An ``svg`` element.
    """
    with _figure(_SCATTER_PX) as figure:
        axes = figure.subplots()
        axes.patch.set_visible(False)
        axes.set_xmargin(0.06)
        axes.set_ymargin(0.1)
        label = plain(heads[1])
        if limit is not None:
            level, words = limit
            label += _scale_around(axes, level, [point.y for point in points])
            axes.axhline(level, color=_COLORS["warm"], linestyle=(0, (5, 3)), linewidth=1.5)
        axes.plot(
            [p.x for p in path], [p.y for p in path], color=_COLORS["soft"], gid="path", zorder=1.5
        )
        for at, point in enumerate(points):
            front = 3 if point.chosen else 2
            axes.scatter(point.x, point.y, zorder=front, gid=f"mark{at}", **_SHAPES[point.shape])
            if point.chosen:
                axes.scatter(point.x, point.y, zorder=front, gid="ring", **_RING)
        axes.set_xlabel(plain(heads[0]))
        axes.set_title(label, loc="left", color=_COLORS["soft"], fontsize=11.5)
        _plain_numbers(axes.xaxis)
        _plain_numbers(axes.yaxis)
        figure.subplots_adjust(left=0.075, right=0.985)
        _margins(figure, top_px=34, bottom_px=52)
        figure.draw_without_rendering()  # settles the limits, which labels are placed within
        if limit is not None:
            _label_line(axes, level, words, points)
        corners = [(point.x, point.y) for point in path]
        ends = [] if limit is None else [(x, level) for x in axes.get_xlim()]
        _label_points(axes, points, [corners, ends])
        return _svg(figure, title, {f"mark{at}": point.name for at, point in enumerate(points)})


def frontier(points: Sequence[Point], *, more_is_better: bool = False) -> list[Point]:
    """Return the points that no other beats in both x and y, by x.

    Parameters
    ----------
    points : sequence of Point
        Less is better in x.
    more_is_better : bool
        In y.
    """
    sign = -1 if more_is_better else 1
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, sign * point.y)):
        if not kept or sign * point.y < sign * kept[-1].y:
            kept.append(point)
    return kept


def _logarithmic_from(values: Sequence[float]) -> float | None:
    """Return where a logarithmic axis starts; None where a linear one shows all values."""
    known = [value for value in values if value > 0]
    if not known or max(known) / min(known) <= _LOG_FROM:
        return None
    return max(min(known), max(known) / _LOG_SPAN) / 1.6  # the least still has a length


def _scale_around(axes: Any, level: float, values: Sequence[float]) -> str:
    """Make y logarithmic above a level where values lie far above it; return a note on that."""
    high = max(values)
    if high <= _LINEAR_TO * level or level <= 0:
        return ""
    axes.set_yscale("asinh", linear_width=level)
    decades = range(math.floor(math.log10(level)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 100 * level else (1,)
    above = [step * 10.0**decade for decade in decades for step in steps]
    ticks = [0, level / 2, level, *(tick for tick in above if 1.6 * level < tick <= high)]
    axes.set_yticks(ticks, minor=False)
    axes.set_yticks([], minor=True)
    return ", logarithmic above the budget"


def _plain_numbers(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _tick_decades(axis: Any, span: float) -> None:
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 1e3 else (1,)))


def _label_line(axes: Any, level: float, words: str, points: Sequence[Point]) -> None:
    """Name a horizontal line at the end where fewer points are."""
    left, right = axes.get_xlim()
    nearer_left = sum(point.x < (left + right) / 2 for point in points) * 2 < len(points)
    place, side = (0.005, "left") if nearer_left else (0.995, "right")
    axes.annotate(
        plain(words), (place, level), (0, 4), xycoords=("axes fraction", "data"), ha=side,
        va="bottom", textcoords="offset points", color=_COLORS["warm"], gid="label",
    )  # fmt: skip


def _label_points(axes: Any, points: Sequence[Point], lines: Sequence[Corners]) -> None:
    """Label points, the important ones first, each where it covers least; none cover a point."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    def box(place: tuple[float, float], side_px: float) -> Any:
        x, y = place
        return Bbox.from_bounds(x - side_px / 2, y - side_px / 2, side_px, side_px)

    renderer, to_pixels = axes.figure.canvas.get_renderer(), axes.transData.transform
    taken = [box(to_pixels((point.x, point.y)), 18) for point in points]
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    passed = [box(place, 5) for corners in lines if corners for place in _along(to_pixels(corners))]
    offsets = [
        (reach * across, reach * 0.8 * up)
        for reach in (_NEAR_PX, 22, 34)
        for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    ]
    for point in sorted(points, key=lambda point: (not point.chosen, not point.labelled)):
        options = []
        for cost, (right, up) in enumerate(offsets):
            far = abs(right) > _NEAR_PX or abs(up) > _NEAR_PX
            text = axes.annotate(
                shorten(point.label, _POINT_LABEL), (point.x, point.y), (right, up),
                textcoords="offset points", gid="label", arrowprops=_LEADER if far else None,
                fontweight="bold" if point.chosen else "normal",
                ha="left" if right > 0 else "right" if right < 0 else "center",
                va="bottom" if up > 0 else "top" if up < 0 else "center",
            )  # fmt: skip
            text.update_positions(renderer)
            around = Text.get_window_extent(text, renderer)  # without the leader
            hidden = sum(_shared(around, other) for other in taken)
            hidden += around.width * around.height - _shared(around, axes.bbox)
            crossed = sum(_shared(around, part) for part in passed)
            options.append((20 * hidden + crossed + 2 * cost, hidden, text, around))
            text.set_visible(False)
        _, hidden, text, around = min(options, key=lambda option: option[0])
        if hidden < 1 or point.chosen or point.labelled:
            text.set_visible(True)
            taken.append(around)


def _along(corners: Any) -> Iterator[tuple[float, float]]:
    """Yield places a few pixels apart on the lines between corners."""
    for (x, y), (to_x, to_y) in pairwise(corners):
        steps = max(1, int(math.hypot(to_x - x, to_y - y) / 5))
        for at in range(steps):
            yield x + (to_x - x) * at / steps, y + (to_y - y) * at / steps


def _shared(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


@contextmanager
def _figure(height_px: float) -> Iterator[Figure]:
    """Yield an empty figure under the charts' own settings, whatever the user's are."""
    require_page_libraries()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names may hold characters that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure((_WIDTH_PX / 72, height_px / 72), dpi=72, frameon=False)
        FigureCanvasAgg(figure)  # measures texts
        yield figure


def _margins(figure: Figure, *, top_px: float, bottom_px: float) -> None:
    height = figure.get_figheight() * 72
    figure.subplots_adjust(top=1 - top_px / height, bottom=bottom_px / height)


def _svg(figure: Figure, title: str, tooltips: Mapping[str, str]) -> str:
    """Write a figure as an ``svg`` element for a page: themed, named, and without references."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", transparent=True)
    root = ElementTree.fromstring(file.getvalue())  # noqa: S314 - it was written one line above
    box = root.get("viewBox", "")
    _clean(root, tooltips)
    root.attrib = {"class": "chart", "role": "img", "viewBox": box}
    root.insert(0, _titled(title))
    return ElementTree.tostring(root, "unicode")


def _clean(parent: ElementTree.Element, tooltips: Mapping[str, str]) -> None:
    """Reduce an SVG file to what a page needs, and give colours and tooltips."""
    for element in parent.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.tail = None
        element.text = element.text if element.tag == "text" else None
    symbols = {path.get("id"): path for path in parent.iterfind(".//defs/path")}
    for element in list(parent.iter()):
        for child in list(element):
            if child.tag in ("metadata", "defs"):
                element.remove(child)
        if element.tag == "use":
            _inline(element, symbols[element.get(_HREF, "")[1:]])
        name = element.attrib.pop("id", "")
        element.attrib.pop("clip-path", None)
        if "style" in element.attrib:
            element.set("style", _themed(element.get("style", "")))
        kind = name.rstrip("0123456789")
        if kind in ("mark", "ring", "path", "label"):
            element.set("class", kind)
        if name in tooltips:
            element.insert(0, _titled(tooltips[name]))


def _inline(use: ElementTree.Element, symbol: ElementTree.Element) -> None:
    """Replace a reference by the path that it refers to."""
    place = f"translate({use.get('x')} {use.get('y')})"
    style = f"{use.get('style', '')}; {symbol.get('style', '')}"
    use.tag = "path"
    use.attrib = {"d": symbol.get("d", ""), "transform": place, "style": style}


def _themed(style: str) -> str:
    for name, color in _COLORS.items():
        style = style.replace(color, f"var(--{name})")
    # The page's own font, at matplotlib's size and weight.
    style = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;]*", r"font-weight: \1; font-size: \2px", style)
    return re.sub(r"font-family: [^;]*;? ?|font-weight: ;", "", style)


def _titled(text: str) -> ElementTree.Element:
    title = ElementTree.Element("title")
    title.text = plain(text)
    return title
