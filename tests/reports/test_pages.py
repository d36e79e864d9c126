"""Pages and tables: self-contained, escaped, and one set of rows for every form."""

from __future__ import annotations

import base64
import csv
import io
import re
from html.parser import HTMLParser

import cv2
import jinja2
import markdown
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgerestore.errors import MissingExtraError
from edgerestore.reports import pages
from edgerestore.reports.pages import render, require_page_libraries, restyled
from edgerestore.reports.pictures import amplified, densest_window, picture
from edgerestore.reports.tables import Table, escaped, number, plain, shorten

HOSTILE = '<script>alert("x")</script>&\'\n\x00\x1b[31m\udc80'
TABLE = Table(
    ("model", "method", "size", "loss dB"),
    [("a & b", "plain", "640x360", 0.5), ("deblur", "fine-tuned", "1x1", -12.25)],
    marked=1,
)


def parts(call: str, **context: object) -> str:
    """Render one macro of the templates' parts."""
    environment = pages._environment()
    source = '{% import "parts.html" as parts %}{{ parts.' + call + " }}"
    return environment.from_string(source).render(context)


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_every_value_is_escaped_and_cleaned() -> None:
    image = picture(np.zeros((1, 3, 4, 4), np.float32), HOSTILE)
    html = render("base.html", title=HOSTILE, body="")
    html += parts("table(t)", t=Table((HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)]))
    html += parts("facts(cells)", cells=[(HOSTILE, HOSTILE)])
    html += parts("pairs(rows)", rows=[(HOSTILE, HOSTILE)])
    html += parts("pictures([one])", one=image)
    html += parts("key([('', '', words)])", words=HOSTILE)
    assert html.count("&lt;script&gt;") == 12
    assert "<script" not in html
    assert not {"\x00", "\x1b", "\udc80"} & set(html)
    assert all("alert" not in name for tag, attrs in Elements(html).found for name in attrs)


def test_a_page_is_whole_and_needs_nothing_else() -> None:
    page = render("base.html", title="A report", body="<p>text</p>")
    assert page.startswith("<!doctype html>")
    assert page.endswith("</main></body></html>\n")
    assert page.count("<style>") == 1
    assert "<p>text</p>" in page
    assert "prefers-color-scheme:dark" in page
    assert not re.search(r"https?:|@import|url\(|<script|<link", page)


def test_a_variable_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("base.html", body="")


def test_an_earlier_page_gets_the_current_style() -> None:
    old = "<head><style>.a{color:red}</style></head><main><style>.b{}</style>text</main>"
    new = restyled(old)
    assert ".a{" not in new
    assert "--accent" in new
    assert new.endswith("<main><style>.b{}</style>text</main>")
    assert restyled(new) == new


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    require_page_libraries()
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"{name}: pip install .*\[convert\]'"):
        require_page_libraries()


def test_rows_are_the_same_in_every_form() -> None:
    lines = TABLE.lines()
    assert lines == [
        "  model   method         size  loss dB",
        "--------  ----------  -------  -------",
        "  a & b   plain       640x360      0.5",
        "* deblur  fine-tuned      1x1   -12.25",
    ]
    assert list(csv.reader(io.StringIO(TABLE.csv())))[1:] == [
        ["a & b", "plain", "640x360", "0.5"],
        ["deblur", "fine-tuned", "1x1", "-12.25"],
    ]
    html = parts("table(t)", t=TABLE)
    assert re.findall(r"<td[^>]*>(.*?)</td>", html) == [
        *("a &amp; b", "plain", "640x360", "0.5"),
        *("deblur", "fine-tuned", "1x1", "-12.25"),
    ]
    right = [attrs.get("class") == "right" for tag, attrs in Elements(html).found if tag == "th"]
    assert right == TABLE.numeric == [False, False, True, True]
    assert html.count('class="marked"') == 1
    cells = ["1.2e-06", "(3, -2)", "97%", "2.4x", "1.3 MB", "-", "equal", "01.png", "fp32", "2.png"]
    assert [Table(("", ""), [("", cell)]).numeric[1] for cell in cells] == [True] * 7 + [False] * 3
    assert TABLE.only("loss dB", "none such", "model").rows == [[0.5, "a & b"], [-12.25, "deblur"]]


