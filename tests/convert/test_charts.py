"""Charts: lengths and places that are true to the numbers, and labels that can be read."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerestore.reports.axes import Axis, linear_axis, log_axis, signed_axis
from edgerestore.reports.charts import Bar, Mark, bar_chart, scatter_chart
from edgerestore.reports.label_places import Label, place_labels
from edgerestore.reports.text_grid import shorten


def bar_lengths(*values: float) -> tuple[list[float], list[str]]:
    bars = [Bar(f"bar {v:g}", "a bar", v, f"{v:g} dB", 0.5, other=False) for v in values]
    chart = ElementTree.fromstring(bar_chart("Bars", bars, ("loss", "share", "dB")))
    drawn = [rect for rect in chart.iter("rect") if rect.get("class") == "plain"]
    return [float(r.get("width", "")) for r in drawn], [t.text or "" for t in chart.iter("text")]


def test_bars_are_as_long_as_their_values() -> None:
    lengths, words = bar_lengths(0.08, 0.04, 0.02, 0.0, -0.01)
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.2)
    assert lengths[1] == pytest.approx(2 * lengths[2], abs=0.2)
    assert lengths[3:] == [0, 0]
    assert "dB" in words
    assert "-0.01 dB" in words


def test_values_of_many_sizes_are_drawn_logarithmically() -> None:
    lengths, words = bar_lengths(1.0, 0.1, 0.01, 0.001)
    assert "dB, logarithmic" in words
    assert lengths[0] - lengths[1] == pytest.approx(lengths[2] - lengths[3], abs=0.2)
    assert lengths[3] > 10


def places(limit: float, **points: tuple[float, float]) -> dict[str, tuple[float, float]]:
    marks = [Mark(name, name, x, y, "circle") for name, (x, y) in points.items()]
    svg = scatter_chart("Points", marks, marks, (limit, "limit"), ("ms", "dB"))
    chart = ElementTree.fromstring(svg)
    found = {}
    for group in chart.iter("g"):
        circle = group.find("circle")
        assert circle is not None
        found[group[0].text or ""] = (float(circle.get("cx", "")), float(circle.get("cy", "")))
    (line,) = (line for line in chart.iter("line") if line.get("class") == "limit")
    found["limit"] = (0.0, float(line.get("y1", "")))
    return found


@pytest.mark.parametrize("far", [0.2, 50.0])
def test_less_is_down_and_to_the_left(far: float) -> None:
    at = places(0.1, best=(10, -0.01), good=(20, 0.05), over=(30, 0.15), far=(5, far))
    assert at["far"][0] < at["best"][0] < at["good"][0] < at["over"][0]
    # A picture counts its rows from the top.
    assert at["far"][1] < at["over"][1] < at["limit"][1] < at["good"][1] < at["best"][1]
    # Whatever else is drawn, what keeps the limit is told apart.
    assert at["best"][1] - at["limit"][1] > 30


def test_points_in_one_place_are_drawn() -> None:
    at = places(0.1, one=(7, 0.0), other=(7, 0.0))
    assert at["one"] == at["other"]


@pytest.mark.parametrize(
    "make", [linear_axis, log_axis, lambda *a: signed_axis(*a[:2], 0.1, *a[2:])]
)
@given(low=st.floats(1e-4, 1e3), span=st.floats(1e-3, 1e4), parts=st.lists(st.floats(0, 1)))
def test_axes_keep_the_order(
    make: Callable[..., Axis], low: float, span: float, parts: list[float]
) -> None:
    axis = make(low, low + span, 100, 500)
    values = sorted(low + part * span for part in parts)
    drawn = [axis.at(value) for value in values]
    assert drawn == sorted(drawn)
    assert all(100 <= px <= 500 for px in drawn)
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks)


@given(st.lists(st.tuples(st.integers(60, 840), st.integers(50, 360)), max_size=10, unique=True))
def test_labels_hide_nothing(points: list[tuple[int, int]]) -> None:
    labels = [
        Label(f"{at} of 14 operations", x, y, needed=False) for at, (x, y) in enumerate(points)
    ]
    placed = place_labels(labels, (50, 40, 860, 370))
    for at, one in enumerate(placed):
        left, top, right, bottom = one.box
        assert left >= 50
        assert right <= 860
        for other in placed[:at]:
            apart = right <= other.box[0] or other.box[2] <= left
            assert apart or bottom <= other.box[1] or other.box[3] <= top
        assert not any(left < x < right and top < y < bottom for x, y in points)
    if len(points) == 1:
        assert len(placed) == 1


def test_points_close_together_are_all_named() -> None:
    points = [(300, 200), (305, 203), (302, 211), (311, 198)]
    labels = [Label("12 of 14 operations", x, y, needed=False) for x, y in points]
    assert len(place_labels(labels, (50, 40, 860, 370))) == 4


def test_a_label_that_is_needed_is_always_there() -> None:
    points = [Label("other", x, y, needed=False) for x in range(300, 540, 16) for y in (45, 60, 75)]
    needed = Label("the chosen one, with a name of some length", 400, 60, needed=True)
    placed = place_labels([needed, *points], (50, 40, 860, 90))
    assert placed[0].label == needed


@given(st.text(max_size=60), st.integers(4, 40))
def test_shortened_names_fit(name: str, most: int) -> None:
    short = shorten(name, most)
    assert len(short) <= most
    assert short.isprintable()
