"""Extension points: entry points of other packages, loaded when needed, and our own extras."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from typing import Any
from urllib.parse import unquote, urlsplit

from .errors import ArgumentError, first_line

__all__ = ["extension", "extension_names", "install_command", "load_target"]


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation, from where it was installed.

    Parameters
    ----------
    extra : str
        ``convert``, ``virtualcam``, ...

    Returns
    -------
    str
        With the checkout or the wheel that pip notes in ``direct_url.json``; else by name.
    """
    try:
        noted = json.loads(distribution("edgerestore").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:
        noted = {}
    url = noted.get("url", "")
    if not url:
        return f"pip install 'edgerestore[{extra}]'"
    if not url.startswith("file:"):
        return f"pip install 'edgerestore[{extra}] @ {url}'"
    editable = "-e " if noted.get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}'{unquote(urlsplit(url).path)}[{extra}]'"


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
