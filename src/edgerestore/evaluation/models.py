"""Models under test: opened, named for the tables, and checked to have comparable outputs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..bundle.manifest import OutputPort
from ..engine.load import load
from ..engine.restorer import Restorer
from ..errors import ArgumentError
from .scores import SCORING

__all__ = ["ModelName", "ModelUnderTest", "common_output", "opened"]

logger = logging.getLogger(__name__)

ModelName = str | os.PathLike[str]


@dataclass(frozen=True)
class ModelUnderTest:
    """An opened model at one precision.

    Parameters
    ----------
    name : str
        In tables.
    restorer : Restorer
    """

    name: str
    restorer: Restorer

    @property
    def label(self) -> str:
        """Model and precision in one."""
        return f"{self.name} {self.restorer.precision}"


@contextmanager
def opened(
    models: Sequence[ModelName],
    precisions: Sequence[str],
    *,
    device: str,
    strength: float,
    tta: bool,
    report: Callable[[str], None] | None = None,
) -> Iterator[list[ModelUnderTest]]:
    """Open every model at every precision, so that a wrong one is found before any work.

    Parameters
    ----------
    models : sequence of str or path
    precisions : sequence of str
        Where two come to the same, ``auto`` and what it chooses, the first stays.
    device, strength, tta
        As `load` takes them.
    report : callable, optional
        Called with the line on each model that is logged.

    Raises
    ------
    EdgerestoreError
        As `load`; ArgumentError when there are none.
    """
    if not models or not precisions:
        raise ArgumentError("an evaluation needs a model and a precision")
    names = _names(models)
    found: dict[str, ModelUnderTest] = {}
    with ExitStack() as stack:
        for model, name in zip(models, names, strict=True):
            for precision in precisions:
                # One picture is timed at a time: `live` has the least latency.
                restorer = stack.enter_context(
                    load(
                        model,
                        device=device,
                        precision=precision,
                        strength=strength,
                        tta=tta,
                        live=True,
                        intensity_range="full",
                    )
                )
                opened_model = ModelUnderTest(name, restorer)
                if opened_model.label in found:
                    restorer.close()
                    line = f"{opened_model.label} is in the table already"
                else:
                    found[opened_model.label] = opened_model
                    where = f"{restorer.where} at {restorer.precision}"
                    line = f"{name} on {where}: {restorer.precision_reason}"
                logger.info("%s", line)
                if report is not None:
                    report(line)
        yield list(found.values())


def common_output(models: Sequence[ModelUnderTest]) -> OutputPort:
    """Return the output that all models share.

    Raises
    ------
    ArgumentError
        When they cannot be measured against the same targets.
    """
    first = models[0]
    output = first.restorer.bundle.manifest.output
    traits = output.kind.traits
    if output.kind not in SCORING:
        raise ArgumentError(f"{first.name} {traits.does}, which no metric here compares")
    if not traits.blended and output.channels != 1:
        raise ArgumentError(
            f"{first.name} gives {output.channels} {output.kind}s at once; one is compared"
        )
    for other in models[1:]:
        its = other.restorer.bundle.manifest.output
        if (its.kind, its.upscale) != (output.kind, output.upscale):
            raise ArgumentError(
                f"{first.name} ({output.kind}, x{output.upscale}) and {other.name} ({its.kind},"
                f" x{its.upscale}) have no targets in common; evaluate them one by one"
            )
    return output


def _names(models: Sequence[ModelName]) -> list[str]:
    """Return names for tables: as given, a folder by its last part where that is unique."""
    asked = [os.fspath(model) for model in models]
    short = [Path(text).resolve().name if Path(text).is_dir() else text for text in asked]
    homes: dict[str, set[str]] = {}
    for name, text in zip(short, asked, strict=True):
        homes.setdefault(name, set()).add(text)
    return [
        name if len(homes[name]) == 1 else text for name, text in zip(short, asked, strict=True)
    ]
