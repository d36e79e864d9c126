"""``edgerestore serve``: photos restored on a page, and by an HTTP API."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ..errors import MissingExtraError

__all__ = ["serve_command"]

_NEEDS = ("fastapi", "pydantic_settings")


def serve_command(
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings, TOML.", show_default=False)
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Of this machine's loopback. [127.0.0.1]")
    ] = None,
    port: Annotated[int | None, typer.Option(help="0 lets the system choose. [8080]")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of pictures and jobs. [edgerestore-data]")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(help="Folder of bundles, before those of the package.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="As of run. [CPU]")] = None,
    precision: Annotated[str | None, typer.Option(help="As of run. [auto]")] = None,
) -> None:
    """Serve a page and an HTTP API that restore photos.

    Each setting is taken from here, from EDGERESTORE_HOST and the like, or from the file, in
    this order. SIGHUP reads the file again.
    """
    from ..extensions import install_command

    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise MissingExtraError(f"serve needs {missing[0]}: {install_command('server')}")
    from ..server.serve import serve

    serve(
        config,
        {
            "host": host,
            "port": port,
            "data": data,
            "models": models,
            "device": device,
            "precision": precision,
        },
    )
