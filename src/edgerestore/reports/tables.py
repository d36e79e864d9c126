"""Tables for every report: one set of rows as a grid, CSV, Markdown, and cells of a page."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["Table", "escaped", "number", "plain", "shorten"]

# An underscore within a word is no markup.
_MARKUP = re.compile(r"[\\`*\[\]<>|&]|(?<![^\W_])_|_(?![^\W_])")
_NUMERIC = re.compile(r"[(+-]?[\d.]+(e[+-]\d+)?([ ,x%)]|$)|(-|equal|identical|unknown)$")


@dataclass(frozen=True)
class Table:
    """Head and rows of a table.

    Parameters
    ----------
    head : sequence of str
    rows : sequence of sequence of object
        One cell for each name in the head. `lines` and pages show ``str(cell)``.
    marked : int or None
        Index of the row to emphasize.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    marked: int | None = None

    @property
    def numeric(self) -> list[bool]:
        """Whether each column is aligned right: it holds numbers, and is not the first."""
        columns = range(len(self.head))
        return [at > 0 and all(_NUMERIC.match(str(row[at])) for row in self.rows) for at in columns]

    def only(self, *names: str) -> Table:
        """Return these columns alone, in this order; unknown names are skipped."""
        places = [self.head.index(name) for name in names if name in self.head]
        rows = [[row[at] for at in places] for row in self.rows]
        return replace(self, head=[self.head[at] for at in places], rows=rows)

    def lines(self, width: int | None = None) -> list[str]:
        """Return the table as aligned plain text, a line for each row, the marked one with a star.

        Parameters
        ----------
        width : int, optional
            Characters available: the first column is shortened to what the others leave.
        """
        cells = [[plain(str(cell), indent=True) for cell in row] for row in (self.head, *self.rows)]
        if self.marked is not None:
            for at, row in enumerate(cells):
                row[0] = f"{'*' if at == self.marked + 1 else ' '} {row[0]}"
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        if width is not None:
            room = width - sum(widths[1:]) - 2 * (len(widths) - 1)
            widths[0] = min(widths[0], room)
            cells = [[shorten(row[0], room), *row[1:]] for row in cells]

        def line(row: Sequence[str]) -> str:
            padded = (
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(row, widths, self.numeric, strict=True)
            )
            return "  ".join(padded).rstrip()

        return [line(cells[0]), "  ".join("-" * width for width in widths), *map(line, cells[1:])]

    def csv(self) -> str:
        """Return the table as comma-separated values; numbers are not rounded."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.head, *self.rows])
        return file.getvalue()

    def markdown(self) -> str:
        """Return the table in Markdown; its texts are no markup."""
        marks = ["---:" if right else "---" for right in self.numeric]
        rows = [[escaped(str(cell)) for cell in row] for row in (self.head, *self.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], marks, *rows[1:]))


def escaped(text: str) -> str:
    """Return a text on one line that Markdown shows as it is."""
    # Not by backslashes: dialects differ in what these are good for.
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", plain(text))


def number(value: float) -> str:
    """Return a difference with two significant digits, zero as a bare ``0``."""
    return "0" if value == 0 else f"{value:.1e}"


def plain(text: str, *, indent: bool = False) -> str:
    """Return a text on one line, without characters that a page or a terminal cannot show.

    Names of files and operations may hold line breaks, control characters, or bytes that
    are not text.

    Parameters
    ----------
    text : str
    indent : bool
        Keep leading spaces.
    """
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    leading = text[: len(text) - len(text.lstrip(" "))] if indent else ""
    return leading + " ".join(shown.split())


def shorten(text: str, most: int) -> str:
    """Return a text of at most so many characters, cut in the middle: both ends identify names."""
    text = plain(text, indent=True)
    if len(text) <= most:
        return text
    tail = (most - 1) * 3 // 5
    return f"{text[: most - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
