"""Servers on the loopback (MJPEG, MPEG-TS, RTSP) that can die, fall silent and send rubbish."""

from __future__ import annotations

import base64
import contextlib
import io
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

RATE = 25
LOGIN = "anna", "geheim"


class Loopback:
    """Serves each connection on a thread of its own; subclass it and give `serve`.

    Attributes
    ----------
    mode : str
        ``run``; ``silent`` keeps connections and sends nothing; the rest is the subclass's.
    """

    def __init__(self, **settings: Any) -> None:
        self.port = 0
        self.mode = "run"
        self.size = (64, 48)
        self.login = False
        self.connections = 0
        self.__dict__.update(settings)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.start()

    def start(self) -> None:
        """Begin to listen; on the same port as before."""
        self._stop.clear()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen()
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept)

    def stop(self) -> None:
        """Die, and every connection with it; returns when nothing is left."""
        self._stop.set()
        with self._lock:
            for one in [self._listener, *self._open]:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._threads.clear()
        self._listener.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def serve(self, connection: socket.socket) -> None:
        raise NotImplementedError

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def pause(self, seconds: float = 1 / RATE) -> None:
        """Wait for the next frame, or as long as silence is asked for."""
        self._stop.wait(seconds)
        while self.mode == "silent" and not self._stop.wait(0.01):
            pass

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, name="server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
                self.connections += 1
            if self._stop.is_set():
                connection.close()
                return
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        try:
            with connection:
                self.serve(connection)
        except OSError:
            pass
        with self._lock:
            self._open.discard(connection)


def read_request(connection: socket.socket) -> str:
    """Read one request of HTTP or RTSP; empty when nobody asks any more."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        piece = connection.recv(4096)
        if not piece:
            return ""
        got += piece
    return got.decode()


def admitted(request: str) -> bool:
    token = base64.b64encode(":".join(LOGIN).encode()).decode()
    return f"Authorization: Basic {token}" in request


def picture(index: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A smooth picture that moves."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    red, green = np.sin(x / 17 + index / 5), np.sin(y / 13 - index / 7)
    levels = np.rint(128 + 90 * np.stack([red, green, red * green], -1))
    image: NDArray[np.uint8] = levels.astype(np.uint8)
    return image


def jpeg(index: int, size: tuple[int, int]) -> bytes:
    good, data = cv2.imencode(".jpg", picture(index, size)[..., ::-1])
    assert good
    return data.tobytes()


class HttpServer(Loopback):
    """MJPEG under ``/mjpeg``, the files of ``folder`` under their names, pages elsewhere."""

    folder: Path | None = None
    broken: frozenset[int] = frozenset()
    """Pictures that are cut off."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mjpeg"

    def serve(self, connection: socket.socket) -> None:
        request = read_request(connection)
        path = request.split(" ")[1].partition("?")[0] if request else "/"
        if self.login and not admitted(request):
            head = 'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n'
            connection.sendall(f"{head}Connection: close\r\nContent-Length: 0\r\n\r\n".encode())
        elif path == "/mjpeg" and self.mode != "page":
            self._mjpeg(connection)
        elif self.folder is not None and (self.folder / path[1:]).is_file():
            self._file(connection, (self.folder / path[1:]).read_bytes(), request)
        else:
            page = b"<!DOCTYPE html><html><body>Log in, please</body></html>"
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(page)}"
            connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + page)

    def _file(self, connection: socket.socket, data: bytes, request: str) -> None:
        first = 0
        for line in request.splitlines():
            if line.lower().startswith("range: bytes="):
                first = int(line.partition("=")[2].partition("-")[0])
        status = "206 Partial Content" if first else "200 OK"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Length: {len(data) - first}\r\n"
            f"Content-Range: bytes {first}-{len(data) - 1}/{len(data)}\r\n"
            "Accept-Ranges: bytes\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + data[first:])

    def _mjpeg(self, connection: socket.socket) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=cut\r\n\r\n"
        )
        index = 0
        if self.mode == "endless":
            head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {2**31 - 1}\r\n\r\n"
            connection.sendall(head.encode() + jpeg(0, self.size))
            while not self.stopped:
                connection.sendall(bytes(1 << 20))
        while not self.stopped:
            self.pause()
            data = jpeg(index, self.size)
            if index in self.broken:
                data = data[: len(data) // 2]
            if self.mode == "garbage":
                connection.sendall(bytes(range(256)) * 8)
            head = f"--cut\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            connection.sendall(head.encode() + data + b"\r\n")
            index += 1


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
    slices = 1
    """Of a picture; the parameter sets stand before each of a key picture."""

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
        encoder.options = {
            "tune": "zerolatency",
            "preset": "ultrafast",
            "g": "5",
            "threads": "1",
            "x264-params": f"slices={self.slices}",
        }
        index = number = 0
        while not self.stopped:
            self.pause()
            if select.select([connection], [], [], 0)[0] and not connection.recv(4096):
                return
            frame = av.VideoFrame.from_ndarray(picture(index, self.size), format="rgb24")
            frame.pts = index
            units = [unit for packet in encoder.encode(frame) for unit in nal_units(bytes(packet))]
            sets = [unit for unit in units if unit[0] & 31 in (7, 8)]
            keys = [place for place, unit in enumerate(units) if unit[0] & 31 == 5]
            for place in reversed(keys[1:]):
                units[place:place] = sets
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


def wait_for(condition: Any, seconds: float = 5.0) -> float:
    """Wait until something holds; return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "waited too long"
        time.sleep(0.005)
    return time.monotonic() - began
