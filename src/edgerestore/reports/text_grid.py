"""Names, numbers and tables as plain text, for reports of every form."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["grid", "number", "plain", "shorten"]


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines: the first column to the left, the others to the right."""
    widths = [max(len(line[at]) for line in (head, *rows)) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return "  ".join(padded).rstrip()

    return [line(head), "  ".join("-" * width for width in widths), *map(line, rows)]


def number(value: float) -> str:
    """Return a difference in two digits, a zero as a bare one."""
    return "0" if value == 0 else f"{value:.1e}"


def plain(text: str) -> str:
    """Return a text on one line, without characters that a page or a terminal cannot hold.

    Names of files and operations come from outside: they may hold line breaks, control
    characters, or bytes that are no text at all.
    """
    shown = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)
    return " ".join(shown.split())


def shorten(text: str, most: int) -> str:
    """Return a text of at most so many characters, the middle left out: both ends tell names."""
    text = plain(text)
    if len(text) <= most:
        return text
    tail = (most - 1) * 3 // 5
    return f"{text[: most - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"
