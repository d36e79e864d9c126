"""Reading the fields of ``bundle.json``: each error names its field, with what was expected.

Every reader takes the object that holds the field, the field's name, and as ``prefix`` where in
the manifest that object stands (``input.``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from ..errors import BundleError

__all__ = ["read_choice", "read_integer", "read_number", "read_object", "read_text"]

_Choice = TypeVar("_Choice", bound=StrEnum)


def read_object(content: Mapping[str, Any], name: str, prefix: str = "") -> dict[str, Any]:
    """Return a field that is an object, as the dictionary it was read into."""
    value = _get(content, name, prefix)
    if not isinstance(value, dict):
        raise BundleError(f"bundle.json: {prefix}{name}: expected an object, got {value!r}")
    return value


def read_text(content: Mapping[str, Any], name: str, pattern: str = "", prefix: str = "") -> str:
    """Return a field that is text, matching a regular expression in full if there is one."""
    value = _get(content, name, prefix)
    if not isinstance(value, str) or (pattern and not re.fullmatch(pattern, value)):
        wanted = f"text like {pattern}" if pattern else "text"
        raise BundleError(f"bundle.json: {prefix}{name}: expected {wanted}, got {value!r}")
    return value


def read_integer(content: Mapping[str, Any], name: str, least: int, prefix: str = "") -> int:
    """Return a field that is a whole number of at least ``least``."""
    value = _get(content, name, prefix)
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise BundleError(
            f"bundle.json: {prefix}{name}: expected a whole number of at least {least},"
            f" got {value!r}"
        )
    return value


def read_number(content: Mapping[str, Any], name: str, prefix: str = "") -> float:
    """Return a field that is a number above 0."""
    value = _get(content, name, prefix)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
        raise BundleError(f"bundle.json: {prefix}{name}: expected a number above 0, got {value!r}")
    return float(value)


def read_choice(
    content: Mapping[str, Any], name: str, kind: Callable[[str], _Choice], prefix: str = ""
) -> _Choice:
    """Return a field that is one of an enumeration's words."""
    value = _get(content, name, prefix)
    try:
        return kind(value)
    except ValueError:
        raise BundleError(f"bundle.json: {prefix}{name}: {value!r} is not known") from None


def _get(content: Mapping[str, Any], name: str, prefix: str) -> Any:
    if name not in content:
        raise BundleError(f"bundle.json: {prefix}{name} is missing")
    return content[name]
