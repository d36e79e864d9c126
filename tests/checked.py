"""Values that are there whenever a test asks for them: they fail the test where they are not."""

from __future__ import annotations

from os import PathLike
from typing import Any, TypeVar

import cv2
from numpy.typing import NDArray

__all__ = ["imread", "not_none"]

T = TypeVar("T")


def not_none(value: T | None) -> T:
    """Return what is None only in other circumstances, and fail in those."""
    assert value is not None
    return value


def imread(path: str | PathLike[str], flags: int = cv2.IMREAD_COLOR) -> NDArray[Any]:
    """Read a file as OpenCV does: BGR, and as it is stored with ``IMREAD_UNCHANGED``."""
    image = cv2.imread(str(path), flags)
    assert image is not None, f"{path} is no picture that OpenCV reads"
    return image
