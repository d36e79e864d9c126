"""Guard of the photo server: requests of other sites are refused, answers carry a policy."""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .address import is_local_name
from .answers import error_response

__all__ = ["POLICY", "SiteGuard"]

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy of every answer."""

_SAFE = ("GET", "HEAD", "OPTIONS")
_FIELDS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SiteGuard:
    """ASGI middleware against cross-site requests and DNS rebinding.

    A request for a host that is not this server's is 421. One that changes something and
    comes from another origin, or from one that hides itself (``Origin: null``), is 403;
    programs that send no ``Origin`` are let through, since no browser is behind them.

    Parameters
    ----------
    app : ASGI application
    hosts : callable
        Returns names, besides this machine's own, under which it is served.
    """

    def __init__(self, app: ASGIApp, hosts: Callable[[], Collection[str]]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on with the policy's fields added to the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, text in _FIELDS.items():
                    headers.setdefault(name, text)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if refusal := self._refusal(scope["method"], Headers(scope=scope)):
            await error_response(*refusal)(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _refusal(self, method: str, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if not is_local_name(name) and name not in self._hosts():
            return 421, f"this server is not {_printable(name)}; add it to hosts in its settings"
        if method in _SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and (origin == "null" or urlsplit(origin).netloc != host):
            return 403, "a page of another site may not do that"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "a page of another site may not do that"
        return None


def _printable(name: str) -> str:
    """Return a host's name as it may be repeated in an answer."""
    return "".join(one for one in name[:80] if one.isalnum() or one in ".-:") or "named"
