"""The one door where OpenVINO's errors become ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import InferenceError, first_line

__all__ = ["last_line", "translated"]


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise any error of the library as an `InferenceError` that says what was being done."""
    try:
        yield
    except RuntimeError as error:
        raise InferenceError(f"{doing}: {last_line(error)}") from error


def last_line(error: BaseException) -> str:
    """Return the last line of an OpenVINO message that is no source position."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [x for x in lines if x and not re.match(r"(Exception from|Check '.*' failed) ?", x)]
    return telling[-1][:240] if telling else first_line(error)
