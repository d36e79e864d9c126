"""The one door where OpenVINO's errors become ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import InferenceError

__all__ = ["translated"]


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Raise any error of the library as an `InferenceError` that says what was being done."""
    try:
        yield
    except RuntimeError as error:
        raise InferenceError(f"{doing}: {_gist(error)}") from error


def _gist(error: Exception) -> str:
    """Return the last telling line of a message that carries source positions."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [x for x in lines if x and not re.match(r"(Exception from|Check '.*' failed) ?", x)]
    return telling[-1] if telling else type(error).__name__
