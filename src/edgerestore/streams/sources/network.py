"""Video that comes over the network: RTSP, HTTP (MJPEG, HLS, files), MPEG-TS, RTMP, SRT."""

from __future__ import annotations

import base64
from fractions import Fraction
from http import HTTPStatus
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

import av

from .address import Address
from .causes import feed_errors
from .container_feed import ContainerFeed, Timing
from .feed import FeedError

__all__ = ["open_network"]

# How much of a stream FFmpeg looks at before it gives its first packet. Its own 5 s and 5 MB
# are for files; pictures of any size and rate are found in less.
_LOOK_AT = {"analyzeduration": "1500000", "probesize": "1000000", "fpsprobesize": "3"}

# Not set: `fflags=nobuffer`. It throws away what was looked at, the first key frame with it,
# and so trades a start within a second for one within a key frame's interval; what it saves,
# a live source drops by itself.
_BY_SCHEME: dict[str, dict[str, str]] = {
    "rtsp": {"allowed_media_types": "video", "max_delay": "500000"},
    "rtsps": {"allowed_media_types": "video", "max_delay": "500000"},
    "udp": {"overrun_nonfatal": "1", "fifo_size": "50000", "buffer_size": "4194304"},
    "rtmp": {"rtmp_live": "live"},
}

_PAGE_STARTS = (b"<!doctype html", b"<html")


def open_network(
    address: Address,
    *,
    transport: str = "tcp",
    open_timeout_s: float = 10.0,
    read_timeout_s: float = 10.0,
    rate: Fraction | None = None,
    threads: int = 1,
    paced: bool = True,
    settings: dict[str, str] | None = None,
) -> ContainerFeed:
    """Connect to a stream on the network.

    Waits for the connection, and for enough of the stream to know what it is.

    Parameters
    ----------
    address : Address
    transport : str
        ``tcp`` or ``udp``: what RTSP brings its packets by. By UDP what is lost stays lost.
    open_timeout_s, read_timeout_s : float
        To connect, and again to find video; for each packet.
    rate : Fraction or None
        Frames per second, where the stream does not say or is wrong.
    threads : int
        Threads that decode.
    paced : bool
        Hand out what comes in bursts (a file, the segments of HLS) in real time.
    settings : dict or None
        Further options of FFmpeg's, by its names.

    Returns
    -------
    ContainerFeed

    Raises
    ------
    FeedError
        When it does not answer, refuses, or sends no video; permanent where trying again is
        of no use.
    """
    where = str(address)
    container = _connect(address, where, transport, (open_timeout_s, read_timeout_s), settings)
    over_http = address.scheme in ("http", "https")
    finite = over_http and (container.duration or 0) > 0
    bursts = finite or "hls" in container.format.name
    try:
        return ContainerFeed(
            container,
            where,
            finite=finite,
            timing=Timing(container, paced=paced and bursts),
            rate=rate,
            threads=threads,
        )
    except FeedError as error:
        if over_http:
            raise FeedError(str(error), error.cause, permanent=True) from error
        raise


def _connect(
    address: Address,
    where: str,
    transport: str,
    timeouts_s: tuple[float, float],
    settings: dict[str, str] | None,
) -> av.container.InputContainer:
    options = _LOOK_AT | _BY_SCHEME.get(address.scheme, {})
    if address.scheme.startswith("rtsp"):
        options["rtsp_transport"] = transport
    try:
        with feed_errors(where):
            return av.open(
                address.text,
                timeout=timeouts_s,
                options=options | (settings or {}),
                metadata_errors="replace",
            )
    except FeedError as error:
        raise _explained(error, address, where, timeouts_s[0]) from error.__cause__


def _explained(error: FeedError, address: Address, where: str, timeout_s: float) -> FeedError:
    """Return an error with what only a second look can tell."""
    if error.cause == "unknown protocol":
        line = (
            f"{where}: the installed PyAV cannot read {address.scheme}://; use rtsp:// or http://"
        )
        return FeedError(line, error.cause, permanent=True)
    over_http = address.scheme in ("http", "https")
    if error.cause == "no video" and over_http and _is_page(address, timeout_s):
        line = f"{where}: answers with a web page, not a stream; give the stream's own address"
        return FeedError(line, "web page", permanent=True)
    return error


def _is_page(address: Address, timeout_s: float) -> bool:
    """Return whether an address answers with HTML."""
    login, _, host = urlsplit(address.text).netloc.rpartition("@")
    request = Request(urlsplit(address.text)._replace(netloc=host, fragment="").geturl())  # noqa: S310 - http or https, by the caller
    try:
        try:
            return _answers_page(request, timeout_s)
        except HTTPError as error:
            wanted = error.headers.get("WWW-Authenticate", "")
            error.close()
            if not (login and error.code == HTTPStatus.UNAUTHORIZED and wanted.startswith("Basic")):
                return False
            # As FFmpeg does: only where it is asked for, and not where that points on to.
            token = base64.b64encode(unquote(login).encode()).decode("ascii")
            request.add_unredirected_header("Authorization", f"Basic {token}")
            return _answers_page(request, timeout_s)
    except HTTPError as error:
        error.close()
        return False
    except (URLError, OSError, ValueError):
        return False


def _answers_page(request: Request, timeout_s: float) -> bool:
    with urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 - http or https, by the caller
        kind = answer.headers.get_content_type()
        start = answer.read(64)
    pages = ("text/html", "application/xhtml+xml")
    return kind in pages or start.lstrip().lower().startswith(_PAGE_STARTS)
