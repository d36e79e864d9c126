"""Networks of the user's own: ``FILE.py:FACTORY`` or ``package.module:FACTORY``."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ...errors import ArgumentError, ConversionError

__all__ = ["build_own", "parse_arguments"]


def parse_arguments(pairs: Iterable[str]) -> dict[str, Any]:
    """Read ``K=V`` pairs; values are Python literals, or text where they are none.

    Raises
    ------
    ArgumentError
        On a pair without a name or a ``=``.
    """
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ArgumentError(f"--arch-arg {pair}: expected NAME=VALUE, like width=32")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value
    return arguments


def build_own(reference: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Import a network's factory and call it.

    Parameters
    ----------
    reference : str
        ``FILE.py:FACTORY`` or ``package.module:FACTORY``. The code runs: it is the user's
        own, named by him.
    arguments : mapping
        Passed to the factory by name.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ArgumentError
        When there is no such file, module or factory, or it refuses the arguments.
    ConversionError
        When the file or the factory fails, or the factory returns no module.
    """
    factory = _find(reference)
    try:
        network = factory(**arguments)
    except TypeError as error:
        given = ", ".join(f"{name}={value!r}" for name, value in arguments.items()) or "none"
        raise ArgumentError(f"{reference}: arguments {given}: {error}") from error
    except Exception as error:
        raise ConversionError(f"{reference}: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ConversionError(
            f"{reference}: returned {type(network).__name__}, expected a torch.nn.Module"
        )
    return network


def _find(reference: str) -> Callable[..., Any]:
    where, _, name = reference.rpartition(":")
    module = _import_file(Path(where)) if where.endswith(".py") else _import_module(where)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ArgumentError(f"--arch {reference}: {where} has no class or function {name!r}")
    return factory  # type: ignore[no-any-return]


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ArgumentError(f"--arch {path}: no such file")
    spec = spec_from_file_location(f"edgerestore_own_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ArgumentError(f"--arch {path}: is no Python file")
    module = module_from_spec(spec)
    # Dataclasses and pickling look their module up by name.
    sys.modules[spec.name] = module
    # The file may import its neighbours.
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConversionError(f"{path}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"--arch {name}: {error}") from error
    except Exception as error:
        raise ConversionError(f"{name}: {type(error).__name__}: {error}") from error
