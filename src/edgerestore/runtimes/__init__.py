"""The inference libraries behind one protocol, as rows of a lazy table."""

from __future__ import annotations

from .registry import all_runtimes, runtime_for

__all__ = ["all_runtimes", "runtime_for"]
