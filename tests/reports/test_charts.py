"""Charts: true to the numbers, named, without references, and the same bytes each time."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgerestore.reports.charts import Bar, Point, bar_chart, frontier, scatter_chart

HEADS = ("loss", "share", "dB")


def corners(path: ElementTree.Element) -> list[tuple[float, float]]:
    """Return the corners of a path, moved to its place."""
    x0, y0 = map(float, (re.findall(r"[-\d.]+", path.get("transform", "")) or (0, 0)))
    found = re.findall(r"([-\d.]+) ([-\d.]+)(?=\s+[MLCz]|\s*$)", path.get("d", ""))
    return [(float(x) + x0, float(y) + y0) for x, y in found]


def marks(chart: ElementTree.Element) -> dict[str, list[tuple[float, float]]]:
    """Return the corners of each mark, by its tooltip."""
    groups = [group for group in chart.iter("g") if group.get("class") == "mark"]
    return {
        group.findtext("title", ""): [c for path in group.iter("path") for c in corners(path)]
        for group in groups
    }


def bars(*values: float) -> tuple[list[float], list[str]]:
    drawn = [Bar(f"bar {v:g}", f"{v}", v, f"{v:g} dB", 0.5) for v in values]
    chart = ElementTree.fromstring(bar_chart("Bars", drawn, HEADS))
    found = marks(chart)
    across = [[x for x, _ in found[f"{value}"]] for value in values]
    assert len({min(ends) for ends in across}) == 1, "they do not start at the axis"
    assert min(across[0]) > 150, "they cover their names"
    lengths = [max(ends) - min(ends) for ends in across]
    return lengths, [text.text or "" for text in chart.iter("text")]


def test_bars_are_as_long_as_their_values() -> None:
    lengths, words = bars(0.08, 0.04, 0.02, 0.0, -0.01, math.nan)
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.2)
    assert lengths[1] == pytest.approx(2 * lengths[2], abs=0.2)
    assert lengths[3:] == [0, 0, 0]
    assert {"dB", "loss", "share", "-0.01 dB", "50.0%"} <= set(words)


def test_values_of_many_sizes_are_drawn_logarithmically() -> None:
    lengths, words = bars(1.0, 0.1, 0.01, 0.001, 0.0, -2.0)
    assert lengths[4:] == [0, 0]
    assert {"dB, logarithmic", "0.001", "1"} <= set(words)
    assert lengths[0] - lengths[1] == pytest.approx(lengths[2] - lengths[3], abs=0.2)
    assert lengths[3] > 10


def middles(svg: str) -> dict[str, tuple[float, float]]:
    found = {}
    for name, places in marks(ElementTree.fromstring(svg)).items():
        x, y = zip(*places, strict=True)
        found[name] = ((min(x) + max(x)) / 2, (min(y) + max(y)) / 2)
    return found


@pytest.mark.parametrize("far", [0.2, 50.0])
def test_less_is_down_and_to_the_left(far: float) -> None:
    points = [
        Point(name, name, x, y)
        for name, x, y in (
            *(("best", 10, -0.01), ("good", 20, 0.05)),
            *(("over", 30, 0.15), ("far", 5, far), ("limit", 40, 0.1)),
        )
    ]
    svg = scatter_chart("Points", points, ("ms", "dB"), limit=(0.1, "budget"))
    at = middles(svg)
    assert at["far"][0] < at["best"][0] < at["good"][0] < at["over"][0]
    # A picture counts its rows from the top.
    assert at["far"][1] < at["over"][1] < at["limit"][1] < at["good"][1] < at["best"][1]
    # Whatever else is drawn, what keeps the limit can be seen.
    assert at["best"][1] - at["limit"][1] > 30
    assert ("logarithmic" in svg) == (far > 1)
    assert ">budget<" in svg


def test_points_in_one_place_are_drawn() -> None:
    at = middles(scatter_chart("Points", [Point("", "a", 7, 0), Point("", "b", 7, 0)], ("x", "y")))
    assert at["a"] == at["b"]


def test_the_frontier_is_what_no_other_beats() -> None:
    points = [Point("", "", x, y) for x, y in ((1, 5), (1, 6), (2, 3), (3, 4), (4, 1))]
    assert [(point.x, point.y) for point in frontier(points)] == [(1, 5), (2, 3), (4, 1)]
    best = frontier(points, more_is_better=True)
    assert [(point.x, point.y) for point in best] == [(1, 6)]


def labels(svg: str) -> list[str]:
    return re.findall(r'class="label"><text[^>]*>([^<]*)<', svg)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 99), st.floats(0, 1)), min_size=1, max_size=12))
def test_labels_that_are_asked_for_are_there(places: list[tuple[float, float]]) -> None:
    points = [Point(f"{at} of 14", f"{at}", x, y) for at, (x, y) in enumerate(places)]
    chosen = Point("the chosen one", "", *places[0], chosen=True)
    needed = Point("float", "", *places[-1], shape="square", labelled=True)
    shown = labels(scatter_chart("Points", [*points, chosen, needed], ("ms", "dB")))
    assert {"the chosen one", "float"} <= set(shown)
    assert len(shown) == len(set(shown))


def test_points_apart_are_all_labelled_and_points_in_a_crowd_are_not() -> None:
    apart = [Point(f"{at} of 14", "", at, at % 3) for at in range(6)]
    assert len(labels(scatter_chart("Points", apart, ("ms", "dB")))) == 6
    crowd = [Point(f"a name of some length, {at}", "", at / 1e3, 0) for at in range(60)]
    crowd.append(Point("", "", 100, 1))
    assert 1 < len(labels(scatter_chart("Points", crowd, ("ms", "dB")))) < 30


HOSTILE = '<script>alert("x")</script>&\n\x00\x1b[31m\udc80]]>$x^2$ \u4e2d\u6587 \U0001f600'


def charts() -> tuple[str, str]:
    return (
        bar_chart(HOSTILE, [Bar(HOSTILE, HOSTILE, 1, HOSTILE, 1)], (HOSTILE,) * 3),
        scatter_chart(
            HOSTILE,
            [Point(HOSTILE, HOSTILE, 1, 2, "diamond", chosen=True)],
            (HOSTILE, HOSTILE),
            limit=(1, HOSTILE),
        ),
    )


def test_charts_are_parts_of_any_page() -> None:
    for svg in charts():
        root = ElementTree.fromstring(svg)
        assert root.attrib == {
            "class": "chart",
            "role": "img",
            "viewBox": root.get("viewBox"),
        }
        assert root[0].tag == "title"
        assert (root[0].text or "").startswith('<script>alert("x")')
        svg.encode()
        assert "\x00" not in svg
        assert "\x1b" not in svg
        assert "\n" not in svg
        for outside in ("http", "<script", "<style", "url(", "href", " id=", "font-family", "#"):
            assert outside not in svg
        # No colour but the page's own.
        colors = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", svg))
        assert all(color == "none" or color.startswith("var(--") for color in colors)


def test_the_same_numbers_give_the_same_bytes_whatever_the_settings() -> None:
    import matplotlib

    first = charts()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert charts() == first
        assert matplotlib.rcParams["font.size"] == 30


def test_matplotlib_is_imported_when_a_chart_is_drawn() -> None:
    code = (
        "import sys, edgerestore.reports.charts as c, edgerestore.calibration.report;"
        "import edgerestore.evaluation.report;"
        "assert not {'matplotlib', 'jinja2'} & set(sys.modules);"
        "c.bar_chart('t', [], ('', '', ''));"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
