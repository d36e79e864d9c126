"""The inference libraries behind one protocol, by name and by device."""

from __future__ import annotations

from .registry import (
    all_runtimes,
    open_runtime,
    runtime_for,
    runtime_names,
    runtime_table,
    runtimes_for,
)

__all__ = [
    "all_runtimes",
    "open_runtime",
    "runtime_for",
    "runtime_names",
    "runtime_table",
    "runtimes_for",
]
