"""Evaluation: quality and speed of models on pictures with ground truth.

Needs no extra, but for `html_text`.

>>> from edgerestore.evaluation import evaluate, table_text
>>> found = evaluate(["deblur"], targets="photographs", degrade="blur")  # doctest: +SKIP
>>> print(table_text(found))  # doctest: +SKIP
"""

from __future__ import annotations

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
