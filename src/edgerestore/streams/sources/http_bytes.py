"""Bytes of an HTTP answer that FFmpeg reads: so many, at most, for one packet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av

from .connection import ConnectionFailedError

__all__ = ["LARGEST_PACKET_BYTES", "HttpBytes"]

LARGEST_PACKET_BYTES = 128 << 20
"""Bytes of the largest packet: a JPEG of 180 megapixels has fewer."""

_CHUNK_BYTES = 32_768
_TS_PACKET_BYTES = 188
# FFmpeg's HTTP as it is, without a look at what comes.
_BYTES = {"raw_packet_size": str(_CHUNK_BYTES), "analyzeduration": "0", "probesize": "32"}


class HttpBytes:
    """File object over the body of an HTTP answer.

    A part of motion JPEG says how long it is, and FFmpeg makes room for as much as it says. Read
    through here, what it reads before it has a packet is bounded.

    Parameters
    ----------
    url : str
        With its login.
    where : str
        The address, redacted, for messages.
    timeout_s : (float, float)
        To open, and for each read.
    options : dict of str
        FFmpeg's, of the protocol.
    """

    def __init__(
        self, url: str, where: str, timeout_s: tuple[float, float], options: dict[str, str]
    ) -> None:
        self._where = where
        self._container = av.open(
            url,
            format="data",
            timeout=timeout_s,
            options=options | _BYTES,
            metadata_errors="replace",
        )
        self._chunks: Iterator[Any] = self._container.demux()
        self._rest, self._spent_bytes = b"", 0

    def format(self) -> str | None:
        """Return FFmpeg's name of what comes, where it is to be read through here.

        Motion JPEG, and a transport stream, of which a server may take one connection only.
        """
        while len(self._rest) <= _TS_PACKET_BYTES:
            start = self._rest.lstrip(b"\r\n")[:2]
            if start == b"--":
                return "mpjpeg"
            if len(start) == 2 and start[:1] != b"G":
                return None
            chunk = self._next()
            if not chunk:
                return None
            self._rest += chunk
        if self._rest.lstrip(b"\r\n")[:2] == b"--":
            return "mpjpeg"
        return "mpegts" if self._rest[0] == self._rest[_TS_PACKET_BYTES] == ord("G") else None

    def read(self, size: int) -> bytes:
        """Return the next bytes, as many as there are; none at the end.

        Raises
        ------
        ConnectionFailedError
            When a packet is not at its end after `LARGEST_PACKET_BYTES`.
        """
        if not self._rest:
            self._rest = self._next()
        piece, self._rest = self._rest[:size], self._rest[size:]
        self._spent_bytes += len(piece)
        if self._spent_bytes > LARGEST_PACKET_BYTES:
            most = LARGEST_PACKET_BYTES >> 20
            line = f"{self._where}: sends a picture of more than {most} MiB; check the source"
            raise ConnectionFailedError(line, "too large")
        return piece

    def restart(self) -> None:
        """Begin to count anew: a packet is there."""
        self._spent_bytes = 0

    def close(self) -> None:
        """Close the connection."""
        self._container.close()

    def _next(self) -> bytes:
        packet = next(self._chunks, None)
        return bytes(packet) if packet is not None and packet.size else b""
