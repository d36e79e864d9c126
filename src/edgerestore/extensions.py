"""Extension points: values that other packages offer under entry points, loaded when needed."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from .errors import ArgumentError, first_line

__all__ = ["extension", "extension_names", "load_target"]


def load_target(target: str) -> Any:
    """Return what ``module:name`` refers to, importing the module."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def extension_names(group: str) -> frozenset[str]:
    """Return the names of a group's entry points, in lower case; loads none of them."""
    return frozenset(point.name.lower() for point in entry_points(group=group))


def extension(group: str, name: str) -> Any | None:
    """Return what an entry point refers to; ``None`` where there is none of that name.

    Parameters
    ----------
    group : str
        ``edgerestore.sinks``, ``edgerestore.sources``, ...
    name : str
        Capital and small letters are the same.

    Raises
    ------
    ArgumentError
        When it cannot be loaded; names the package's module.
    """
    for point in entry_points(group=group):
        if point.name.lower() != name.lower():
            continue
        try:
            return point.load()
        except Exception as error:
            raise ArgumentError(
                f"{group} {point.name}: {point.value} cannot be loaded"
                f" ({type(error).__name__}: {first_line(error)}); repair or uninstall its package"
            ) from error
    return None
