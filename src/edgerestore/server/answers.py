"""Answers of the HTTP servers: their header fields, JSON, and errors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from email.utils import formatdate

from starlette.responses import Response

__all__ = ["error_response", "head_fields", "json_response"]


def json_response(value: object, status: int = 200) -> Response:
    """Return a value as JSON on one line."""
    body = json.dumps(value, default=str).encode() + b"\n"
    return Response(body, status, media_type="application/json")


def head_fields(own: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the header fields of an answer, those that every answer has first."""
    return [
        (b"Server", b"edgerestore"),  # without a version, which names known bugs
        (b"Date", formatdate(usegmt=True).encode()),
        (b"Connection", b"close"),
        (b"Cache-Control", b"no-store"),
        (b"X-Content-Type-Options", b"nosniff"),
        # Pages of other sites cannot embed it.
        (b"Cross-Origin-Resource-Policy", b"same-site"),
        *((name.title(), text) for name, text in own),
    ]


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as JSON on one line."""
    answer = json_response({"error": message}, status)
    answer.headers.update(headers or {})
    return answer
