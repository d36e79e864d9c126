"""Charts of reports: drawn by matplotlib, as SVG with the colours of the page around it.

The SVG names no colour of its own: it refers to the page's CSS variables, so it follows the
page into dark mode. It has no identifiers, dates, links or fonts; the same numbers give the
same bytes. matplotlib is imported when a chart is drawn; its settings are global, so one chart
is drawn at a time.
"""

from __future__ import annotations

import io
import math
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

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
_TOP_PX, _BOTTOM_PX = 34, 50  # for title and ticks
_LOG_FROM = 40.0  # ratio of the largest value to the smallest
_LOG_SPAN = 1e4
_LINEAR_TO = 4.0  # limits: up to there a linear axis is readable
_BAR_LABEL, _POINT_LABEL = 28, 40

_DRAWING = threading.Lock()
_HREF = "{http://www.w3.org/1999/xlink}href"

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgerestore",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout everywhere
    "font.size": 11.5,
    "text.color": _COLORS["ink"],
    "axes.labelcolor": _COLORS["soft"],
    "axes.titlecolor": _COLORS["soft"],
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    **{f"axes.spines.{side}": False for side in ("top", "right", "bottom", "left")},
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
_OFFSETS = [
    (across, up, reach)
    for reach in (_NEAR_PX, 22, 34)
    for across, up in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
]
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
    most, start = max(values, default=0.0) or 1.0, _logarithmic_from(values)
    with _figure(_BARS_MARGIN_PX + _BAR_PX * len(bars), 0.235, 0.925) as figure:
        axes, parts = figure.subplots(
            1, 2, sharey=True, width_ratios=(6, 1), gridspec_kw={"wspace": 0.44}
        )
        if start:
            axes.set_xscale("log", subs=[])
            axes.set_xticks(_round_values(start, most))
        axes.set_xlim(start, most)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        drawn = axes.barh(
            range(len(bars)),
            [max(value - start, 0.0) for value in values],
            0.68,
            left=start,
            color=[_COLORS["warm" if bar.emphasized else "accent"] for bar in bars],
        )
        for at, patch in enumerate(drawn):
            patch.set_gid(f"mark{at}")
        axes.bar_label(drawn, [plain(bar.text) for bar in bars], padding=6)
        axes.set_yticks(range(len(bars)), [shorten(bar.label, _BAR_LABEL) for bar in bars])
        axes.tick_params("y", labelcolor=_COLORS["ink"])
        axes.grid(visible=False, axis="y")
        small = parts.barh(range(len(bars)), shares, 0.4, color=_COLORS["soft"])
        parts.bar_label(small, [f"{share:.1%}" for share in shares], padding=6)
        parts.set_xlim(0, max(shares, default=0.0) or 1.0)
        parts.set_axis_off()
        axes.xaxis.set_major_formatter(_plain_number)
        axes.set_title(plain(heads[0]))
        parts.set_title(plain(heads[1]))
        axes.set_xlabel(plain(heads[2]) + (", logarithmic" if start else ""), loc="left")
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
    with _figure(_SCATTER_PX, 0.075, 0.985) as figure:
        axes = figure.subplots()
        axes.margins(0.06, 0.1)
        note = ""
        if limit is not None:
            note = _scale_around(axes, limit[0], max(point.y for point in points))
            axes.axhline(limit[0], color=_COLORS["warm"], linestyle=(0, (5, 3)), linewidth=1.5)
        line: dict[str, Any] = {"color": _COLORS["soft"], "zorder": 1.5, "gid": "path"}
        axes.plot([point.x for point in path], [point.y for point in path], **line)
        for at, point in enumerate(points):
            place: dict[str, Any] = {"x": point.x, "y": point.y, "zorder": 3 if point.chosen else 2}
            axes.scatter(**place, gid=f"mark{at}", **_SHAPES[point.shape])
            if point.chosen:
                axes.scatter(**place, gid="ring", **_RING)
        axes.xaxis.set_major_formatter(_plain_number)
        axes.yaxis.set_major_formatter(_plain_number)
        axes.set_xlabel(plain(heads[0]))
        axes.set_title(plain(heads[1]) + note)
        figure.draw_without_rendering()  # settles the limits, which labels are placed within
        if limit is not None:
            _label_line(axes, *limit, points)
        _label_points(axes, points)
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


def _logarithmic_from(values: Sequence[float]) -> float:
    """Return where a logarithmic axis starts; 0 where a linear one shows all values."""
    known = [value for value in values if value > 0]
    if not known or max(known) / min(known) <= _LOG_FROM:
        return 0.0
    return max(min(known), max(known) / _LOG_SPAN) / 1.6  # the least still has a length


