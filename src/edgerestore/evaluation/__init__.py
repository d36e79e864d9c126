"""Evaluation: quality and speed of models on pictures with ground truth.

Needs no extra, but for `html_text`.

>>> from edgerestore.evaluation import evaluate, table_text
>>> found = evaluate(["deblur"], targets="photographs", degrade="blur")  # doctest: +SKIP
>>> print(table_text(found))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluator import evaluate
    from .report import csv_text, html_text, json_text, table_text
    from .results import Evaluation, ImageScore, Row

__all__ = [
    "Evaluation",
    "ImageScore",
    "Row",
    "csv_text",
    "evaluate",
    "html_text",
    "json_text",
    "table_text",
]

_HOMES = {
    "Evaluation": "results",
    "ImageScore": "results",
    "Row": "results",
    "evaluate": "evaluator",
}


def __getattr__(name: str) -> Any:
    # Lazy: the command line imports this package to answer --help.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES.get(name, 'report')}", __name__), name)
