"""The commands put together, and the one place where an error becomes an exit code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from traceback import walk_tb
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from .._version import __version__
from ..errors import EdgerestoreError, printable
from .card import card_command
from .convert import convert_command
from .dataset import dataset_command
from .evaluate import evaluate_command
from .inspect import devices_command, info_command, models_command
from .quantize import quantize_command
from .run import run_command
from .search import search_command
from .serve import serve_command
from .stitch import stitch_command
from .train import train_command

__all__ = ["PanelCommand", "app", "run_command_line"]

INTERRUPTED = 130


class PanelCommand(TyperCommand):
    """Command whose help groups options by their ``rich_help_panel``.

    In plain text: rich would cost a third of the time that ``--help`` is allowed.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section of options for each panel, in the order they are declared."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx)
            if row is not None:
                name = getattr(parameter, "rich_help_panel", None)
                if parameter.param_type_name == "argument":
                    name = "Arguments"
                panels.setdefault(name or "Options", []).append(row)
        for name, rows in panels.items():
            with formatter.section(name):
                formatter.write_dl(rows)


app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Restore images and video on edge machines.",
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": run_command,
    "convert": convert_command,
    "stitch": stitch_command,
    "serve": serve_command,
    "quantize": quantize_command,
    "train": train_command,
    "search": search_command,
    "evaluate": evaluate_command,
    "dataset": dataset_command,
    "card": card_command,
    "info": info_command,
    "models": models_command,
    "devices": devices_command,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, cls=PanelCommand)(_command)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks; anywhere.")] = False,  # noqa: ARG001 - taken out before
) -> None:
    if version:
        typer.echo(f"edgerestore {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


def run_command_line(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    What the package logs from `logging.INFO` on is printed on standard error, one line each. An
    `EdgerestoreError` is one line on standard error and its class's code; anything
    else is a defect and shows its traceback.
    """
    arguments = list(arguments)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in own
    if debug:
        arguments = [one for one in own if one != "--debug"] + arguments[len(own) :]
    if sys.stderr is None:  # closed by the caller: print would use standard output instead
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    try:
        with _log_on_stderr():
            code = app(args=arguments, standalone_mode=False)
        return int(code or 0)
    except EdgerestoreError as error:
        if debug:
            raise
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if not _comes_from_stdout(error):
            raise
        return _unwritten(error)
    except Exception as error:
        # Typer's own: a wrong option or a missing argument, already one line.
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):
            return _fail(error.format_message(), error.exit_code)
        raise


def _comes_from_stdout(error: OSError) -> bool:
    """Return whether it is standard output that failed, where `typer.echo` printed on it."""
    *_, (innermost, _) = walk_tb(error.__traceback__)
    return isinstance(error, BrokenPipeError) or innermost.f_code.co_name == typer.echo.__name__


def _unwritten(error: OSError) -> int:
    """Return the exit code where standard output takes nothing; tell why if somebody is left."""
    if not isinstance(error, BrokenPipeError):
        return _fail(f"standard output cannot be written: {error.strerror}", 1)
    sys.stderr.close()  # whoever read our output has gone
    return 1


def _fail(message: str, code: int) -> int:
    line = " ".join(printable(message).split())
    print(f"edgerestore: {line}", file=sys.stderr)  # noqa: T201
    return code


@contextlib.contextmanager
def _log_on_stderr() -> Iterator[None]:
    """Print what the package logs; a command may raise the level of the package's logger."""
    package, handler = logging.getLogger("edgerestore"), _StderrHandler()
    handler.setFormatter(logging.Formatter("edgerestore: %(message)s"))
    level = package.level
    package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)


class _StderrHandler(logging.Handler):
    """Prints on whatever is standard error by then: a progress bar puts itself below."""

    def emit(self, record: logging.LogRecord) -> None:
        from ..streams.progress import tell  # only where something is told

        tell(self.format(record), sys.stderr)
