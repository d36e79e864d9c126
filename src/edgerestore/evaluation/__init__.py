"""How well and how fast models restore pictures whose truth is known; needs no extra.

>>> from edgerestore.evaluation import evaluate, table_text
>>> found = evaluate(["deblur"], targets="photographs", degrade="blur")  # doctest: +SKIP
>>> print(table_text(found))  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluator import evaluate
    from .html_page import html_text
    from .results import Evaluation, ImageScore, Row
    from .texts import csv_text, json_text, table_text

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
    "csv_text": "texts",
    "evaluate": "evaluator",
    "html_text": "html_page",
    "json_text": "texts",
    "table_text": "texts",
}


def __getattr__(name: str) -> Any:
    # Lazy: the command line imports this package to answer --help.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