class Cells(HTMLParser):
    """Texts of the cells of a page's tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, _: object) -> None:
        assert tag in {"table", "thead", "tbody", "tr", "th", "td"}, f"a cell made <{tag}>"
        self._inside = tag in {"th", "td"}
        self.found += [""] * self._inside

    def handle_endtag(self, _: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found[-1] += data


@pytest.mark.parametrize(
    "text",
    ["a|b", "*x* _y_ __z__", "in_the_word.png", "<b>", "[a](b)", "`c`", "a\\|b", "&lt;", "1\n2"],
)
def test_cells_are_no_markup_in_markdown(text: str) -> None:
    table = Table(("name", text), [(text, 0.5), ("", "-1.25 dB")])
    page = markdown.markdown(table.markdown(), extensions=["tables"])
    shown = text.replace("\n", " ")
    assert Cells(page).found == ["name", shown, shown, "0.5", "", "-1.25 dB"]
    assert Cells(f"<td>{markdown.markdown(escaped(text))[3:-4]}</td>").found == [shown]


def test_numbers_are_on_the_right_in_markdown() -> None:
    marks = TABLE.markdown().splitlines()[1]
    assert marks == "| --- | --- | ---: | ---: |"


def test_long_names_are_shortened_to_the_width() -> None:
    table = Table(("name", "value"), [("a name that is far too long for it", 1), ("b", 22)])
    lines = table.lines(24)
    assert max(map(len, lines)) == 24
    assert "…" in lines[2]
    assert lines[2].endswith("    1")


@given(st.text(max_size=60), st.integers(4, 40))
def test_shortened_names_fit(name: str, most: int) -> None:
    short = shorten(name, most)
    assert len(short) <= most
    assert short.isprintable()
    assert plain(name).isprintable()


def test_differences_have_two_digits() -> None:
    assert [number(value) for value in (0.0, 1.234e-6, 1.0)] == ["0", "1.2e-06", "1.0e+00"]


def decoded(uri: str) -> np.ndarray:
    raw = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
    return np.asarray(cv2.imdecode(raw, cv2.IMREAD_UNCHANGED))


def test_pictures_are_true_to_the_level() -> None:
    rng = np.random.default_rng(0)
    planes = rng.random((1, 3, 20, 30), np.float32)
    planes[0, 0, 0, 0], planes[0, 1, 0, 0], planes[0, 2, 0, 0] = np.nan, 2.0, -1.0
    exact = picture(planes, "x", lossless=True)
    assert exact.uri.startswith("data:image/webp;base64,")
    assert decoded(exact.uri)[0, 0].tolist() == [0, 255, 0]
    wanted = np.rint(planes[0, ::-1, 1:].transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(decoded(exact.uri)[1:], wanted)
    assert picture(planes, "x").uri.startswith("data:image/jpeg;base64,")


def test_differences_are_amplified_around_grey() -> None:
    difference = np.zeros((1, 1, 10, 10), np.float32)
    shown, gain = amplified(difference)
    assert (gain, set(shown.ravel().tolist())) == (0, {0.5})
    difference[0, 0, :5] = 0.02
    shown, gain = amplified(difference)
    assert gain == 20
    assert shown.max() == pytest.approx(0.9)
    assert amplified(difference * 50)[1] == 1


def test_the_densest_window_holds_the_error() -> None:
    error = np.zeros((200, 300))
    error[150:155, 250:260] = 1
    rows, columns = densest_window(error, 160)
    assert rows.start <= 150 < 155 <= rows.stop == rows.start + 160
    assert columns.start <= 250 < 260 <= columns.stop == columns.start + 160
    assert densest_window(error[:50], 160)[0] == slice(0, 50)
