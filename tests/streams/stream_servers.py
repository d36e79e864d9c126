"""Servers of H.264 on the loopback: MPEG-TS by TCP and UDP, and RTSP."""

from __future__ import annotations

import contextlib
import io
import select
import socket
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import av

from .servers import RATE, Loopback, admitted, picture, read_request


def ts_chunks(size: tuple[int, int]) -> Iterator[bytes]:
    """Encode H.264 in MPEG-TS for ever, a frame at a time."""
    buffer = io.BytesIO()
    container = av.open(buffer, "w", format="mpegts")
    stream: Any = container.add_stream(
        "libx264",
        rate=RATE,
        options={"tune": "zerolatency", "preset": "ultrafast", "g": "5", "threads": "1"},
    )
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    index = 0
    try:
        while True:
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
            index += 1
    finally:
        container.close()


class TsServer(Loopback):
    """MPEG-TS to whoever connects by TCP."""

    damage = 0
    """Of so many chunks, one is overwritten in its middle."""

    @property
    def url(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        for index, chunk in enumerate(ts_chunks(self.size)):
            self.pause()
            if self.stopped:
                return
            if self.damage and index % self.damage == self.damage - 1:
                middle = len(chunk) // 2
                chunk = chunk[:middle] + bytes(len(chunk) - middle)
            connection.sendall(chunk)


class UdpSender(Loopback):
    """MPEG-TS to a UDP port, whether or not somebody listens; ``port`` is the receiver's."""

    @property
    def url(self) -> str:
        return f"udp://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._stop.clear()
        if not self.port:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._spawn(self._send)

    def _send(self) -> None:
        for chunk in ts_chunks(self.size):
            self.pause()
            if self.stopped:
                return
            for start in range(0, len(chunk), 1316):
                with contextlib.suppress(OSError):  # nobody listens, or it is being stopped
                    self._listener.sendto(chunk[start : start + 1316], ("127.0.0.1", self.port))


class RtspServer(Loopback):
    """H.264 by RTSP, as RTP in the connection or by UDP; no more than FFmpeg asks for."""

    by_udp = 0
    """Connections whose RTP went by UDP."""

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/live"

    def serve(self, connection: socket.socket) -> None:
        port = ""
        while request := read_request(connection):
            method = request.split(" ")[0]
            if self.login and method != "OPTIONS" and not admitted(request):
                self._answer(
                    connection, request, "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"'
                )
            elif method == "DESCRIBE":
                sdp = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
                    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"
                    "a=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
                )
                self._answer(connection, request, "200 OK", "Content-Type: application/sdp", sdp)
            elif method == "SETUP":
                asked = next(line for line in request.splitlines() if "Transport:" in line)
                port = asked.partition("client_port=")[2].partition("-")[0]
                transport = f"{asked};server_port=6000-6001" if port else asked
                self._answer(connection, request, "200 OK", transport)
            elif method == "PLAY":
                self._answer(connection, request, "200 OK")
                self._play(connection, int(port or 0))
            else:
                self._answer(connection, request, "200 OK")

    def _answer(
        self, connection: socket.socket, request: str, status: str, head: str = "", body: str = ""
    ) -> None:
        number = next(line for line in request.splitlines() if line.startswith("CSeq"))
        lines = [f"RTSP/1.0 {status}", number, "Public: DESCRIBE, SETUP, PLAY", "Session: 1"]
        lines += [head] if head else []
        lines += [f"Content-Length: {len(body)}", "", body]
        connection.sendall("\r\n".join(lines).encode())

    def _play(self, connection: socket.socket, port: int) -> None:
        if not port:
            self._send(
                connection,
                lambda packet: connection.sendall(
                    b"$\x00" + len(packet).to_bytes(2, "big") + packet
                ),
            )
            return
        self.by_udp += 1
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            self._send(connection, lambda packet: sender.sendto(packet, ("127.0.0.1", port)))

    def _send(self, connection: socket.socket, send: Callable[[bytes], object]) -> None:
        encoder: Any = av.CodecContext.create("libx264", "w")
        encoder.width, encoder.height = self.size
        encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, RATE)
        encoder.framerate = Fraction(RATE)
        encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "5", "threads": "1"}
        index = number = 0
        while not self.stopped:
            self.pause()
            if select.select([connection], [], [], 0)[0] and not connection.recv(4096):
                return
            frame = av.VideoFrame.from_ndarray(picture(index, self.size), format="rgb24")
            frame.pts = index
            units = [unit for packet in encoder.encode(frame) for unit in nal_units(bytes(packet))]
            for place, unit in enumerate(units):
                last = place == len(units) - 1
                head = bytes([0x80, 96 | last << 7]) + number.to_bytes(2, "big")
                head += (index * 90_000 // RATE).to_bytes(4, "big") + b"\x00\x00\x00\x07"
                send(head + unit)
                number = (number + 1) % 65_536
            index += 1


def nal_units(stream: bytes) -> list[bytes]:
    """Take an Annex B stream apart."""
    return [part.rstrip(b"\x00") for part in stream.split(b"\x00\x00\x01") if part.rstrip(b"\x00")]
