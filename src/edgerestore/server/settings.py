"""Settings of the photo server: a TOML file, overridden by ``EDGERESTORE_*``."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ..errors import ArgumentError

__all__ = ["RELOADABLE", "ServeSettings", "read_settings"]

RELOADABLE = frozenset(
    {"max_upload_mb", "max_megapixels", "queue", "per_user", "keep_minutes", "hosts"}
)
"""Settings that SIGHUP changes; the others need a restart."""


class ServeSettings(BaseSettings):
    """Settings of ``edgerestore serve``."""

    model_config = SettingsConfigDict(env_prefix="EDGERESTORE_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    """A name or an address of this machine's loopback."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    hosts: list[str] = []
    """Names, besides this machine's own, under which a proxy serves it."""
    data: Path = Path("edgerestore-data")
    """Folder of pictures and jobs."""
    models: Path | None = None
    """Folder of further bundles, which come before those of the package."""
    device: str = "CPU"
    precision: str = "auto"
    max_upload_mb: Annotated[float, Field(gt=0)] = 35.0
    max_megapixels: Annotated[float, Field(gt=0)] = 60.0
    queue: Annotated[int, Field(ge=1)] = 16
    """Jobs that wait or run, of all visitors."""
    per_user: Annotated[int, Field(ge=1)] = 4
    keep_minutes: Annotated[float, Field(gt=0)] = 60.0
    """How long a guest's pictures stay after the guest was last heard of."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take options first, then the environment, then the file."""
        path = cls.model_config.get("toml_file")
        file = [TomlConfigSettingsSource(settings_cls, path)] if path else []
        return (init_settings, env_settings, *file)


def read_settings(path: Path | None, **options: Any) -> ServeSettings:
    """Read the settings.

    Parameters
    ----------
    path : Path or None
        TOML file.
    **options
        Settings of the command line, which come first; None counts as not given.

    Raises
    ------
    ArgumentError
        When the file cannot be read, or a setting is unknown or wrong: it is named.
    """
    if path is not None:
        try:
            tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ArgumentError(f"{path}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ArgumentError(f"{path}: is no TOML ({error})") from error
    # A class of its own, because pydantic-settings takes the file's path from the class.
    kind = type(
        "_FileSettings",
        (ServeSettings,),
        {"model_config": SettingsConfigDict(toml_file=path), "__module__": __name__},
    )
    try:
        made: ServeSettings = kind(
            **{name: value for name, value in options.items() if value is not None}
        )
    except ValidationError as error:
        raise ArgumentError(_told(error, path)) from error
    except ValueError as error:  # an environment variable that is no JSON list
        raise ArgumentError(f"settings: {error}") from error
    return made


def _told(error: ValidationError, path: Path | None) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    variable = f"EDGERESTORE_{key.upper()}"
    where = variable if variable in os.environ else str(path or "settings")
    if first["type"] == "extra_forbidden":
        known = ", ".join(sorted(ServeSettings.model_fields))
        return f"{where}: {key}: no such setting; these are: {known}"
    return f"{where}: {key}: {first['msg']}, got {first['input']!r}"
