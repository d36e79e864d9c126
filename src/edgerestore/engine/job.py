"""Deprecated path of `edgerestore.restore_path`."""

from __future__ import annotations

import warnings
from typing import Any

from ..extensions import load_target

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    warnings.warn(f"use edgerestore.restore_path, not {__name__}", DeprecationWarning, stacklevel=2)
    return load_target(f"edgerestore.streams.session:{name}")
