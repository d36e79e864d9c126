"""The one way from a command to standard output and standard error."""

from __future__ import annotations

import typer

from ..errors import printable

__all__ = ["echo"]


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text without what steers a terminal, as `typer.echo` does."""
    typer.echo(printable(text), err=err, nl=nl)