def _scale_around(axes: Any, level: float, high: float) -> str:
    """Make y logarithmic above a level where values lie far above it; return a note on that."""
    if high <= _LINEAR_TO * level or level <= 0:
        return ""
    axes.set_yscale("asinh", linear_width=level)
    axes.set_yticks([0, level / 2, level, *_round_values(1.6 * level, high)])
    axes.set_yticks([], minor=True)
    return ", logarithmic above the line"


def _round_values(low: float, high: float) -> list[float]:
    """Return round values for the ticks of a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high < 1e3 * low else (1,)
    values = [step * 10.0**decade for decade in decades for step in steps]
    return [value for value in values if low < value <= high]


def _plain_number(value: float, _: object) -> str:
    return f"{value:g}"


def _label_line(axes: Any, level: float, words: str, points: Sequence[Point]) -> None:
    """Name a horizontal line at the end where fewer points are."""
    left, right = axes.get_xlim()
    nearer_left = sum(point.x < (left + right) / 2 for point in points) * 2 < len(points)
    place, side = (0.005, "left") if nearer_left else (0.995, "right")
    axes.annotate(
        plain(words), (place, level), (0, 4), xycoords=("axes fraction", "data"), ha=side,
        va="bottom", textcoords="offset points", color=_COLORS["warm"], gid="label",
    )  # fmt: skip


def _label_points(axes: Any, points: Sequence[Point]) -> None:
    """Label points, the important ones first, each where it covers least; none cover a point."""
    from matplotlib.transforms import Bbox

    def shared(box: Any, others: Any) -> float:
        low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
        return float(np.clip(high - low, 0, None).prod(axis=1).sum())

    renderer = axes.figure.canvas.get_renderer()
    places = {point: axes.transData.transform((point.x, point.y)) for point in points}
    taken = [(x - 9, y - 9, x + 9, y + 9) for x, y in places.values()]
    taken += [text.get_window_extent(renderer).extents for text in axes.texts]
    bounds = axes.bbox.extents[None]
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    for point in sorted(points, key=lambda point: (not point.chosen, not point.labelled)):
        label = shorten(point.label, _POINT_LABEL)
        weight = "bold" if point.chosen else "normal"
        probe = axes.text(0, 0, label, fontweight=weight)
        size = probe.get_window_extent(renderer)
        probe.remove()
        options = []
        for cost, (across, up, reach) in enumerate(_OFFSETS):
            x = places[point][0] + reach * across - size.width * (1 - across) / 2
            y = places[point][1] + 0.8 * reach * up - size.height * (1 - up) / 2
            box = np.array((x, y, x + size.width, y + size.height))
            hidden = shared(box, np.array(taken)) + size.width * size.height - shared(box, bounds)
            around = Bbox.from_extents(*box)
            crossed = sum(bool(line.intersects_bbox(around, filled=False)) for line in lines)
            options.append((20 * hidden + 60 * crossed + 2 * cost, cost, hidden, box))
        _, cost, hidden, box = min(options, key=lambda option: option[:2])
        if hidden < 1 or point.chosen or point.labelled:
            taken.append(tuple(box))
            across, up, reach = _OFFSETS[cost]
            axes.annotate(
                label, (point.x, point.y), (reach * across, 0.8 * reach * up),
                textcoords="offset points", fontweight=weight, gid="label",
                ha=("center", "left", "right")[across], va=("center", "bottom", "top")[up],
                arrowprops=_LEADER if reach > _NEAR_PX else None,
            )  # fmt: skip


@contextmanager
def _figure(height_px: float, left: float, right: float) -> Iterator[Figure]:
    """Yield an empty figure under the charts' own settings, whatever the user's are.

    The plot is between ``left`` and ``right``, as parts of the width.
    """
    require_page_libraries()
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _DRAWING, matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names may hold characters that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        figure = Figure((_WIDTH_PX / 72, height_px / 72), dpi=72, frameon=False)
        FigureCanvasAgg(figure)  # measures texts
        figure.subplots_adjust(left, _BOTTOM_PX / height_px, right, 1 - _TOP_PX / height_px)
        yield figure


def _svg(figure: Figure, title: str, tooltips: Mapping[str, str]) -> str:
    """Write a figure as an ``svg`` element for a page: themed, named, and without references."""
    for axes in figure.axes:
        axes.patch.set_visible(False)
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
